import { inRowOrder, joined, rowRange } from '../../views.js';
import {
  type Architecture,
  type Config,
  conv,
  decay,
  experts,
  type Pairing,
  pair,
  shifted,
  withBias,
} from '../architecture.js';
import { hybridHeads } from './granite.js';
import { ropeParameters } from './llama.js';
import { layerNumbers } from './mamba.js';

interface DeltaHeads {
  keyHeads: number;
  keyDim: number;
  /** Rows of values that one key head has. */
  values: number;
}

const deltaHeads = (c: Config): DeltaHeads => ({
  keyHeads: c.linear_num_key_heads as number,
  keyDim: c.linear_key_head_dim as number,
  values:
    ((c.linear_num_value_heads as number) / (c.linear_num_key_heads as number)) * (c.linear_value_head_dim as number),
});

/** Rows [q, k, v, z] of every key head in the checkpoint; all q, all k, all v, and z by itself in the file. */
function qkvz(blk: string, hf: string, { keyHeads, keyDim, values }: DeltaHeads): Pairing {
  const keys = keyHeads * keyDim;
  const each = 2 * keyDim + 2 * values;
  const heads = layerNumbers(keyHeads);
  const rows = (first: (head: number) => number, count: number) =>
    heads.flatMap((h) => Array.from({ length: count }, (_, i) => first(h) + i));
  return {
    gguf: [`${blk}.attn_qkv.weight`, `${blk}.attn_gate.weight`],
    hf: () => [hf],
    toHf: ([qkv, gate]) => {
      const width = qkv!.shape[1]!;
      const parts = heads.flatMap((h) => [
        rowRange(qkv!, h * keyDim, [keyDim, width]),
        rowRange(qkv!, keys + h * keyDim, [keyDim, width]),
        rowRange(qkv!, 2 * keys + h * values, [values, width]),
        rowRange(gate!, h * values, [values, width]),
      ]);
      return [joined(hf, parts, [keyHeads * each, width])];
    },
    toGguf: ([t]) => {
      const width = t!.shape[1]!;
      const order = [
        ...rows((h) => h * each, keyDim),
        ...rows((h) => h * each + keyDim, keyDim),
        ...rows((h) => h * each + 2 * keyDim, values),
      ];
      const gate = rows((h) => h * each + 2 * keyDim + values, values);
      return [order, gate].map((list) => inRowOrder(t!, Int32Array.from(list), [list.length, width]));
    },
  };
}

export const qwen3Next: Architecture = {
  name: 'qwen3next',
  modelTypes: ['qwen3_next'],
  async config(keys, tensors) {
    const { config, kv, headDim } = hybridHeads(keys);
    const keyHeads = keys.count('ssm.group_count');
    const valueHeads = keys.count('ssm.time_step_rank');
    if (keyHeads === 0 || valueHeads === 0 || valueHeads % keyHeads !== 0 || keyHeads > 65_536)
      throw keys.error('ssm.group_count', `${keyHeads} does not divide the ${valueHeads} of ssm.time_step_rank`);
    const rope = await ropeParameters(keys, tensors);
    const dense = kv.flatMap((_, i) => (tensors.has(`blk.${i}.ffn_gate.weight`) ? [i] : []));
    return {
      model_type: 'qwen3_next',
      ...config,
      layer_types: kv.map((_, i) => (tensors.has(`blk.${i}.ssm_a`) ? 'linear_attention' : 'full_attention')),
      linear_conv_kernel_dim: keys.count('ssm.conv_kernel'),
      linear_key_head_dim: keys.count('ssm.state_size'),
      linear_num_key_heads: keyHeads,
      linear_num_value_heads: valueHeads,
      linear_value_head_dim: keys.count('ssm.inner_size') / valueHeads,
      intermediate_size: keys.count('feed_forward_length', 1),
      num_experts: dense.length < kv.length ? keys.count('expert_count') : 0,
      num_experts_per_tok: keys.count('expert_used_count'),
      moe_intermediate_size: keys.count('expert_feed_forward_length'),
      shared_expert_intermediate_size: keys.count('expert_shared_feed_forward_length'),
      norm_topk_prob: true,
      rms_norm_eps: keys.number('attention.layer_norm_rms_epsilon'),
      rope_parameters: { ...rope, partial_rotary_factor: keys.count('rope.dimension_count', headDim) / headDim },
      attention_bias: [...tensors.keys()].some((name) => name.endsWith('.attn_q.bias')),
      mlp_only_layers: dense,
      tie_word_embeddings: !tensors.has('output.weight'),
    };
  },
  pairings: (config, layers) => [
    pair('token_embd.weight', 'model.embed_tokens.weight'),
    shifted('output_norm.weight', 'model.norm.weight', 1),
    pair('output.weight', 'lm_head.weight'),
    ...layerNumbers(layers).flatMap((i) => {
      const [blk, hf] = [`blk.${i}`, `model.layers.${i}`];
      const [delta, attn, mlp] = [`${hf}.linear_attn`, `${hf}.self_attn`, `${hf}.mlp`];
      return [
        shifted(`${blk}.attn_norm.weight`, `${hf}.input_layernorm.weight`, 1),
        shifted(`${blk}.post_attention_norm.weight`, `${hf}.post_attention_layernorm.weight`, 1),
        qkvz(blk, `${delta}.in_proj_qkvz.weight`, deltaHeads(config)),
        pair(`${blk}.ssm_ba.weight`, `${delta}.in_proj_ba.weight`),
        conv(`${blk}.ssm_conv1d.weight`, `${delta}.conv1d.weight`),
        decay(`${blk}.ssm_a`, `${delta}.A_log`),
        pair(`${blk}.ssm_dt.bias`, `${delta}.dt_bias`),
        pair(`${blk}.ssm_norm.weight`, `${delta}.norm.weight`),
        pair(`${blk}.ssm_out.weight`, `${delta}.out_proj.weight`),
        ...['q', 'k', 'v'].flatMap((x) => withBias(`${blk}.attn_${x}`, `${attn}.${x}_proj`)),
        ...withBias(`${blk}.attn_output`, `${attn}.o_proj`),
        ...['q', 'k'].map((x) => shifted(`${blk}.attn_${x}_norm.weight`, `${attn}.${x}_norm.weight`, 1)),
        pair(`${blk}.ffn_gate_inp.weight`, `${mlp}.gate.weight`),
        pair(`${blk}.ffn_gate_inp_shexp.weight`, `${mlp}.shared_expert_gate.weight`),
        ...['gate', 'up', 'down'].flatMap((x) => [
          pair(`${blk}.ffn_${x}.weight`, `${mlp}.${x}_proj.weight`), // of a layer without experts
          pair(`${blk}.ffn_${x}_shexp.weight`, `${mlp}.shared_expert.${x}_proj.weight`),
          experts(
            `${blk}.ffn_${x}_exps.weight`,
            config.num_experts as number,
            (e) => `${mlp}.experts.${e}.${x}_proj.weight`,
          ),
        ]),
      ];
    }),
  ],
};
