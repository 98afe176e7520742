/** Configurations of every family from common dimensions. */

export interface Dimensions {
  dModel: number;
  vocabulary: number;
  headDim: number;
  kvHeads: number;
  /** Tokens of the longest sequence: a long convolution's filters are made for them. */
  longest: number;
}

/** Layers of attention to layers of Mamba, of a hybrid. */
export interface Ratio {
  attention: number;
  mamba: number;
}

/** Width of the float rows that networks without an embedding read. */
export const FEATURES = 16;

export function llama(d: Dimensions, layers: number): Record<string, unknown> {
  return {
    model_type: 'llama',
    ...common(d, layers),
    intermediate_size: feedForward(d),
    num_attention_heads: d.dModel / d.headDim,
    num_key_value_heads: d.kvHeads,
    rms_norm_eps: 1e-6,
    max_position_embeddings: d.longest,
  };
}

export function mamba(d: Dimensions, layers: number): Record<string, unknown> {
  return {
    model_type: 'mamba',
    ...common(d, layers),
    state_size: 16,
    conv_kernel: 4,
    expand: 2,
    time_step_rank: Math.ceil(d.dModel / 16),
    use_bias: false,
    use_conv_bias: true,
    layer_norm_epsilon: 1e-5,
  };
}

export function mamba2(d: Dimensions, layers: number): Record<string, unknown> {
  return {
    model_type: 'mamba2',
    ...common(d, layers),
    state_size: 128,
    conv_kernel: 4,
    expand: 2,
    head_dim: d.headDim,
    num_heads: (2 * d.dModel) / d.headDim,
    n_groups: 1,
    use_bias: false,
    use_conv_bias: true,
    layer_norm_epsilon: 1e-5,
  };
}

export function jamba(d: Dimensions, layers: number, { attention, mamba: scans }: Ratio): Record<string, unknown> {
  // Without attention the period is longer than the model.
  const period = attention === 0 ? layers + 1 : scans / attention + 1;
  return {
    model_type: 'jamba',
    ...common(d, layers),
    intermediate_size: feedForward(d),
    num_attention_heads: d.dModel / d.headDim,
    num_key_value_heads: d.kvHeads,
    attn_layer_period: period,
    attn_layer_offset: attention === 0 ? layers : Math.floor(period / 2),
    num_experts: 1,
    num_experts_per_tok: 1,
    expert_layer_period: 2,
    expert_layer_offset: 1,
    mamba_d_state: 16,
    mamba_d_conv: 4,
    mamba_expand: 2,
    mamba_dt_rank: Math.ceil(d.dModel / 16),
    mamba_conv_bias: true,
    mamba_proj_bias: false,
    rms_norm_eps: 1e-6,
    max_position_embeddings: d.longest,
    hidden_act: 'silu',
  };
}

export function hyena(d: Dimensions, layers: number): Record<string, unknown> {
  return {
    model_type: 'hyena',
    vocab_size: d.vocabulary,
    d_model: d.dModel,
    n_layer: layers,
    d_inner: 4 * d.dModel,
    l_max: d.longest,
    order: 2,
    filter_order: 64,
    emb_dim: 3,
    lr_pos_emb: 0, // positions encoded once: no parameters that grow with the longest sequence
  };
}

export function s4d(d: Dimensions, layers: number): Record<string, unknown> {
  return {
    model_type: 's4d_example',
    d_input: FEATURES,
    d_output: d.vocabulary,
    d_model: d.dModel,
    n_layers: layers,
    d_state: 64,
    prenorm: true,
  };
}

/** RWKV-4, as transformers configures it; heads of 64 from version 5 on, as trained and released. */
export function rwkv4(d: Dimensions, layers: number): Record<string, unknown> {
  return {
    model_type: 'rwkv',
    ...common(d, layers),
    attention_hidden_size: d.dModel,
    intermediate_size: 4 * d.dModel,
    layer_norm_epsilon: 1e-5,
    rescale_every: 0,
  };
}

export const rwkv =
  (version: 5 | 6 | 7) =>
  (d: Dimensions, layers: number): Record<string, unknown> => ({
    model_type: `rwkv${version}`,
    vocab_size: d.vocabulary,
    n_embd: d.dModel,
    n_layer: layers,
    head_size: 64,
    tie_word_embeddings: true,
  });

/** RetNet's own proportions: values twice as wide as keys, a feed-forward of the same width, heads of 256 keys or fewer. */
export function retnet(d: Dimensions, layers: number): Record<string, unknown> {
  const wide = Math.max(1, Math.floor(d.dModel / 256));
  const heads = d.dModel % (2 * wide) === 0 ? wide : 1;
  return {
    model_type: 'retnet_torchscale',
    vocab_size: d.vocabulary,
    decoder_embed_dim: d.dModel,
    decoder_value_embed_dim: 2 * d.dModel,
    decoder_retention_heads: heads,
    decoder_ffn_embed_dim: 2 * d.dModel,
    decoder_layers: layers,
    activation_fn: 'swish',
    share_decoder_input_output_embed: true,
  };
}

