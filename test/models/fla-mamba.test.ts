// flash-linear-attention writes other configs under transformers' model_types mamba and mamba2: told apart, and read as it
// means them.
import { createModel, describeModel } from 'statespace';
import { describe, expect, it } from 'vitest';

const shared = {
  model_type: 'mamba2',
  vocab_size: 61,
  hidden_size: 32,
  num_hidden_layers: 2,
  state_size: 16,
  head_dim: 16,
};
/** As fla 0.5.2 writes it, every key of its own. */
const fla = {
  ...{ ...shared, num_heads: 4, expand: 2, conv_kernel: 4, n_groups: 1, use_bias: false, use_conv_bias: true },
  ...{ norm_eps: 1e-3, dt_limit: [0.01, 0.2], dt_min: 0.001, dt_max: 0.1, dt_init_floor: 1e-4, rmsnorm: true },
  ...{ norm_before_gate: false, A_init_range: [1, 16], conv_init: null, D_has_hdim: false, hidden_act: 'silu' },
  ...{ initializer_range: 0.02, residual_in_fp32: true, rescale_prenorm_residual: true, chunk_size: 256 },
  ...{ fuse_norm: true, fuse_cross_entropy: true, fuse_linear_cross_entropy: false, use_l2warp: false },
  ...{
    tie_word_embeddings: false,
    architectures: ['Mamba2ForCausalLM'],
    transformers_version: '5.18.0',
    use_cache: true,
  },
};
const transformers = {
  ...{ ...shared, num_heads: 4, expand: 2, conv_kernel: 4, n_groups: 1, layer_norm_epsilon: 1e-3 },
  time_step_limit: [0.01, 0.2],
};
const ids = [1, 5, 9, 60, 3, 3, 7];

async function logits(config: Record<string, unknown>): Promise<Float32Array> {
  await using model = await createModel(config, { seed: 5 });
  return (await model.createSession().forward(ids, { logits: 'all' })).data as Float32Array;
}

it('is the same network where the two agree', async () => {
  expect(await logits(fla)).toEqual(await logits(transformers));
});

it('norms each group, as fla does, and not the whole width, as transformers does', async () => {
  const grouped = await logits({ ...fla, n_groups: 2 });
  expect(grouped).toEqual(await logits({ ...transformers, n_groups: 2, norm_groups: 2 }));
  expect(grouped).not.toEqual(await logits({ ...transformers, n_groups: 2 }));
});

describe('what only fla has changes the network:', () => {
  it.each([{ norm_before_gate: true }, { rmsnorm: false }, { dt_limit: [0, 0.05] }, { norm_eps: 0.1 }])(
    '%j',
    async (key) => {
      expect(await logits({ ...fla, ...key })).not.toEqual(await logits(fla));
    },
  );

  it('D for each channel', () => {
    const { total } = describeModel(fla).parameters;
    expect(describeModel({ ...fla, D_has_hdim: true }).parameters.total - total).toBe(2 * (64 - 4));
  });
});

it('has defaults of its own', () => {
  const { norm_eps: _, ...rest } = fla;
  const least = { model_type: 'mamba2', norm_eps: 1e-5 };
  expect(describeModel(least).layers).toEqual(
    describeModel({
      ...rest,
      ...{ hidden_size: 2048, num_hidden_layers: 48, head_dim: 64 },
      ...{ num_heads: 64, vocab_size: 32000, state_size: 128 },
    }).layers,
  );
  expect(describeModel(least).parameters.total).toBeGreaterThan(1e9);
});

it('as its older releases wrote it, with names of transformers beside norm_eps', async () => {
  const { rmsnorm: _, dt_limit, dt_min, dt_max, dt_init_floor, D_has_hdim: __, A_init_range: ___, ...rest } = fla;
  const times = { time_step_limit: dt_limit, time_step_min: dt_min, time_step_max: dt_max, time_step_rank: 128 };
  const older = { ...rest, ...times, time_step_floor: dt_init_floor, rms_norm: true, fuse_swiglu: true };
  expect(await logits(older)).toEqual(await logits(fla));
});

it.each(['fuse_norm', 'fuse_swiglu', 'fuse_cross_entropy', 'fuse_linear_cross_entropy', 'use_l2warp', 'dt_min'])(
  'is told by %s alone',
  (key) => {
    const least = describeModel({ model_type: 'mamba2', norm_eps: 1e-5 });
    expect(describeModel({ model_type: 'mamba2', [key]: key === 'dt_min' ? 1e-3 : true })).toMatchObject({
      layers: least.layers,
      parameters: least.parameters,
    });
  },
);

it('infinity as both releases of transformers write it', async () => {
  const open = { ...fla, dt_limit: [0, Number.POSITIVE_INFINITY] };
  expect(await logits({ ...fla, dt_limit: [0, { __float__: 'Infinity' }] })).toEqual(await logits(open));
});

it.each([
  [{ num_heads: 5 }, /num_heads 5 · head_dim 16 must be/],
  [{ n_groups: 3 }, /num_heads 4 is no multiple of n_groups 3/],
  [{ hidden_act: 'gelu' }, /hidden_act/],
  [{ dt_limit: [2, 1] }, /dt_limit: expected \[low, high\]/],
  [{ state_expand: 3 }, /state_expand/],
])('%j is refused', (key, message) => {
  expect(() => describeModel({ ...fla, ...key })).toThrow(message);
});

describe('mamba', () => {
  const sizes = { model_type: 'mamba', vocab_size: 61, hidden_size: 32, num_hidden_layers: 2, state_size: 5 };
  const both = { ...sizes, expand: 2, conv_kernel: 3, use_bias: true, time_step_rank: 3, tie_word_embeddings: false };
  /** As fla 0.5.2 writes it, every key of its own. */
  const fla = {
    ...{ ...both, norm_eps: 1e-3, intermediate_size: 64, hidden_act: 'silu', use_conv_bias: true, use_cache: true },
    ...{ residual_in_fp32: false, rescale_prenorm_residual: false, time_step_scale: 1, initializer_range: 0.02 },
    ...{ time_step_min: 0.001, time_step_max: 0.1, time_step_init_scheme: 'random', time_step_floor: 1e-4 },
    ...{ fuse_norm: true, fuse_cross_entropy: true, fuse_linear_cross_entropy: false, use_l2warp: false },
  };

  it("is transformers' network under other names", async () => {
    const transformers = { ...both, layer_norm_epsilon: 1e-3 };
    expect(await logits(fla)).toEqual(await logits(transformers));
    expect(await logits({ ...fla, norm_eps: 0.1 })).not.toEqual(await logits(fla));
  });

  it('has defaults of its own, and a bias of the convolution whatever use_conv_bias says', async () => {
    const least = describeModel({ model_type: 'mamba', norm_eps: 1e-5 });
    const transformers = { model_type: 'mamba', vocab_size: 32000, hidden_size: 2048, num_hidden_layers: 48 };
    expect(least.parameters).toEqual(describeModel({ ...transformers, tie_word_embeddings: false }).parameters);
    expect(await logits({ ...fla, use_conv_bias: false })).toEqual(await logits(fla));
    const sized = { ...fla, intermediate_size: 65 };
    await expect(createModel(sized)).rejects.toThrow('intermediate_size 65 contradicts the other keys');
  });
});
