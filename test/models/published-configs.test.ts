// Configs as they were published are understood; what would change results in them is refused by name.
import { createModel, describeModel } from 'statespace';
import { describe, expect, test, vi } from 'vitest';
import { refusal } from '../support/refusal.js';

type Config = Record<string, unknown>;

// As they were published: with keys of their first implementation, of the original package, or of serving.
const published: Record<string, Config> = {
  'state-spaces/mamba-130m-hf': {
    ...{ model_type: 'mamba', d_inner: 1536, d_model: 768, hidden_size: 768, intermediate_size: 1536, n_layer: 24 },
    ...{ num_hidden_layers: 24, fused_add_norm: true, pad_vocab_size_multiple: 8, rms_norm: true, ssm_cfg: {} },
  },
  'mistralai/Mamba-Codestral-7B': {
    ...{ model_type: 'mamba2', hidden_size: 4096, intermediate_size: 8192, num_heads: 128, head_dim: 64, n_groups: 8 },
    ...{ norm_before_gate: true, rms_norm: true, time_step_limit: [0, Number.POSITIVE_INFINITY], time_step_rank: 256 },
  },
  'ai21labs/Jamba-v0.1': {
    ...{ model_type: 'jamba', calc_logits_for_entire_prompt: false, mamba_inner_layernorms: true, n_ctx: 262144 },
    ...{ sliding_window: null, num_logits_to_keep: 1 },
  },
  'Falcon-H1-0.5B, as 4.57 saved it': {
    ...{ model_type: 'falcon_h1', attn_layer_indices: null, mamba_use_mlp: true, mlp_expansion_factor: 8 },
    ...{ num_logits_to_keep: 1, projectors_bias: false, mamba_d_ssm: 1536, mamba_n_heads: 24, mamba_d_head: 64 },
  },
  'a small Falcon-H1': {
    ...{ model_type: 'falcon_h1', add_bos_token: false, expansion_factor: 1.5, sliding_window: null },
    ...{ mamba_d_ssm: 768, mamba_n_heads: 24, mamba_d_head: 32 },
  },
  'a Granite of 350M': {
    ...{ model_type: 'granitemoehybrid', init_method: 'mup', normalization_function: 'rmsnorm', num_local_experts: 0 },
    ...{ num_experts_per_tok: 0, rope_scaling: null, position_embedding_type: 'nope', num_hidden_layers: 2 },
    ...{ layer_types: ['mamba', 'attention'] },
  },
  'Zyphra/Zamba2-2.7B-Instruct-v2': {
    ...{
      model_type: 'zamba2',
      ffn_hidden_size: 10240,
      intermediate_size: 10240,
      hybrid_layer_ids: [1],
      kv_channels: 80,
    },
    ...{ layers_block_type: ['mamba', 'hybrid'], num_hidden_layers: 2, num_query_groups: 32, use_mem_eff_path: true },
    ...{ use_shared_mlp_adapter: true, time_step_limit: null, use_long_context: false },
  },
  'a tiny Zamba2, whose heads of one channel do not rotate': {
    ...{ model_type: 'zamba2', hidden_size: 16, attention_hidden_size: 32, attention_head_dim: 1, conv_kernel: 3 },
    ...{ d_model: 16, d_state: 32, expand: 2, mamba_headdim: 4, n_mamba_heads: 8, num_attention_heads: 32 },
    ...{ num_hidden_layers: 2, layers_block_type: ['mamba', 'hybrid'], use_mem_rope: false, rope_theta: 10000 },
  },
  'Nemotron, with keys of its first code': {
    ...{ model_type: 'nemotron_h', hybrid_override_pattern: 'M-*', num_query_groups: 8, time_step_rank: 256 },
    ...{ norm_eps: 1e-5, rope_theta: 10000, partial_rotary_factor: 1, is_hybrid_model: true },
  },
  'ibm-fms/Bamba-9B': {
    ...{ model_type: 'bamba', attn_layer_indices: [9, 18, 27], attn_rotary_emb: 64, mamba_dt_rank: 256 },
    ...{ mamba_d_state: 128, mamba_d_head: 64, num_logits_to_keep: 1, use_mamba_kernels: true, vocab_size: 128256 },
  },
  'a tiny LFM2, of which widths of the first code say otherwise': {
    ...{ model_type: 'lfm2', hidden_size: 16, block_dim: 1024, conv_dim: 1024, conv_dim_out: 1024, num_heads: 16 },
    ...{
      num_attention_heads: 4,
      num_key_value_heads: 4,
      num_hidden_layers: 2,
      layer_types: ['conv', 'full_attention'],
    },
    ...{ block_ff_dim: 6656, intermediate_size: 4608, block_multiple_of: 8, use_pos_enc: true },
  },
  'LFM2 with keys of a runtime': {
    ...{ model_type: 'lfm2', 'transformers.js_config': { kv_cache_dtype: { q4f16: 'float16' } }, num_hidden_layers: 2 },
    ...{ layer_types: ['conv', 'full_attention'], tie_embedding: true },
  },
  'a tiny MiniMax': {
    ...{ model_type: 'minimax', head_dim: 16, hidden_size: 64, num_attention_heads: 4, num_key_value_heads: 2 },
    ...{ num_hidden_layers: 2, layer_types: ['linear_attention', 'linear_attention'], postnorm: true, rotary_dim: 64 },
    ...{ rope_parameters: { rope_theta: 1e6, rope_type: 'default' }, rope_theta: 1e7, router_jitter_noise: 0.0 },
    ...{ shared_intermediate_size: 0, shared_moe_mode: 'sigmoid', num_local_experts: 4 },
  },
  'Gemma 2, as first released': { model_type: 'gemma2', sliding_window: 4096, sliding_window_size: 4096 },
  'RecurrentGemma, as first released': { model_type: 'recurrent_gemma', embeddings_scale_by_sqrt_dim: true },
  'Qwen3.5 of experts': {
    model_type: 'qwen3_5_moe_text',
    num_hidden_layers: 4,
    norm_topk_prob: true,
    mlp_only_layers: [],
  },
  'meta-llama/Llama-2-7b': { model_type: 'llama', max_sequence_length: 2048, rope_scaling: null, pretraining_tp: 1 },
};

