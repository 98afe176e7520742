// Qwen 2 and 3, whose rows of queries and keys a file holds as Hugging Face does.
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

const qwen = (name: 'qwen2' | 'qwen3'): Architecture => ({
  name,
  modelTypes: [name],
  async config(keys, tensors) {
    return {
      model_type: name,
      ...decoderConfig(keys, tensors),
      rope_parameters: await ropeParameters(keys, tensors),
      ...(name === 'qwen3' && { attention_bias: hasBias(tensors) }),
    };
  },
  pairings: (_, layers) => [
    ...ends('model.embed_tokens.weight', 'model.norm.weight'),
    ...layerNumbers(layers).flatMap((i) => {
      const [blk, hf] = [`blk.${i}`, `model.layers.${i}`];
      return [
        pair(`${blk}.attn_norm.weight`, `${hf}.input_layernorm.weight`),
        pair(`${blk}.ffn_norm.weight`, `${hf}.post_attention_layernorm.weight`),
        ...attentionOf(blk, `${hf}.self_attn`),
        ...headNorms(blk, `${hf}.self_attn`),
        ...gatedMlp(blk, `${hf}.mlp`),
      ];
    }),
  ],
});

export const qwen2 = qwen('qwen2');
export const qwen3 = qwen('qwen3');
