import type { Activation } from '../layers/linear.js';
import type { ConfigReader } from './config.js';

/** What Hugging Face transformers calls the pointwise functions. */
const NAMES = {
  silu: 'silu',
  swish: 'silu',
  gelu: 'gelu',
  gelu_python: 'gelu',
  gelu_new: 'gelu-tanh',
  gelu_fast: 'gelu-tanh',
  gelu_accurate: 'gelu-tanh',
  gelu_pytorch_tanh: 'gelu-tanh',
  relu: 'relu',
  relu2: 'relu2',
  sigmoid: 'sigmoid',
  tanh: 'tanh',
  linear: 'none',
} as const satisfies Record<string, Activation>;

/** A key of the config that names an activation. */
export function activationOf(c: ConfigReader, key: string, standard: keyof typeof NAMES): Activation {
  return NAMES[c.oneOf(key, Object.keys(NAMES) as (keyof typeof NAMES)[], standard)];
}

/** The config's hidden_act, by whichever of its names; silu where it is missing. */
export const readActivation = (c: ConfigReader): Activation => activationOf(c, 'hidden_act', 'silu');

/** hidden_act where the mixer or the experts have silu built in. */
export function onlySilu(c: ConfigReader): void {
  c.oneOf('hidden_act', ['silu', 'swish'], 'silu');
}