test.each(Object.entries(published))('the config of %s is understood', (_, config) => {
  const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
  expect(refusal(config)).toBeUndefined();
  expect(warn).not.toHaveBeenCalled();
  warn.mockRestore();
});

test('where rope_theta stands twice, the one of rope_parameters counts', async () => {
  const small = { hidden_size: 16, intermediate_size: 8, num_hidden_layers: 1, num_attention_heads: 2, vocab_size: 9 };
  const logits = async (rope: Config) => {
    await using model = await createModel({ model_type: 'llama', ...small, ...rope }, { seed: 1 });
    return (await model.createSession().forward([1, 2, 3, 4])).toFloat32Array();
  };
  const now = { rope_parameters: { rope_type: 'default', rope_theta: 6 } };
  expect(await logits({ ...now, rope_theta: 5 })).toEqual(await logits(now));
  expect(await logits({ rope_theta: 5 })).not.toEqual(await logits(now));
});

describe('rope_scaling beside rope_parameters counts whole, as in transformers 5.18', () => {
  const small = { hidden_size: 16, intermediate_size: 8, num_hidden_layers: 2, num_attention_heads: 2, vocab_size: 9 };
  const families: Config[] = [
    { model_type: 'llama', ...small },
    { model_type: 'qwen2', ...small, num_key_value_heads: 2 },
    { model_type: 'minimax', ...small, num_key_value_heads: 2, head_dim: 8, num_local_experts: 2 },
    { model_type: 'olmo_hybrid', ...small, num_hidden_layers: 4, linear_key_head_dim: 8 },
  ];
  const logits = async (config: Config) => {
    await using model = await createModel(config, { seed: 1 });
    return (await model.createSession().forward([1, 2, 3, 4, 5, 6])).toFloat32Array();
  };
  const linear = { rope_type: 'linear', factor: 4 };
  const newer = { rope_type: 'linear', factor: 2, rope_theta: 3 };
  test.each(families)('$model_type', async (family) => {
    const older = await logits({ ...family, rope_scaling: linear });
    expect(await logits({ ...family, rope_parameters: newer, rope_scaling: linear })).toEqual(older);
    expect(await logits({ ...family, rope_parameters: newer })).not.toEqual(older);
    const equal = { ...family, rope_parameters: newer, rope_scaling: newer };
    expect(await logits(equal)).toEqual(await logits({ ...family, rope_parameters: newer }));
    for (const nothing of [{}, null])
      expect(await logits({ ...equal, rope_scaling: nothing })).toEqual(await logits(equal));
    const outer = { ...family, rope_parameters: newer, rope_theta: 7 };
    const whole = { ...family, rope_parameters: { ...linear, rope_theta: 7 } };
    expect(await logits({ ...outer, rope_scaling: linear })).toEqual(await logits(whole));
    expect(await logits(outer)).toEqual(await logits({ ...family, rope_parameters: newer }));
  });
  test('gemma3_text: it is added to the layers that see all', async () => {
    const gemma = { model_type: 'gemma3_text', ...small, num_key_value_heads: 2, head_dim: 8, sliding_window: 3 };
    const kinds = { layer_types: ['full_attention', 'sliding_attention'] };
    const sliding_attention = { rope_type: 'default', rope_theta: 3 };
    const full = (more: Config) => ({
      full_attention: { rope_type: 'default', rope_theta: 5, ...more },
      sliding_attention,
    });
    const config = { ...gemma, ...kinds, rope_parameters: full({}) };
    const said = await logits({ ...config, rope_parameters: full(linear) });
    expect(await logits({ ...config, rope_scaling: linear })).toEqual(said);
    expect(await logits(config)).not.toEqual(said);
  });
  test('olmo_hybrid rotates but where the base is null', async () => {
    const olmo = families[3]!;
    const [plain, none] = [await logits(olmo), await logits({ ...olmo, rope_theta: null })];
    expect(plain).toEqual(await logits({ ...olmo, rope_parameters: { rope_type: 'default', rope_theta: 1e4 } }));
    expect(plain).not.toEqual(none);
    expect(await logits({ ...olmo, rope_parameters: { rope_type: 'default', rope_theta: null } })).toEqual(none);
  });
});

