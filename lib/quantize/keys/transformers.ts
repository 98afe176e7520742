// Qwen 2 and 3, Phi-3, OLMo 2.
import { rotaryShare } from '../../checkpoint/gguf/architectures/transformers.js';
import { f32, u32 } from '../../checkpoint/gguf/pairs.js';
import type { AttentionLayerOptions } from '../../layers/attention.js';
import type { LlamaConfig } from '../../models/llama.js';
import { ropeFrequencies } from '../../rope-frequencies.js';
import {
  activationKeys,
  decoderKeys,
  NO_DIVISORS,
  outBiasNotes,
  type Raw,
  type RopeWritten,
  ropeKeys,
  SILU,
  type Written,
} from './written.js';

/** What decoders with silu and rotations of all layers alike say. */
function decoder(
  architecture: string,
  c: LlamaConfig,
  raw: Raw,
  standardLength: number,
  rope = ropeKeys(c.attention, raw),
): Written {
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
  const plain = { ...whole, notes: [...whole.notes, ...outBiasNotes(c)] };
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

/** llama.cpp takes heads to share the model's width. */
const headNotes = ({ attention: a, dModel }: LlamaConfig): string[] =>
  a.nHeads * a.headDim === dModel
    ? []
    : [`it refuses the file: it takes heads of ${dModel / a.nHeads} channels, the model has ${a.headDim}`];

/** Base and factors of rotations that go by length, as Phi-3 has them; those of any other type as everywhere. */
function phi3Rope(a: AttentionLayerOptions, raw: Raw): RopeWritten & Pick<Written, 'vectors'> {
  const { theta, rotaryDim = a.headDim, scaling } = a.rope!;
  if (scaling?.type !== 'longrope') return ropeKeys(a, raw);
  const factors = (key: string) => Float32Array.from(scaling[key] as number[]);
  return {
    keys: {
      'rope.freq_base': f32(theta),
      'rope.scaling.original_context_length': u32(scaling.original_max_position_embeddings as number),
      'rope.scaling.attn_factor': f32(ropeFrequencies({ theta, rotaryDim, scaling }).scale),
    },
    beyond: {},
    notes: [],
    vectors: {
      'rope_factors_long.weight': factors('long_factor'),
      'rope_factors_short.weight': factors('short_factor'),
    },
  };
}

export function phi3(c: LlamaConfig, raw: Raw): Written {
  const { attention: a } = c;
  const rope = phi3Rope(a, raw);
  const rotaryDim = a.rope!.rotaryDim ?? a.headDim;
  const plain = decoder('phi3', c, raw, 4096, rope);
  const { rope_parameters: said } = rope.beyond;
  const seen = a.window === undefined || a.window >= (plain.keys.context_length!.value as number);
  return {
    ...plain,
    keys: {
      ...plain.keys,
      'rope.dimension_count': u32(rotaryDim),
      'attention.sliding_window': u32(a.window ?? 0),
    },
    beyond: {
      ...plain.beyond,
      ...(said !== undefined && {
        rope_parameters: { partial_rotary_factor: rotaryShare(rotaryDim, a.headDim), ...(said as object) },
      }),
    },
    notes: [
      ...plain.notes,
      ...headNotes(c),
      ...(seen ? [] : [`it attends beyond the model's window of ${a.window} tokens`]),
    ],
    vectors: rope.vectors,
  };
}

export function olmo2(c: LlamaConfig, raw: Raw): Written {
  const plain = decoder('olmo2', c, raw, 2048);
  // llama.cpp asks for a head.
  return { ...plain, notes: [...plain.notes, ...headNotes(c), ...outBiasNotes(c)], untied: c.tied };
}
