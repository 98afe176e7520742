// Gradients of networks against differences of their losses, tensor by tensor: families that no case of autograd is there for.
import { createModel, createTrainer, supportedModels, type Tensor } from 'statespace';
import { describe, expect, test } from 'vitest';

const WIDTHS = { vocab_size: 37, hidden_size: 24, intermediate_size: 40, num_hidden_layers: 2 };
const HEADS = { num_attention_heads: 4, num_key_value_heads: 2 };
const LINEAR = {
  ...{ layer_types: ['linear_attention', 'full_attention'], linear_num_key_heads: 2, linear_num_value_heads: 4 },
  ...{ linear_key_head_dim: 4, linear_value_head_dim: 6 },
};
// All of them: where two are near a tie, the loss is not straight.
const EXPERTS = {
  num_experts: 3,
  num_experts_per_tok: 3,
  moe_intermediate_size: 8,
  shared_expert_intermediate_size: 8,
};
const MAMBA2 = { mamba_n_heads: 4, mamba_d_head: 12, mamba_n_groups: 1, mamba_d_state: 5, mamba_expand: 2 };
const RWKV = { vocab_size: 37, n_embd: 24, n_layer: 2 };
const RETNET = {
  model_type: 'retnet_torchscale',
  vocab_size: 37,
  decoder_embed_dim: 24,
  decoder_value_embed_dim: 36,
  decoder_ffn_embed_dim: 40,
  decoder_layers: 2,
};
const MAMBA3 = (more: object = {}) => ({
  ...{
    model_type: 'mamba_ssm',
    d_model: 24,
    n_layer: 2,
    vocab_size: 37,
    pad_vocab_size_multiple: 1,
    tie_embeddings: false,
  },
  ssm_cfg: {
    layer: 'Mamba3',
    d_state: 8,
    headdim: 12,
    expand: 2,
    ngroups: 1,
    rope_fraction: 0.5,
    chunk_size: 16,
    ...more,
  },
});
const families: Record<string, Record<string, unknown>> = {
  mamba: { model_type: 'mamba', vocab_size: 37, hidden_size: 24, num_hidden_layers: 2, state_size: 5 },
  rwkv4: { model_type: 'rwkv4', ...RWKV },
  rwkv5: { model_type: 'rwkv5', ...RWKV, head_size: 6 },
  rwkv6: { model_type: 'rwkv6', ...RWKV, head_size: 6 },
  rwkv7: { model_type: 'rwkv7', ...RWKV, head_size: 6 },
  retnet: RETNET,
  gla: {
    ...{ model_type: 'gla', vocab_size: 37, hidden_size: 24, intermediate_size: 40, num_hidden_layers: 2 },
    ...{ num_heads: 4, num_kv_heads: 2, expand_k: 0.5, expand_v: 1, use_short_conv: true },
  },
  mistral: { model_type: 'mistral', ...WIDTHS, ...HEADS, sliding_window: 5 },
  qwen3: { model_type: 'qwen3', ...WIDTHS, ...HEADS, head_dim: 6 },
  gemma2: { model_type: 'gemma2', ...WIDTHS, ...HEADS, head_dim: 6, query_pre_attn_scalar: 6 },
  qwen3_next: { model_type: 'qwen3_next', ...WIDTHS, ...HEADS, ...LINEAR, ...EXPERTS, head_dim: 6 },
  olmo_hybrid: { model_type: 'olmo_hybrid', ...WIDTHS, ...HEADS, ...LINEAR, linear_num_value_heads: 2 },
  minimax: {
    model_type: 'minimax',
    ...WIDTHS,
    ...HEADS,
    layer_types: LINEAR.layer_types,
    num_local_experts: 2,
    head_dim: 6,
  },
  lfm2: {
    model_type: 'lfm2',
    ...WIDTHS,
    ...HEADS,
    layer_types: ['conv', 'full_attention'],
    block_auto_adjust_ff_dim: false,
  },
  mamba3: MAMBA3(),
  mamba3_norm: MAMBA3({ is_outproj_norm: true, ngroups: 2, rope_fraction: 1 }),
  mamba3_mimo: MAMBA3({ is_mimo: true, mimo_rank: 3, is_outproj_norm: true }),
  lfm2_moe: {
    ...{ model_type: 'lfm2_moe', ...WIDTHS, ...HEADS, layer_types: ['conv', 'full_attention'] },
    ...{ num_dense_layers: 1, num_experts: 3, num_experts_per_tok: 3, moe_intermediate_size: 8 },
  },
  nemotron_h: {
    ...{
      model_type: 'nemotron_h',
      ...WIDTHS,
      ...HEADS,
      num_hidden_layers: 3,
      head_dim: 6,
      layers_block_type: ['mamba', 'attention', 'moe'],
    },
    ...{ mamba_num_heads: 4, mamba_head_dim: 12, n_groups: 1, ssm_state_size: 5 },
    ...{
      n_routed_experts: 4,
      num_experts_per_tok: 4,
      moe_intermediate_size: 8,
      moe_shared_expert_intermediate_size: 8,
      n_group: 1,
    },
  },
  hyena: {
    ...{ model_type: 'hyena', vocab_size: 37, d_model: 12, n_layer: 2, d_inner: 20, l_max: 16 },
    ...{ order: 3, filter_order: 7, emb_dim: 5, tie_word_embeddings: true },
  },
  falcon_h1: { model_type: 'falcon_h1', ...WIDTHS, ...HEADS, ...MAMBA2, mamba_d_ssm: 48 },
  granitemoehybrid: {
    ...{ model_type: 'granitemoehybrid', ...WIDTHS, ...HEADS, ...MAMBA2, layer_types: ['mamba', 'attention'] },
    ...{ num_local_experts: 3, num_experts_per_tok: 2, shared_intermediate_size: 20, residual_multiplier: 0.7 },
  },
  zamba2: {
    ...{ model_type: 'zamba2', ...WIDTHS, num_attention_heads: 4, num_hidden_layers: 3, adapter_rank: 2 },
    ...{ layers_block_type: ['mamba', 'hybrid', 'hybrid'], n_mamba_heads: 4, mamba_ngroups: 1, mamba_d_state: 5 },
  },
};

