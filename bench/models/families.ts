/** Architectures at comparable size: their configurations from common dimensions, and how their costs grow. */
import type { Library } from '../library.js';
import {
  type Dimensions,
  FEATURES,
  gatedDeltaNet,
  gla,
  griffin,
  hyena,
  jamba,
  kimiLinear,
  lfm2,
  llama,
  mamba,
  mamba2,
  mamba3,
  qwen35,
  type Ratio,
  retnet,
  rwkv,
  rwkv4,
  s4d,
} from './configs.js';

export type { Dimensions, Ratio } from './configs.js';

export interface Family {
  /** What --families takes; the model_type that must be supported. */
  name: string;
  modelType: string;
  label: string;
  kind: 'attention' | 'scan' | 'hybrid' | 'convolution';
  /** Networks over float rows instead of tokens: their width. */
  features?: number;
  /** Fewest layers that show what the family is: one period of a hybrid. Default 1. */
  leastLayers?: number;
  /** Order of the cost of N tokens, of one token after N, and of what is remembered after N. */
  prefill: string;
  decode: string;
  memory: string;
  config(d: Dimensions, layers: number): Record<string, unknown>;
}

const LINEAR = { prefill: 'O(N)', decode: 'O(1)', memory: 'O(1)' };
const QUADRATIC = { prefill: 'O(N²)', decode: 'O(N)', memory: 'O(N)' };
const CONVOLUTION = { prefill: 'O(N²/T·log T)', decode: 'O(N)', memory: 'O(N)' }; // chunks of T tokens

export const FAMILIES: readonly Family[] = [
  { name: 'llama', modelType: 'llama', label: 'Transformer (Llama)', kind: 'attention', ...QUADRATIC, config: llama },
  { name: 'mamba', modelType: 'mamba', label: 'Mamba', kind: 'scan', ...LINEAR, config: mamba },
  { name: 'mamba2', modelType: 'mamba2', label: 'Mamba-2', kind: 'scan', ...LINEAR, config: mamba2 },
  {
    name: 'jamba',
    modelType: 'jamba',
    label: 'Hybrid (Jamba, 1:7)',
    kind: 'hybrid',
    ...QUADRATIC,
    config: (d, layers) => jamba(d, layers, { attention: 1, mamba: 7 }),
  },
  { name: 'mamba3', modelType: 'mamba_ssm', label: 'Mamba-3', kind: 'scan', ...LINEAR, config: mamba3() },
  { name: 'mamba3-mimo', modelType: 'mamba_ssm', label: 'Mamba-3, MIMO', kind: 'scan', ...LINEAR, config: mamba3(4) },
  { name: 'gdn', modelType: 'gated_deltanet', label: 'Gated DeltaNet', kind: 'scan', ...LINEAR, config: gatedDeltaNet },
  { name: 'gla', modelType: 'gla', label: 'Gated linear attention', kind: 'scan', ...LINEAR, config: gla },
  {
    name: 'kimi',
    modelType: 'kimi_linear',
    label: 'Kimi Linear, 1:3',
    kind: 'hybrid',
    leastLayers: 4,
    ...QUADRATIC,
    config: kimiLinear,
  },
  {
    name: 'qwen3.5',
    modelType: 'qwen3_5_text',
    label: 'Qwen3.5, 1:3',
    kind: 'hybrid',
    leastLayers: 4,
    ...QUADRATIC,
    config: qwen35,
  },
  { name: 'lfm2', modelType: 'lfm2', label: 'LFM2, 1:2', kind: 'hybrid', leastLayers: 3, ...QUADRATIC, config: lfm2 },
  {
    name: 'griffin',
    modelType: 'recurrent_gemma',
    label: 'Griffin (window of 2048)',
    kind: 'hybrid',
    leastLayers: 3,
    ...LINEAR,
    config: griffin,
  },
  { name: 'rwkv4', modelType: 'rwkv', label: 'RWKV-4', kind: 'scan', ...LINEAR, config: rwkv4 },
  { name: 'rwkv5', modelType: 'rwkv5', label: 'RWKV-5', kind: 'scan', ...LINEAR, config: rwkv(5) },
  { name: 'rwkv6', modelType: 'rwkv6', label: 'RWKV-6', kind: 'scan', ...LINEAR, config: rwkv(6) },
  { name: 'rwkv7', modelType: 'rwkv7', label: 'RWKV-7', kind: 'scan', ...LINEAR, config: rwkv(7) },
  { name: 'retnet', modelType: 'retnet_torchscale', label: 'RetNet', kind: 'scan', ...LINEAR, config: retnet },
  { name: 'hyena', modelType: 'hyena', label: 'Hyena', kind: 'convolution', ...CONVOLUTION, config: hyena },
  {
    name: 's4d',
    modelType: 's4d_example',
    label: 'S4D (float rows)',
    kind: 'scan',
    features: FEATURES,
    ...LINEAR,
    config: s4d,
  },
];