test('attn_type_list of MiniMax says the kinds of layers where layer_types does not', async () => {
  const config = { model_type: 'minimax', num_hidden_layers: 4 };
  const kinds = (of: Config) => describeModel({ ...config, ...of }).layers;
  const linear = 'linear_attention';
  expect(kinds({ attn_type_list: [0, 0, 0, 1] })).toEqual(
    kinds({ layer_types: [linear, linear, linear, 'full_attention'] }),
  );
  expect(kinds({ attn_type_list: [0, 0, 0, 0], layer_types: Array(4).fill('full_attention') })).toEqual(
    kinds({ layer_types: Array(4).fill('full_attention') }),
  );
  for (const wrong of [[0, 0, 0], [0, 0, 0, 2], 'full_attention'])
    expect(refusal({ ...config, attn_type_list: wrong })).toMatch(
      /attn_type_list: expected 0 or 1 for each of 4 layers/,
    );
});

test('MiniMax as first released is the same model in other words', async () => {
  const small = { hidden_size: 16, num_attention_heads: 2, num_key_value_heads: 1, head_dim: 8, num_local_experts: 2 };
  const sizes = { ...small, intermediate_size: 12, vocab_size: 20, num_hidden_layers: 3, rotary_dim: 4 };
  const logits = async (config: Config) => {
    await using model = await createModel({ ...sizes, ...config }, { seed: 1 });
    return (await model.createSession().forward([1, 2, 3, 4])).toFloat32Array();
  };
  const first = {
    ...{ layernorm_full_attention_alpha: 3.5, layernorm_full_attention_beta: 0.5, layernorm_linear_attention_alpha: 2 },
    ...{ layernorm_linear_attention_beta: 0.75, layernorm_mlp_alpha: 1.5, layernorm_mlp_beta: 0.25 },
    ...{ attn_type_list: [0, 1, 0], postnorm: true, shared_moe_mode: 'sigmoid', shared_intermediate_size: 0 },
  };
  const now = await logits({
    ...{ model_type: 'minimax', full_attn_alpha_factor: 3.5, full_attn_beta_factor: 0.5, linear_attn_alpha_factor: 2 },
    ...{ linear_attn_beta_factor: 0.75, mlp_alpha_factor: 1.5, mlp_beta_factor: 0.25 },
    layer_types: ['linear_attention', 'full_attention', 'linear_attention'],
  });
  expect(await logits({ ...first, model_type: 'minimax_text_01' })).toEqual(now);
  expect(await logits({ ...first, model_type: 'minimax_m1' })).toEqual(now);
  expect(await logits({ ...first, model_type: 'minimax_m1', layernorm_mlp_alpha: 1 })).not.toEqual(now);
});

test.each([
  [{ model_type: 'zaya', rope_parameters: { hybrid: {} }, rope_scaling: { factor: 2 } }, /rope_scaling beside/],
  [{ model_type: 'minimax', shared_intermediate_size: 8 }, /shared_intermediate_size: 8 is not supported/],
  [{ model_type: 'granitemoehybrid', normalization_function: 'layernorm' }, /normalization_function: "layernorm"/],
  [{ model_type: 'zamba2', use_shared_mlp_adapter: false }, /use_shared_mlp_adapter: false is not supported/],
  [{ model_type: 'zamba2', intermediate_size: 512, ffn_hidden_size: 511 }, /ffn_hidden_size 511 contradicts/],
  [{ model_type: 'recurrent_gemma', embeddings_scale_by_sqrt_dim: false }, /embeddings_scale_by_sqrt_dim: false/],
  [{ model_type: 'qwen3_5_moe_text', norm_topk_prob: false }, /norm_topk_prob: false is not supported/],
  [{ model_type: 'qwen3_next', use_sliding_window: true }, /use_sliding_window: true is not supported/],
  [{ model_type: 'llama', rope_interleaved: true }, /rope_interleaved: true is not supported/],
  [{ model_type: 'qwen2', use_mrope: true }, /use_mrope: true is not supported/],
])('what would change results there is refused: %j', (config, message) => {
  expect(refusal(config)).toMatch(message);
});
