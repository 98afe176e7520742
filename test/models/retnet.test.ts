// What the golden logits leave out of RetNet: variants of the block, costs, configs that are wrong.
import { createModel, describeModel, loadModel } from 'statespace';
import { describe, expect, test } from 'vitest';
import { openCheckpoint } from '../../dist/lib/checkpoint/open.js';
import { expectClose, modelCase } from '../support/golden.js';

const SMALL = {
  model_type: 'retnet_torchscale',
  vocab_size: 50,
  decoder_embed_dim: 24,
  decoder_value_embed_dim: 36,
  decoder_retention_heads: 3,
  decoder_ffn_embed_dim: 40,
  decoder_layers: 2,
};
const ids = (n: number) => Int32Array.from({ length: n }, (_, i) => (i * 7919 + 3) % 50);

test.each(['retnet_torchscale', 'retnet_torchscale_tied'])(
  '%s: parameters are the values of the file',
  async (name) => {
    const model = await loadModel(modelCase(name).folder);
    const { tensors } = await openCheckpoint(modelCase(name).folder);
    const tied = model.config.share_decoder_input_output_embed;
    let total = 0;
    for (const t of tensors.values())
      if (!t.name.startsWith('retnet_rel_pos') && !(tied && t.name === 'output_projection.weight'))
        total += t.shape.reduce((a, b) => a * b, 1);
    expect({ ...model.parameters }).toEqual({ total, active: total });
    await model.dispose();
  },
);

test('costs: a (key, value) matrix per head, the same after any number of tokens', () => {
  const { layers, sessionBytes, flopsPerToken, parameters } = describeModel(SMALL);
  expect(layers).toEqual([{ kind: 'retention', count: 2 }]);
  const state = 2 * Math.ceil((3 * 8 * 12 * 4) / 64) * 64;
  expect(sessionBytes(1)).toEqual({ state, kvCache: 0, total: state });
  expect(sessionBytes(1e6)).toEqual(sessionBytes(1));
  const norms = 24 * (2 * 2 + 1);
  expect(flopsPerToken(9)).toBe(2 * (parameters.total - norms - 50 * 24) + 6 * 2 * 3 * 8 * 12);
});

const variants: Record<string, Record<string, unknown>> = {
  'norm after': { decoder_normalize_before: false },
  deepnorm: { deepnorm: true },
  'deepnorm, norm after': { deepnorm: true, subln: false, decoder_normalize_before: false },
  'embedding norm': { layernorm_embedding: true },
  'scaled embedding': { no_scale_embedding: false },
  relu: { activation_fn: 'relu' },
  swish: { activation_fn: 'swish' },
  tied: { share_decoder_input_output_embed: true },
};

describe.each(Object.entries(variants))('%s', (_, change) => {
  test('is another network, and prefill, chunks and steps of it agree', async () => {
    const [plain, model] = await Promise.all([SMALL, { ...SMALL, ...change }].map((c) => createModel(c, { seed: 3 })));
    const whole = await model!.createSession().forward(ids(131));
    expect(whole.data).not.toEqual((await plain!.createSession().forward(ids(131))).data);
    const [chunks, steps] = [model!.createSession(), model!.createSession()];
    for (const [from, to] of [
      [0, 1],
      [1, 66],
      [66, 131],
    ]) {
      expectClose(
        (await chunks.forward(ids(131).subarray(from, to))).toFloat32Array(),
        (await model!.createSession().forward(ids(to!))).toFloat32Array(),
        { atol: 1e-5, rtol: 1e-4 },
      );
    }
    for (const id of ids(130)) await steps.forward([id], { logits: 'none' });
    const last = await steps.forward([ids(131)[130]!]);
    expectClose(last.toFloat32Array(), whole.toFloat32Array(), { atol: 1e-5, rtol: 1e-4 });
  });
});

test('what would change the network and is not supported is refused by its name, as are contradictions', async () => {
  const refused: Record<string, Record<string, unknown>> = {
    moe_freq: { moe_freq: 2, moe_expert_count: 4 },
    use_xmoe: { use_xmoe: true },
    multiway: { multiway: true },
    no_output_layer: { no_output_layer: true },
    activation_fn: { activation_fn: 'tanh' },
    subln: { deepnorm: true, subln: true },
    vocab_size: { vocab_size: -1 },
    decoder_embed_dim: { decoder_embed_dim: 27 },
    decoder_value_embed_dim: { decoder_value_embed_dim: 35 },
    decoder_hidden: { decoder_hidden: 5 },
  };
  for (const [key, change] of Object.entries(refused)) {
    await expect(createModel({ ...SMALL, ...change })).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED_MODEL',
      message: expect.stringContaining(key),
    });
  }
  const { vocab_size, ...without } = SMALL;
  await expect(createModel(without)).rejects.toThrow('vocab_size is missing');
});