/** A hybrid with this ratio; Jamba's configuration places one attention layer per period, so 1:m, m:0 and 0:m. */
export function hybrid(ratio: Ratio): Family {
  const pure = ratio.attention === 0 ? 'scan' : ratio.mamba === 0 ? 'attention' : 'hybrid';
  return {
    name: `${ratio.attention}:${ratio.mamba}`,
    modelType: 'jamba',
    label: `attention:Mamba ${ratio.attention}:${ratio.mamba}`,
    kind: pure,
    ...(pure === 'scan' ? LINEAR : QUADRATIC),
    leastLayers: pure === 'hybrid' ? 1 + ratio.mamba / ratio.attention : 1,
    config: (d, layers) => jamba(d, layers, ratio),
  };
}

/** Whether a Jamba configuration can express it. */
export function expressible({ attention, mamba }: Ratio): boolean {
  return attention === 0 || mamba % attention === 0;
}

export interface Sized {
  family: Family;
  config: Record<string, unknown>;
  layers: number;
  parameters: number;
  flopsPerToken(context: number): number;
}

/** Every family that the library has, sized; and why the others cannot have these dimensions. */
export function sizedAll(
  library: Library,
  families: readonly Family[],
  d: Dimensions,
  parameters: number,
): { models: Sized[]; leftOut: { label: string; reason: string }[] } {
  const models: Sized[] = [];
  const leftOut: { label: string; reason: string }[] = [];
  for (const family of families) {
    try {
      models.push(sized(library, family, d, parameters));
    } catch (error) {
      if (!(error instanceof library.StatespaceError)) throw error;
      leftOut.push({ label: family.label, reason: error.message });
    }
  }
  return { models, leftOut };
}

/** As many layers as bring the family nearest to the number of parameters, at the given width. */
export function sized(library: Library, family: Family, d: Dimensions, parameters: number): Sized {
  const count = (layers: number) => library.describeModel(family.config(d, layers)).parameters.total;
  // Linear in the layers but for the pattern of a hybrid: two points of one long period tell the slope.
  const [few, many] = [count(24), count(48)];
  const perLayer = (many - few) / 24;
  const guess = Math.round((parameters - few) / perLayer) + 24;
  const candidates = [guess - 1, guess, guess + 1].filter((layers) => layers >= 1);
  if (candidates.length === 0) candidates.push(1);
  const layers = candidates.reduce((best, n) =>
    Math.abs(count(n) - parameters) < Math.abs(count(best) - parameters) ? n : best,
  );
  const { leastLayers = 1 } = family;
  if (layers < leastLayers) {
    throw new library.StatespaceError(
      'ERR_ARGUMENT',
      `${parameters} parameters are ${layers} layers at this width and vocabulary, it needs ${leastLayers}`,
    );
  }
  const config = family.config(d, layers);
  const described = library.describeModel(config);
  return {
    family,
    layers,
    config,
    parameters: described.parameters.total,
    flopsPerToken: (context) => described.flopsPerToken(context),
  };
}
