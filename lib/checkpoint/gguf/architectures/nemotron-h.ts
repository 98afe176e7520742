import { type Architecture, experts, pair, withBias } from '../architecture.js';
import { hybridHeads } from './granite.js';
import { rotatedAttention } from './llama.js';
import { ends, layerNumbers, mamba2Mixer } from './mamba.js';

const nemotronOf = (name: 'nemotron_h' | 'nemotron_h_moe'): Architecture => ({
  name,
  modelTypes: ['nemotron_h'],
  config(keys, tensors) {
    const { config, kv } = hybridHeads(keys);
    const widths = keys.perLayer('feed_forward_length') ?? [];
    const has = (end: string) => [...tensors.keys()].some((t) => t.endsWith(end));
    const kinds = kv.map((n, i) => {
      if (n > 0) return 'full_attention';
      if (tensors.has(`blk.${i}.ffn_gate_inp.weight`)) return 'moe';
      return (widths[i] ?? 0) > 0 ? 'mlp' : 'linear_attention';
    });
    const inner = keys.count('ssm.inner_size');
    const heads = keys.count('ssm.time_step_rank');
    return {
      model_type: 'nemotron_h',
      ...config,
      layers_block_type: kinds,
      intermediate_size: Math.max(1, ...widths.filter((_, i) => kinds[i] === 'mlp')),
      mamba_num_heads: heads,
      mamba_head_dim: inner / heads,
      n_groups: keys.count('ssm.group_count'),
      ssm_state_size: keys.count('ssm.state_size'),
      conv_kernel: keys.count('ssm.conv_kernel'),
      use_bias: has('.ssm_in.bias'),
      use_conv_bias: has('.ssm_conv1d.bias'),
      mlp_bias: has('.ffn_up.bias') || has('.ffn_up_shexp.bias'),
      layer_norm_epsilon: keys.number('attention.layer_norm_epsilon'),
      tie_word_embeddings: !tensors.has('output.weight'),
      ...(kinds.includes('moe') && {
        n_routed_experts: keys.count('expert_count'),
        num_experts_per_tok: keys.count('expert_used_count'),
        n_shared_experts: keys.count('expert_shared_count', 1),
        n_group: keys.count('expert_group_count', 1),
        topk_group: keys.count('expert_group_used_count', 1),
        moe_intermediate_size: keys.count('expert_feed_forward_length'),
        moe_latent_size: keys.has('moe_latent_size') ? keys.count('moe_latent_size') : null,
        moe_shared_expert_intermediate_size: keys.count('expert_shared_feed_forward_length'),
        norm_topk_prob: keys.boolean('expert_weights_norm', true),
        routed_scaling_factor: keys.number('expert_weights_scale', 1),
      }),
    };
  },
  pairings: (config, layers) => [
    ...ends('backbone.embeddings.weight', 'backbone.norm_f.weight'),
    ...layerNumbers(layers).flatMap((i) => {
      const [blk, mixer] = [`blk.${i}`, `backbone.layers.${i}.mixer`];
      const count = (config.n_routed_experts as number | undefined) ?? 0;
      return [
        pair(`${blk}.attn_norm.weight`, `backbone.layers.${i}.norm.weight`),
        ...mamba2Mixer(blk, mixer, (config.n_groups as number | undefined) ?? 1),
        ...rotatedAttention(blk, mixer, config.head_dim as number),
        ...['up', 'down'].flatMap((x) => [
          ...withBias(`${blk}.ffn_${x}`, `${mixer}.${x}_proj`),
          experts(`${blk}.ffn_${x}_exps.weight`, count, (e) => `${mixer}.experts.${e}.${x}_proj.weight`),
          ...withBias(`${blk}.ffn_${x}_shexp`, `${mixer}.shared_experts.${x}_proj`),
        ]),
        pair(`${blk}.ffn_gate_inp.weight`, `${mixer}.gate.weight`),
        ...withBias(`${blk}.ffn_latent_down`, `${mixer}.fc1_latent_proj`),
        ...withBias(`${blk}.ffn_latent_up`, `${mixer}.fc2_latent_proj`),
        pair(`${blk}.exp_probs_b.bias`, `${mixer}.gate.e_score_correction_bias`),
      ];
    }),
  ],
});

export const nemotronH = nemotronOf('nemotron_h');
export const nemotronHMoe = nemotronOf('nemotron_h_moe');
