/**
 * Every family at a width near 2048: heads, states and experts as a published model has them, as many layers as show each
 * of its kinds, experts and vocabulary cut so that the weights fit.
 */

export interface FamilyShape {
  name: string;
  /** Whose sizes it has. */
  like: string;
  config: Readonly<Record<string, unknown>>;
}

const VOCABULARY = 32768;
const size = (d: number, layers: number) => ({ vocab_size: VOCABULARY, hidden_size: d, num_hidden_layers: layers });
const heads = (n: number, kv: number, dim?: number) => ({
  num_attention_heads: n,
  num_key_value_heads: kv,
  ...(dim !== undefined && { head_dim: dim }),
});
const LINEAR = 'linear_attention';
const FULL = 'full_attention';

const mamba2 = (d: number, headdim: number, dState: number, groups = 1) => ({
  mamba_expand: 2,
  mamba_d_head: headdim,
  mamba_n_heads: (2 * d) / headdim,
  mamba_d_state: dState,
  mamba_n_groups: groups,
  mamba_d_conv: 4,
});

const delta = (keyHeads: number, valueHeads: number) => ({
  linear_num_key_heads: keyHeads,
  linear_num_value_heads: valueHeads,
  linear_key_head_dim: 128,
  linear_value_head_dim: 128,
  linear_conv_kernel_dim: 4,
});

const kimiDelta = (n: number) => ({ linear_num_heads: n, linear_head_dim: 128, linear_conv_kernel_dim: 4 });

const mamba3 = (mimo: boolean) => ({
  d_model: 2048,
  n_layer: 3,
  vocab_size: VOCABULARY,
  d_intermediate: 0,
  tie_embeddings: true,
  ssm_cfg: { layer: 'Mamba3', d_state: 128, expand: 2, headdim: 64, ...(mimo && { is_mimo: true, mimo_rank: 4 }) },
});

const shape = (name: string, like: string, config: Record<string, unknown>): FamilyShape => ({
  name,
  like,
  config: { model_type: name, ...config },
});

