import { readTensorF32 } from '../../read.js';
import {
  type Architecture,
  type Config,
  experts,
  type Pairing,
  pair,
  rotated,
  type Tensors,
  withBias,
} from '../architecture.js';
import type { ArchitectureKeys } from '../keys.js';
import { ends, layerNumbers } from './mamba.js';

/** Keys of yarn whose meaning for the model is not known: the values that change nothing. llama.cpp reads none of these here. */
const NO_OTHER_YARN = { yarn_ext_factor: (x: number) => x < 0 || x === 1, yarn_log_multiplier: (x: number) => x === 0 };

/**
 * rope_parameters; Llama 3 scales by a tensor of divisors, others by keys. `base`: where the file has none. As in llama.cpp,
 * a factor alone stretches linearly and attn_factor multiplies yarn's own factor of cos and sin; yarn_attn_factor and the
 * betas, which it passes over, are those of the model that was converted.
 */
export async function ropeParameters(keys: ArchitectureKeys, tensors: Tensors, base = 10000): Promise<Config> {
  const rope: Config = { rope_theta: keys.number('rope.freq_base', base), rope_type: 'default' };
  const scaling = (key: string, standard: number) => keys.number(`rope.scaling.${key}`, standard);
  const grown = scaling('attn_factor', 1);
  const type = keys.string('rope.scaling.type') ?? 'linear';
  const divisors = tensors.get('rope_freqs.weight');
  if (grown !== 1 && (type !== 'yarn' || divisors))
    throw keys.error('rope.scaling.attn_factor', `expected 1 without yarn or factors by length, received ${grown}`);
  if (divisors) return { ...rope, rope_type: 'divisors', divisors: [...(await readTensorF32(divisors))] };
  if (type === 'none') return rope;
  const factor = keys.number('rope.scaling.factor', keys.number('rope.scale_linear', 1));
  if (type === 'linear') return factor === 1 ? rope : { ...rope, rope_type: 'linear', factor };
  if (type !== 'yarn') throw keys.error('rope.scaling.type', `expected none, linear or yarn, received "${type}"`);
  for (const [key, neutral] of Object.entries(NO_OTHER_YARN)) {
    const name = `rope.scaling.${key}`;
    if (keys.has(name) && !neutral(keys.number(name))) throw keys.error(name, `${keys.number(name)} is not supported`);
  }
  const own = factor > 1 ? 0.1 * Math.log(factor) + 1 : 1;
  const optional = (key: string, name: string, times = 1): Config =>
    keys.has(`rope.scaling.${key}`) ? { [name]: times * keys.number(`rope.scaling.${key}`) } : {};
  return {
    ...rope,
    rope_type: 'yarn',
    factor,
    ...optional('original_context_length', 'original_max_position_embeddings'),
    ...optional('yarn_beta_fast', 'beta_fast'),
    ...optional('yarn_beta_slow', 'beta_slow'),
    ...(grown !== 1 && { attention_factor: own * grown }),
    ...optional('yarn_attn_factor', 'attention_factor', grown),
  };
}

/** Queries, keys, values and output of an attention layer whose heads rotate neighbours in the file. */
export function rotatedAttention(blk: string, hf: string, headDim: number): Pairing[] {
  return [
    ...['q', 'k'].flatMap((x) =>
      ['weight', 'bias'].map((what) => rotated(`${blk}.attn_${x}.${what}`, `${hf}.${x}_proj.${what}`, headDim)),
    ),
    ...withBias(`${blk}.attn_v`, `${hf}.v_proj`),
    ...withBias(`${blk}.attn_output`, `${hf}.o_proj`),
  ];
}

/** Dense or routed by what is there; Mixtral calls gate, up and down w1, w3 and w2. */
function feedForward(blk: string, hf: string, count: number): Pairing[] {
  if (count === 0) {
    return ['gate', 'up', 'down'].flatMap((x) => withBias(`${blk}.ffn_${x}`, `${hf}.mlp.${x}_proj`));
  }
  const moe = `${hf}.block_sparse_moe`;
  return [
    pair(`${blk}.ffn_gate_inp.weight`, `${moe}.gate.weight`),
    ...Object.entries({ gate: 'w1', up: 'w3', down: 'w2' }).map(([x, name]) =>
      experts(`${blk}.ffn_${x}_exps.weight`, count, (e) => `${moe}.experts.${e}.${name}.weight`),
    ),
  ];
}

/** Llama, Mistral (its window is lost in the file) and Mixtral. */
export const llama: Architecture = {
  name: 'llama',
  modelTypes: ['llama', 'mistral', 'mixtral'],
  async config(keys, tensors) {
    const heads = keys.count('attention.head_count');
    const hidden = keys.count('embedding_length');
    const headDim = keys.count('attention.key_length', hidden / heads);
    const count = keys.count('expert_count', 0);
    const rotary = keys.count('rope.dimension_count', headDim);
    if (rotary !== headDim)
      throw keys.error('rope.dimension_count', `expected the ${headDim} channels of a head, received ${rotary}`);
    const bias = ['q', 'k', 'v', 'output'].some((x) => tensors.has(`blk.0.attn_${x}.bias`));
    return {
      model_type: count > 0 ? 'mixtral' : 'llama',
      hidden_size: hidden,
      intermediate_size: keys.count('feed_forward_length'),
      num_hidden_layers: keys.layers,
      num_attention_heads: heads,
      num_key_value_heads: keys.count('attention.head_count_kv', heads),
      head_dim: headDim,
      rms_norm_eps: keys.number('attention.layer_norm_rms_epsilon'),
      rope_parameters: await ropeParameters(keys, tensors),
      max_position_embeddings: keys.count('context_length'),
      tie_word_embeddings: !tensors.has('output.weight'),
      ...(count > 0
        ? {
            ...{ num_local_experts: count, num_experts_per_tok: keys.count('expert_used_count'), sliding_window: null },
            ...(bias && { attention_bias: true }), // Mixtral of transformers has none
          }
        : { attention_bias: bias, mlp_bias: tensors.has('blk.0.ffn_up.bias') }),
    };
  },
  pairings: (config, layers) => [
    ...ends('model.embed_tokens.weight', 'model.norm.weight'),
    ...layerNumbers(layers).flatMap((i) => {
      const [blk, hf] = [`blk.${i}`, `model.layers.${i}`];
      return [
        pair(`${blk}.attn_norm.weight`, `${hf}.input_layernorm.weight`),
        pair(`${blk}.ffn_norm.weight`, `${hf}.post_attention_layernorm.weight`),
        ...rotatedAttention(blk, `${hf}.self_attn`, config.head_dim as number),
        ...feedForward(blk, hf, (config.num_local_experts as number | undefined) ?? 0),
      ];
    }),
  ],
};