/** Mamba-3 in the layout of mamba_ssm: SISO, or with `rank` inputs and outputs a head. */
export const mamba3 =
  (rank?: number) =>
  (d: Dimensions, layers: number): Record<string, unknown> => ({
    d_model: d.dModel,
    n_layer: layers,
    vocab_size: d.vocabulary,
    d_intermediate: 0,
    tie_embeddings: true,
    ssm_cfg: {
      layer: 'Mamba3',
      d_state: 128,
      expand: 2,
      headdim: d.headDim,
      ...(rank !== undefined && { is_mimo: true, mimo_rank: rank }),
    },
  });

/** The gated delta rule in flash-linear-attention's layout: keys and values as wide as the model. */
export function gatedDeltaNet(d: Dimensions, layers: number): Record<string, unknown> {
  return {
    model_type: 'gated_deltanet',
    ...common(d, layers),
    intermediate_size: feedForward(d),
    num_heads: d.dModel / d.headDim,
    head_dim: d.headDim,
    expand_v: 1,
  };
}

/** Gated linear attention: keys half as wide as the model. */
export function gla(d: Dimensions, layers: number): Record<string, unknown> {
  return {
    model_type: 'gla',
    ...common(d, layers),
    intermediate_size: feedForward(d),
    num_heads: Math.max(1, Math.floor(d.dModel / (2 * d.headDim))),
  };
}

/** Kimi Linear with dense feed-forwards: every fourth layer latent attention. */
export function kimiLinear(d: Dimensions, layers: number): Record<string, unknown> {
  const heads = d.dModel / d.headDim;
  return {
    model_type: 'kimi_linear',
    ...common(d, layers),
    intermediate_size: feedForward(d),
    num_attention_heads: heads,
    num_key_value_heads: heads,
    layer_types: everyFourth(layers),
    mlp_layer_types: new Array<string>(layers).fill('dense'),
    kv_lora_rank: 4 * d.headDim,
    qk_nope_head_dim: d.headDim,
    qk_rope_head_dim: d.headDim / 2,
    v_head_dim: d.headDim,
    linear_num_heads: heads,
    linear_head_dim: d.headDim,
  };
}

/** Qwen3.5 without experts: every fourth layer attention, the others the gated delta rule. */
export function qwen35(d: Dimensions, layers: number): Record<string, unknown> {
  const heads = d.dModel / d.headDim;
  return {
    model_type: 'qwen3_5_text',
    ...common(d, layers),
    intermediate_size: feedForward(d),
    num_attention_heads: heads,
    num_key_value_heads: d.kvHeads,
    head_dim: d.headDim,
    layer_types: everyFourth(layers),
    linear_num_key_heads: heads,
    linear_num_value_heads: heads,
    linear_key_head_dim: d.headDim,
    linear_value_head_dim: d.headDim,
    max_position_embeddings: d.longest,
  };
}

/** LFM2: gated short convolutions, every third layer attention. */
export function lfm2(d: Dimensions, layers: number): Record<string, unknown> {
  return {
    model_type: 'lfm2',
    ...common(d, layers),
    intermediate_size: feedForward(d),
    block_auto_adjust_ff_dim: false,
    num_attention_heads: d.dModel / d.headDim,
    num_key_value_heads: d.kvHeads,
    layer_types: Array.from({ length: layers }, (_, i) => (i % 3 === 2 ? 'full_attention' : 'conv')),
    max_position_embeddings: d.longest,
  };
}

/** RecurrentGemma: two recurrent blocks, then attention with a window. */
export function griffin(d: Dimensions, layers: number): Record<string, unknown> {
  return {
    model_type: 'recurrent_gemma',
    ...common(d, layers),
    intermediate_size: 2 * feedForward(d),
    num_attention_heads: d.dModel / d.headDim,
    num_key_value_heads: 1,
    attention_window_size: 2048,
    max_position_embeddings: d.longest,
  };
}

const everyFourth = (layers: number) =>
  Array.from({ length: layers }, (_, i) => (i % 4 === 3 ? 'full_attention' : 'linear_attention'));

function common({ vocabulary, dModel }: Dimensions, layers: number) {
  return {
    vocab_size: vocabulary,
    hidden_size: dModel,
    num_hidden_layers: layers,
    tie_word_embeddings: true,
  };
}

/** Three matrices of 8/3 of the width hold as much as the usual two of four times the width. */
function feedForward({ dModel }: Dimensions): number {
  return Math.ceil((8 * dModel) / 3 / 64) * 64;
}