export const SHAPES: readonly FamilyShape[] = [
  shape('mamba', 'mamba-1.4b', {
    ...size(2048, 3),
    ...{ state_size: 16, conv_kernel: 4, expand: 2, time_step_rank: 128, use_bias: false, use_conv_bias: true },
  }),
  shape('falcon_mamba', 'falcon-mamba-7b, half as wide', {
    ...size(2048, 3),
    ...{ state_size: 16, conv_kernel: 4, expand: 2, intermediate_size: 4096, time_step_rank: 128 },
  }),
  shape('mamba2', 'mamba2-1.3b', {
    ...size(2048, 3),
    ...{ state_size: 128, conv_kernel: 4, expand: 2, head_dim: 64, num_heads: 64, n_groups: 1 },
  }),
  { name: 'mamba3', like: 'Mamba-3, SISO', config: mamba3(false) },
  { name: 'mamba3_mimo', like: 'Mamba-3, MIMO of rank 4', config: mamba3(true) },
  shape('llama', 'Llama-3.2-1B', { ...size(2048, 2), intermediate_size: 8192, ...heads(32, 8, 64) }),
  shape('mistral', 'Mistral-7B, half as wide', {
    ...size(2048, 2),
    ...{ intermediate_size: 7168, ...heads(16, 4, 128), sliding_window: 4096 },
  }),
  shape('mixtral', 'Mixtral-8x7B, a third as wide', {
    ...size(1536, 2),
    ...{ intermediate_size: 5376, ...heads(12, 3, 128), num_local_experts: 8, num_experts_per_tok: 2 },
  }),
  shape('qwen2', 'Qwen2.5-1.5B', { ...size(1536, 2), intermediate_size: 8960, ...heads(12, 2) }),
  shape('qwen3', 'Qwen3-1.7B', { ...size(2048, 2), intermediate_size: 6144, ...heads(16, 8, 128) }),
  shape('gemma2', 'gemma-2-2b', { ...size(2304, 2), intermediate_size: 9216, ...heads(8, 4, 256) }),
  shape('gemma3_text', 'gemma-3-1b', {
    ...size(1152, 6),
    ...{ intermediate_size: 6912, ...heads(4, 1, 256), sliding_window: 512 },
  }),
  shape('phi3', 'Phi-3-mini', { ...size(3072, 2), intermediate_size: 8192, ...heads(32, 32), sliding_window: 2047 }),
  shape('olmo2', 'OLMo-2-0425-1B', { ...size(2048, 2), intermediate_size: 8192, ...heads(16, 16) }),
  shape('jamba', 'Jamba-Reasoning-3B', {
    ...size(2560, 2),
    ...{ intermediate_size: 8192, ...heads(20, 1), attn_layer_period: 2, attn_layer_offset: 1, num_experts: 1 },
    ...{ mamba_d_state: 16, mamba_d_conv: 4, mamba_expand: 2, mamba_dt_rank: 160 },
  }),
  shape('bamba', 'Bamba-9B, half as wide', {
    ...size(2048, 3),
    ...{ intermediate_size: 7168, ...heads(16, 4), attn_layer_indices: [1], ...mamba2(2048, 64, 128) },
  }),
  shape('falcon_h1', 'Falcon-H1-1.5B', {
    ...size(2048, 2),
    ...{ intermediate_size: 4096, ...heads(8, 2, 128), mamba_d_ssm: 3072, mamba_n_heads: 48, mamba_d_head: 64 },
    ...{ mamba_d_state: 256, mamba_n_groups: 1, mamba_d_conv: 4 },
  }),
  shape('granitemoehybrid', 'granite-4.0-h-tiny', {
    ...size(1536, 3),
    ...{ ...heads(12, 4), layer_types: ['mamba', 'attention', 'mamba'], ...mamba2(1536, 64, 128) },
    ...{ num_local_experts: 16, num_experts_per_tok: 6, intermediate_size: 512, shared_intermediate_size: 1024 },
    ...{ position_embedding_type: 'nope', attention_multiplier: 1 / 128 },
  }),
  shape('nemotron_h', 'Nemotron-3-Nano', {
    ...{ vocab_size: VOCABULARY, hidden_size: 2688, hybrid_override_pattern: 'MEM*E', ...heads(32, 2, 128) },
    ...{ mamba_num_heads: 64, mamba_head_dim: 64, n_groups: 8, ssm_state_size: 128, conv_kernel: 4 },
    ...{ n_routed_experts: 16, num_experts_per_tok: 6, moe_intermediate_size: 1856 },
    ...{ moe_shared_expert_intermediate_size: 3712, routed_scaling_factor: 2.5, norm_topk_prob: true },
  }),
  shape('zamba', 'Zamba-7B, half as wide', {
    ...size(2048, 3),
    ...{ num_attention_heads: 16, n_mamba_heads: 2, mamba_d_state: 16, intermediate_size: 8192 },
    layers_block_type: [LINEAR, 'hybrid', LINEAR],
  }),
  shape('zamba2', 'Zamba2-1.2B', {
    ...size(2048, 3),
    ...{ num_attention_heads: 32, n_mamba_heads: 64, mamba_d_state: 64, mamba_ngroups: 1, intermediate_size: 8192 },
    ...{ num_mem_blocks: 1, adapter_rank: 128, use_mem_rope: true, use_shared_attention_adapter: true },
    layers_block_type: [LINEAR, 'hybrid', LINEAR],
  }),
  shape('lfm2', 'LFM2-1.2B', {
    ...size(2048, 3),
    ...{ intermediate_size: 8192, block_auto_adjust_ff_dim: false, ...heads(32, 8) },
    layer_types: ['conv', FULL, 'conv'],
  }),
  shape('lfm2_moe', 'LFM2-8B-A1B', {
    ...size(2048, 3),
    ...{ intermediate_size: 7168, ...heads(32, 8), layer_types: ['conv', FULL, 'conv'], num_dense_layers: 1 },
    ...{ moe_intermediate_size: 1792, num_experts: 16, num_experts_per_tok: 4 },
  }),
  shape('qwen3_next', 'Qwen3-Next-80B-A3B', {
    ...size(2048, 2),
    ...{ ...heads(16, 2, 256), ...delta(16, 32), layer_types: [LINEAR, FULL], num_experts: 32 },
    ...{ num_experts_per_tok: 10, moe_intermediate_size: 512, shared_expert_intermediate_size: 512 },
  }),
  shape('qwen3_5_text', 'Qwen3.5-2B', {
    ...size(2048, 4),
    ...{ intermediate_size: 6144, ...heads(8, 2, 256), ...delta(16, 16) },
    layer_types: [LINEAR, LINEAR, LINEAR, FULL],
  }),
  shape('qwen3_5_moe_text', 'Qwen3.5-35B-A3B', {
    ...size(2048, 2),
    ...{ ...heads(16, 2, 256), ...delta(16, 32), layer_types: [LINEAR, FULL], num_experts: 32 },
    ...{ num_experts_per_tok: 8, moe_intermediate_size: 512, shared_expert_intermediate_size: 512 },
  }),
  shape('qwen4_exp_text', 'Qwen4-Exp', {
    ...size(2048, 2),
    ...{ ...heads(16, 2, 256), ...delta(16, 32), layer_types: [LINEAR, 'indexed_attention'], num_experts: 32 },
    ...{ num_experts_per_tok: 10, moe_intermediate_size: 512, shared_expert_intermediate_size: 512 },
    ...{ hc_count: 4, hc_lowrank: 320, indexer_n_heads: 8, indexer_head_dim: 128 },
    ...{ indexer_compress_ratio: 16, indexer_budget: 1024, rope_parameters: { partial_rotary_factor: 0.25 } },
  }),
  shape('olmo_hybrid', 'OLMo-hybrid-7B, half as wide', {
    ...size(1920, 4),
    ...{ intermediate_size: 5504, ...heads(15, 15), layer_types: [LINEAR, LINEAR, LINEAR, FULL] },
    ...{ linear_num_key_heads: 15, linear_num_value_heads: 15, linear_key_head_dim: 96, linear_value_head_dim: 192 },
  }),
  shape('kimi_linear', 'Kimi-Linear-48B-A3B', {
    ...size(2304, 3),
    ...{
      intermediate_size: 9216,
      num_attention_heads: 32,
      num_key_value_heads: 32,
      layer_types: [LINEAR, LINEAR, FULL],
    },
    ...{
      mlp_layer_types: ['dense', 'sparse', 'sparse'],
      kv_lora_rank: 512,
      qk_nope_head_dim: 128,
      qk_rope_head_dim: 64,
    },
    ...{ v_head_dim: 128, ...kimiDelta(32), num_experts: 16, num_experts_per_token: 8, moe_intermediate_size: 1024 },
    ...{ num_shared_experts: 1 },
  }),
  shape('glm5_next_text', 'GLM-5.3, half as wide', {
    ...size(2048, 2),
    ...{ intermediate_size: 6144, num_attention_heads: 32, layer_types: [LINEAR, 'indexed_attention'] },
    ...{ mlp_layer_types: ['dense', 'sparse'], kv_lora_rank: 512, q_lora_rank: 768, qk_nope_head_dim: 256 },
    ...{ v_head_dim: 256, qk_rope_head_dim: 0, ...kimiDelta(32), n_routed_experts: 16, num_experts_per_tok: 8 },
    ...{ moe_intermediate_size: 1024, index_topk: 1024, index_head_dim: 128, index_n_heads: 16, index_kpool: 16 },
  }),
  shape('inkling_text', 'Inkling, a third as wide', {
    ...size(2048, 2),
    ...{ intermediate_size: 8192, ...heads(16, 4, 128), swa_num_attention_heads: 16, swa_num_key_value_heads: 4 },
    ...{ swa_head_dim: 128, layer_types: ['hybrid_sliding', 'hybrid'], mlp_layer_types: ['dense', 'sparse'] },
    ...{ moe_intermediate_size: 1024, n_routed_experts: 16, num_experts_per_tok: 6, n_shared_experts: 2 },
  }),
  shape('minimax', 'MiniMax-Text-01, a third as wide', {
    ...size(2048, 2),
    ...{ intermediate_size: 3072, ...heads(16, 2, 128), layer_types: [LINEAR, FULL] },
    ...{ num_local_experts: 8, num_experts_per_tok: 2 },
  }),
  shape('recurrent_gemma', 'recurrentgemma-2b', {
    ...size(2560, 3),
    ...{ intermediate_size: 15360, ...heads(10, 1), lru_width: 2560, attention_window_size: 2048 },
  }),
  shape('zaya', 'ZAYA1-base', {
    ...size(2048, 2),
    ...{ ...heads(8, 2, 128), layer_types: ['hybrid', 'hybrid'], num_experts: 16, moe_intermediate_size: 2048 },
  }),
  shape('rwkv', 'rwkv-4-1b5', {
    ...size(2048, 3),
    attention_hidden_size: 2048,
    intermediate_size: 8192,
    rescale_every: 0,
  }),
  ...(['rwkv5', 'rwkv6', 'rwkv7'] as const).map((name) =>
    shape(name, `${name}-1b5`, { vocab_size: VOCABULARY, n_embd: 2048, n_layer: 3, head_size: 64 }),
  ),
  shape('gated_deltanet', 'gated_deltanet-1.3B', {
    ...size(2048, 3),
    ...{ num_heads: 6, head_dim: 256, expand_v: 2, intermediate_size: 5632 },
  }),
  shape('gla', 'gla-1.3B', { ...size(2048, 3), num_heads: 4, expand_k: 0.5, expand_v: 1, intermediate_size: 5632 }),
  shape('retnet_torchscale', 'RetNet-1.3B', {
    ...{ vocab_size: VOCABULARY, decoder_embed_dim: 2048, decoder_value_embed_dim: 4096, decoder_retention_heads: 8 },
    ...{ decoder_ffn_embed_dim: 4096, decoder_layers: 3, activation_fn: 'swish' },
  }),
  shape('hyena', 'Hyena-1.3B', {
    ...{ vocab_size: VOCABULARY, d_model: 2048, n_layer: 2, d_inner: 8192, l_max: 4096, order: 2 },
    ...{ filter_order: 64, emb_dim: 3, lr_pos_emb: 0 },
  }),
];
