import {
  type Architecture,
  type Config,
  interleaved,
  type Pairing,
  pair,
  type Tensors,
  withBias,
} from '../architecture.js';
import type { ArchitectureKeys } from '../keys.js';
import { ropeParameters, rotatedAttention } from './llama.js';
import { ends, layerNumbers, mamba2Mixer } from './mamba.js';

/** mamba_* keys of a hybrid whose mixers are Mamba-2's. */
export function hybridMamba2(keys: ArchitectureKeys, tensors: Tensors): Config {
  const inner = keys.count('ssm.inner_size');
  const heads = keys.count('ssm.time_step_rank');
  const groups = keys.count('ssm.group_count');
  const has = (end: string) => [...tensors.keys()].some((name) => name.endsWith(end));
  return {
    mamba_expand: inner / keys.count('embedding_length'),
    mamba_n_heads: heads,
    mamba_d_head: inner / heads,
    mamba_n_groups: groups,
    mamba_d_state: keys.count('ssm.state_size'),
    mamba_d_conv: keys.count('ssm.conv_kernel'),
    mamba_conv_bias: has('.ssm_conv1d.bias'),
    mamba_proj_bias: has('.ssm_in.bias'),
  };
}

/** Keys of attention that hybrids have in common. */
export function hybridHeads(keys: ArchitectureKeys): { config: Config; kv: number[]; headDim: number } {
  const heads = keys.count('attention.head_count');
  const hidden = keys.count('embedding_length');
  const kv = keys.perLayer('attention.head_count_kv') ?? new Array<number>(keys.layers).fill(heads);
  const headDim = keys.count('attention.key_length', hidden / heads);
  const config = {
    hidden_size: hidden,
    num_hidden_layers: keys.layers,
    num_attention_heads: heads,
    num_key_value_heads: Math.max(1, ...kv),
    head_dim: headDim,
    max_position_embeddings: keys.count('context_length'),
  };
  return { config, kv, headDim };
}

/** Gate and up projections that the checkpoint keeps as one, of each expert where there are several. */
const gateUp = (blk: string, kind: '' | '_exps' | '_shexp', hf: string): Pairing =>
  interleaved([`${blk}.ffn_gate${kind}.weight`, `${blk}.ffn_up${kind}.weight`], hf);

/** Granite 4 and, where positions are used, Bamba. */
export const granite: Architecture = {
  name: 'granitehybrid',
  modelTypes: ['granitemoehybrid', 'bamba'],
  async config(keys, tensors) {
    const { config: heads, kv, headDim } = hybridHeads(keys);
    const groups = keys.count('ssm.group_count');
    const common = {
      ...heads,
      ...hybridMamba2(keys, tensors),
      ...(groups > 1 && { norm_groups: groups }),
      rms_norm_eps: keys.number('attention.layer_norm_rms_epsilon'),
      tie_word_embeddings: !tensors.has('output.weight'),
      attention_bias: [...tensors.keys()].some((name) => name.endsWith('.attn_q.bias')),
    };
    const rope = await ropeParameters(keys, tensors);
    const positions = keys.boolean('rope.scaling.finetuned');
    // Granite's own factors tell it from Bamba.
    const factors = ['embedding_scale', 'residual_scale', 'logit_scale'].some((key) => keys.number(key, 1) !== 1);
    if (positions && !keys.has('attention.scale') && !factors) {
      // Converted from a config without attn_rotary_emb, a file says the whole head: Bamba turns half of it.
      const rotary = keys.count('rope.dimension_count', headDim);
      return {
        model_type: 'bamba',
        ...common,
        intermediate_size: keys.count('feed_forward_length'),
        mlp_bias: tensors.has('blk.0.ffn_up.bias'),
        attn_layer_indices: kv.flatMap((n, i) => (n > 0 ? [i] : [])),
        rope_parameters: {
          ...rope,
          partial_rotary_factor: rotary < headDim ? rotary / headDim : 0.5,
        },
      };
    }
    const experts = keys.count('expert_count', 0);
    const width = keys.count('feed_forward_length');
    return {
      model_type: 'granitemoehybrid',
      ...common,
      intermediate_size: width,
      shared_intermediate_size: keys.count('expert_shared_feed_forward_length', width),
      num_local_experts: experts,
      num_experts_per_tok: keys.count('expert_used_count', 0),
      layer_types: kv.map((n) => (n > 0 ? 'attention' : 'mamba')),
      position_embedding_type: positions ? 'rope' : null,
      rope_parameters: rope,
      attention_multiplier: keys.number('attention.scale', 1 / Math.sqrt(headDim)),
      embedding_multiplier: keys.number('embedding_scale', 1),
      residual_multiplier: keys.number('residual_scale', 1),
      logits_scaling: keys.number('logit_scale', 1),
    };
  },
  pairings: (config, layers) => {
    const isBamba = config.model_type === 'bamba';
    const groups = (config.mamba_n_groups as number | undefined) ?? 1;
    const headDim = config.head_dim as number;
    return [
      ...ends('model.embed_tokens.weight', isBamba ? 'model.final_layernorm.weight' : 'model.norm.weight'),
      ...layerNumbers(layers).flatMap((i) => {
        const [blk, hf] = [`blk.${i}`, `model.layers.${i}`];
        const second = isBamba ? 'pre_ff_layernorm' : 'post_attention_layernorm';
        return [
          pair(`${blk}.attn_norm.weight`, `${hf}.input_layernorm.weight`),
          pair(`${blk}.ffn_norm.weight`, `${hf}.${second}.weight`),
          ...mamba2Mixer(blk, `${hf}.mamba`, groups),
          ...rotatedAttention(blk, `${hf}.self_attn`, headDim),
          ...(isBamba
            ? ['gate', 'up', 'down'].flatMap((x) => withBias(`${blk}.ffn_${x}`, `${hf}.feed_forward.${x}_proj`))
            : graniteFeedForward(blk, hf, (config.num_local_experts as number | undefined) ?? 0)),
        ];
      }),
    ];
  },
};

/** The feed-forward that every token has is a shared one beside experts, and the only one where there are none. */
function graniteFeedForward(blk: string, hf: string, experts: number): Pairing[] {
  const shared = experts > 0 ? '_shexp' : '';
  return [
    gateUp(blk, '_exps', `${hf}.block_sparse_moe.input_linear.weight`),
    pair(`${blk}.ffn_down_exps.weight`, `${hf}.block_sparse_moe.output_linear.weight`),
    pair(`${blk}.ffn_gate_inp.weight`, `${hf}.block_sparse_moe.router.layer.weight`),
    gateUp(blk, shared, `${hf}.shared_mlp.input_linear.weight`),
    pair(`${blk}.ffn_down${shared}.weight`, `${hf}.shared_mlp.output_linear.weight`),
  ];
}
