// Qwen 2 and 3, Phi-3, OLMo 2: a file has the rows of their queries and keys in Hugging Face's order.
import { readTensorF32 } from '../../read.js';
import { checkpointError } from '../../stored.js';
import { type Architecture, type Config, type Pairing, pair, type Tensors, withBias } from '../architecture.js';
import type { ArchitectureKeys } from '../keys.js';
import { hybridHeads } from './granite.js';
import { ropeParameters } from './llama.js';
import { ends, layerNumbers } from './mamba.js';

/** Keys that plain Transformers have in common; positions are each one's own. */
export function decoderConfig(keys: ArchitectureKeys, tensors: Tensors): Config {
  return {
    ...hybridHeads(keys).config,
    intermediate_size: keys.count('feed_forward_length'),
    rms_norm_eps: keys.number('attention.layer_norm_rms_epsilon'),
    tie_word_embeddings: !tensors.has('output.weight'),
  };
}

export const hasBias = (tensors: Tensors): boolean => tensors.has('blk.0.attn_q.bias');

/** Queries, keys, values and output, their rows as they are. */
export function attentionOf(blk: string, hf: string): Pairing[] {
  return [
    ...['q', 'k', 'v'].flatMap((x) => withBias(`${blk}.attn_${x}`, `${hf}.${x}_proj`)),
    ...withBias(`${blk}.attn_output`, `${hf}.o_proj`),
  ];
}

export const gatedMlp = (blk: string, hf: string): Pairing[] =>
  ['gate', 'up', 'down'].map((x) => pair(`${blk}.ffn_${x}.weight`, `${hf}.${x}_proj.weight`));

const headNorms = (blk: string, hf: string): Pairing[] =>
  ['q', 'k'].map((x) => pair(`${blk}.attn_${x}_norm.weight`, `${hf}.${x}_norm.weight`));

/** Embedding, layers, norm and head. */
const decoderTensors =
  (layer: (blk: string, hf: string) => Pairing[]): Architecture['pairings'] =>
  (_, layers) => [
    ...ends('model.embed_tokens.weight', 'model.norm.weight'),
    ...layerNumbers(layers).flatMap((i) => layer(`blk.${i}`, `model.layers.${i}`)),
  ];

const NORMS_BEFORE = { attn_norm: 'input_layernorm', ffn_norm: 'post_attention_layernorm' };
const NORMS_BEHIND = {
  post_attention_norm: 'post_attention_layernorm',
  post_ffw_norm: 'post_feedforward_layernorm',
};

/** One that differs from Llama by its norms; `own`: what its config says besides. */
const decoder = (
  name: string,
  norms: Readonly<Record<string, string>>,
  own: (keys: ArchitectureKeys, tensors: Tensors) => Config,
): Architecture => ({
  name,
  modelTypes: [name],
  async config(keys, tensors) {
    const rope_parameters = await ropeParameters(keys, tensors);
    return { model_type: name, ...decoderConfig(keys, tensors), rope_parameters, ...own(keys, tensors) };
  },
  pairings: decoderTensors((blk, hf) => [
    ...Object.entries(norms).map(([x, norm]) => pair(`${blk}.${x}.weight`, `${hf}.${norm}.weight`)),
    ...attentionOf(blk, `${hf}.self_attn`),
    ...headNorms(blk, `${hf}.self_attn`),
    ...gatedMlp(blk, `${hf}.mlp`),
  ]),
});

export const qwen2 = decoder('qwen2', NORMS_BEFORE, () => ({}));
export const qwen3 = decoder('qwen3', NORMS_BEFORE, (_, tensors) => ({ attention_bias: hasBias(tensors) }));

export const olmo2 = decoder('olmo2', NORMS_BEHIND, (keys, tensors) => {
  keys.withoutWindows('OLMo 3, whose layers have windows,');
  return { attention_bias: hasBias(tensors) };
});

/** Factors of the frequencies for short sequences and for long ones, where a file has them. */
async function longRope(keys: ArchitectureKeys, tensors: Tensors): Promise<Config | undefined> {
  const [short, long] = ['short', 'long'].map((length) => tensors.get(`rope_factors_${length}.weight`));
  if (!short && !long) return undefined;
  const missing = short ? 'long' : 'short';
  if (!short || !long) throw checkpointError(keys.metadata.file, `tensor rope_factors_${missing}.weight is missing`);
  return {
    rope_theta: keys.number('rope.freq_base', 10000),
    rope_type: 'longrope',
    short_factor: [...(await readTensorF32(short))],
    long_factor: [...(await readTensorF32(long))],
    ...(keys.has('rope.scaling.attn_factor') && { attention_factor: keys.number('rope.scaling.attn_factor') }),
  };
}

/** partial_rotary_factor that gives `rotary` channels of a head, also where the quotient is rounded below. */
export const rotaryShare = (rotary: number, headDim: number): number =>
  Math.floor(headDim * (rotary / headDim)) === rotary ? rotary / headDim : (rotary + 0.5) / headDim;

/** Of Phi-3 with 4,096 positions, in files that were written before the key was. */
const PHI3_WINDOW = 2047;

export const phi3: Architecture = {
  name: 'phi3',
  modelTypes: ['phi3'],
  async config(keys, tensors) {
    const common = decoderConfig(keys, tensors);
    const headDim = common.head_dim as number;
    const window = keys.count('attention.sliding_window', keys.count('context_length') === 4096 ? PHI3_WINDOW : 0);
    return {
      model_type: 'phi3',
      ...common,
      pad_token_id: null, // transformers' own is beyond the vocabulary where that is small
      sliding_window: window > 0 ? window : null,
      ...(keys.has('rope.scaling.original_context_length') && {
        original_max_position_embeddings: keys.count('rope.scaling.original_context_length'),
      }),
      rope_parameters: {
        ...((await longRope(keys, tensors)) ?? (await ropeParameters(keys, tensors))),
        partial_rotary_factor: rotaryShare(keys.count('rope.dimension_count', headDim), headDim),
      },
    };
  },
  pairings: decoderTensors((blk, hf) => [
    pair(`${blk}.attn_norm.weight`, `${hf}.input_layernorm.weight`),
    pair(`${blk}.ffn_norm.weight`, `${hf}.post_attention_layernorm.weight`),
    pair(`${blk}.attn_qkv.weight`, `${hf}.self_attn.qkv_proj.weight`),
    pair(`${blk}.attn_output.weight`, `${hf}.self_attn.o_proj.weight`),
    pair(`${blk}.ffn_up.weight`, `${hf}.mlp.gate_up_proj.weight`),
    pair(`${blk}.ffn_down.weight`, `${hf}.mlp.down_proj.weight`),
  ]),
  unread: (name) => /^rope_factors_(short|long)\.weight$/.test(name),
};
