// Qwen 2 and 3.
import type { LlamaConfig } from '../../models/llama.js';
import {
  activationKeys,
  decoderKeys,
  NO_DIVISORS,
  NO_OUTPUT_BIAS,
  type Raw,
  ropeKeys,
  SILU,
  type Written,
} from './written.js';

/** What decoders with silu and rotations of all layers alike say. */
function decoder(architecture: string, c: LlamaConfig, raw: Raw, standardLength: number): Written {
  const rope = ropeKeys(c.attention, raw);
  const act = activationKeys(c.activation, SILU, raw);
  return {
    architecture,
    layers: c.nLayers,
    keys: decoderKeys(c, raw, rope, standardLength),
    config: {},
    beyond: { ...rope.beyond, ...act.beyond },
    notes: [...rope.notes, ...act.notes, ...(rope.ropeDivisors ? [NO_DIVISORS] : [])],
    ropeDivisors: rope.ropeDivisors,
  };
}

function qwen(architecture: 'qwen2' | 'qwen3', c: LlamaConfig, raw: Raw): Written {
  const whole = decoder(architecture, c, raw, 32768);
  const plain = c.attention.outBias ? { ...whole, notes: [...whole.notes, NO_OUTPUT_BIAS] } : whole;
  const first = c.kinds?.indexOf('sliding_attention') ?? -1;
  if (first < 0) return plain;
  const { window } = c.attentionOf!(first);
  return {
    ...plain,
    beyond: { ...plain.beyond, use_sliding_window: true, sliding_window: window, layer_types: c.kinds },
    notes: [...plain.notes, `it attends beyond the model's window of ${window} tokens`],
  };
}

export const qwen2 = (c: LlamaConfig, raw: Raw): Written => qwen('qwen2', c, raw);
export const qwen3 = (c: LlamaConfig, raw: Raw): Written => qwen('qwen3', c, raw);