interface Internal {
  exclusive<T>(work: () => Promise<T>): Promise<T>;
  write(which: 'value', values: ReadonlyMap<string, Float32Array>): Promise<void>;
}

describe.each(Object.entries(families))('%s', (_, config) => {
  test('every tensor', async () => {
    expect(supportedModels()).toContain(config.model_type);
    await using model = await createModel(config, { seed: 5, device: 'cpu' });
    await using trainer = createTrainer(model);
    const inside = trainer as unknown as Internal;
    const data = Int32Array.from({ length: 22 }, (_, i) => (i * i * 7 + 3 * i) % 37);
    const batch = { ids: { data, shape: [1, 22] }, cuSeqlens: Int32Array.from([0, 9, 22]) };
    const { gradients } = await trainer.gradients(batch);
    const values = await trainer.parameters();
    await using again = createTrainer(model, { recompute: 'blocks' });
    for (const [name, g] of (await again.gradients(batch)).gradients)
      expect(g.data, name).toEqual(gradients.get(name)!.data);
    expect([...gradients.keys()].sort()).toEqual(
      [...model.parameterList.values()]
        .filter((p) => !p.buffer)
        .map((p) => p.name)
        .sort(),
    );
    const lossAt = async (name: string, t: Float32Array) => {
      await inside.exclusive(() => inside.write('value', new Map([[name, t]])));
      return (await trainer.evaluate(batch)).loss;
    };
    for (const [name, g] of gradients) {
      const [value, gradient] = [values.get(name)!.data as Float32Array, (g as Tensor).data as Float32Array];
      const slope = gradient.reduce((a, x) => a + Math.abs(x), 0);
      // Far enough that the loss differs by more than its rounding, near enough that it is straight.
      const step = Math.min(2e-2, Math.max(1e-4, 2e-3 / Math.max(slope, 1e-9)));
      const moved = (sign: number) => value.map((v, i) => v + sign * step * Math.sign(gradient[i]!));
      const difference = (await lossAt(name, moved(1))) - (await lossAt(name, moved(-1)));
      await inside.exclusive(() => inside.write('value', new Map([[name, value]])));
      expect(Math.abs(difference - 2 * step * slope), name).toBeLessThan(2e-5 + 0.05 * Math.abs(difference));
    }
  });
});
