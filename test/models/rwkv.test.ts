// What the golden logits leave out of RWKV: the file alone, sizes of published models, costs, configs that are wrong.
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createModel, describeModel, loadModel } from 'statespace';
import { afterAll, describe, expect, test } from 'vitest';
import { inferRwkvConfig } from '../../dist/lib/checkpoint/infer-rwkv.js';
import { openCheckpoint } from '../../dist/lib/checkpoint/open.js';
import { expectClose, modelCase, modelNames } from '../support/golden.js';

const official = modelNames().filter((name) => /^rwkv\d_orig/.test(name));
const root = mkdtempSync(join(tmpdir(), 'statespace-rwkv-'));
afterAll(() => rmSync(root, { recursive: true }));

test.each(official)('%s without config.json: the same logits', async (name) => {
  const { folder, expected, tolerance } = modelCase(name);
  const { file } = (await openCheckpoint(folder)).tensors.get('emb.weight')!;
  const alone = mkdtempSync(join(root, name));
  symlinkSync(file, join(alone, file.endsWith('.pth') ? 'RWKV-release.pth' : 'model.safetensors'));
  const model = await loadModel(alone, { dtype: 'f32' });
  expect(model.modelType).toBe(name.slice(0, 5));
  const { input_ids, logits } = expected;
  const out = await model.createSession().forward(input_ids!.data, { logits: 'all' });
  expectClose(out.toFloat32Array(), logits!.data, tolerance);
  await model.dispose();
});

test.each(modelNames().filter((name) => name.startsWith('rwkv')))(
  '%s: parameters are the values of the file, layers those of its version',
  async (name) => {
    const { tensors } = await openCheckpoint(modelCase(name).folder);
    let total = 0;
    for (const { shape } of tensors.values()) total += shape.reduce((a, b) => a * b, 1);
    const model = await loadModel(modelCase(name).folder);
    expect({ ...model.parameters }).toEqual({ total, active: total });
    // A config alone tells the same where ranks are in it, as in what is inferred.
    const inferred = inferRwkvConfig(tensors);
    if (inferred) expect(describeModel(inferred).parameters.total).toBe(total);
    const kind = `rwkv${/\d/.exec(name)![0]}`;
    const layers = (model.config.n_layer ?? model.config.num_hidden_layers) as number;
    expect(describeModel({ ...model.config }).layers).toEqual([{ kind, count: layers }]);
    // A new one is laid out as the file is, which transformers and the releases' code insist on; ranks are those of published sizes.
    await using made = await createModel({ ...model.config });
    for (const [name, { shape }] of made.parameterList)
      if (!/[wagv][12]$/.test(name)) expect(shape, name).toEqual(tensors.get(name)!.shape);
    await model.dispose();
  },
);

const world = { vocab_size: 65536, n_layer: 24, n_embd: 2048 };

test.each([
  ['RWKV-4 169M', { model_type: 'rwkv', vocab_size: 50277, num_hidden_layers: 12, hidden_size: 768 }, 169342464],
  ['RWKV-4 1.5B', { model_type: 'rwkv4', ...world, vocab_size: 50277 }, 1515106304],
  ['RWKV-5 1.5B', { model_type: 'rwkv5', ...world }, 1577754624],
  ['RWKV-7 0.1B', { model_type: 'rwkv7', vocab_size: 65536, n_layer: 12, n_embd: 768 }, 191034624],
  ['RWKV-7 1.5B', { model_type: 'rwkv7', ...world }, 1527404544],
  ['RWKV-7 2.9B', { model_type: 'rwkv7', vocab_size: 65536, n_layer: 32, n_embd: 2560 }, 2947735040],
] as const)('the published size of %s, from its config alone', (_, config, total) => {
  expect(describeModel(config).parameters.total).toBe(total);
});

test('RWKV-6 has the sizes of its paper, to the digits given there', () => {
  const billions = (n_layer: number, n_embd: number) =>
    (describeModel({ model_type: 'rwkv6', vocab_size: 65536, n_layer, n_embd }).parameters.total / 1e9).toFixed(2);
  expect([billions(24, 2048), billions(32, 2560)]).toEqual(['1.60', '3.10']);
});

test('a session holds what the state is made of, however long it grows', () => {
  // Per layer: two shifted rows, and (5 to 7) a 64 by 64 matrix per head, (4) three rows; whole cache lines each.
  const matrices = 24 * (2 * 2048 + 32 * 64 * 64) * 4;
  for (const model_type of ['rwkv5', 'rwkv6', 'rwkv7']) {
    const { sessionBytes } = describeModel({ model_type, ...world });
    expect(sessionBytes(1)).toEqual({ state: matrices, kvCache: 0, total: matrices });
    expect(sessionBytes(1_000_000)).toEqual(sessionBytes(1));
  }
  const rows = 24 * 5 * 2048 * 4;
  expect(describeModel({ model_type: 'rwkv4', ...world }).sessionBytes(9).total).toBe(rows);
});

test('FLOPs per token: twice the parameters that are multiplied by, and the state', () => {
  const { flopsPerToken, parameters } = describeModel({ model_type: 'rwkv7', ...world });
  const multiplied = parameters.total - 65536 * 2048;
  const state = 24 * 32 * 64 * 64;
  expect(flopsPerToken(1)).toBe(flopsPerToken(1_000_000));
  expect(flopsPerToken(1)).toBeGreaterThan(2 * multiplied * 0.99 + 9 * state);
  expect(flopsPerToken(1)).toBeLessThan(2 * multiplied * 1.01 + 9 * state);
});

describe('configs', () => {
  const small = { vocab_size: 40, n_layer: 2, n_embd: 32, head_size: 16 };
  const refused = (config: Record<string, unknown>) =>
    createModel(config).then(
      () => expect.fail('was accepted'),
      (error: Error & { code: string }) => {
        expect(error.code).toBe('ERR_UNSUPPORTED_MODEL');
        return error.message;
      },
    );

  test('a missing, wrong, contradictory or unknown key is named', async () => {
    const { n_embd, ...narrow } = small;
    expect(n_embd).toBe(32);
    expect(await refused({ model_type: 'rwkv7', ...narrow })).toContain('n_embd is missing');
    expect(await refused({ model_type: 'rwkv6', ...small, n_layer: 0 })).toContain('n_layer');
    expect(await refused({ model_type: 'rwkv5', ...small, head_size: 12 })).toContain('head_size 12');
    expect(await refused({ model_type: 'rwkv5', ...small, head_size_divisor: 0 })).toContain('head_size_divisor');
    expect(await refused({ model_type: 'rwkv4', ...small })).toContain('head_size: 16 is not supported');
    expect(await refused({ model_type: 'rwkv4', ...small, head_size: null, rescale_every: -1 })).toContain(
      'rescale_every',
    );
    expect(await refused({ model_type: 'rwkv7', ...small, head_sise: 16 })).toContain('unknown key head_sise');
    expect(await refused({ model_type: 'rwkv', hidden_size: 32, n_layer: 2 })).toContain('unknown key n_layer');
    expect(await refused({ model_type: 'rwkv5', ...small, d_decay_lora: 8 })).toContain('unknown key d_decay_lora');
  });

  test('the divisor of the heads scales the epsilon behind them, rescaling that of the norms', async () => {
    const logits = async (config: Record<string, unknown>) =>
      (await (await createModel(config, { seed: 2 })).createSession().forward([1, 2, 3])).toFloat32Array();
    const base = { model_type: 'rwkv6', ...small };
    expect(await logits({ ...base, head_size_divisor: 8 })).toEqual(await logits(base));
    expect(await logits({ ...base, head_size_divisor: 800 })).not.toEqual(await logits(base));
    const four = { model_type: 'rwkv4', ...small, head_size: null, layer_norm_epsilon: 0.1 };
    const once = await logits({ ...four, rescale_every: 2 });
    expect(once).not.toEqual(await logits({ ...four, rescale_every: 0 }));
    expect(once).not.toEqual(await logits({ ...four, rescale_every: 1 }));
    expect(await logits(four)).toEqual(await logits({ ...four, rescale_every: 6 }));
  });

  test('a mixer may be wider than the model, in the versions that say so', async () => {
    for (const [model_type, matrices] of [
      ['rwkv4', 4],
      ['rwkv5', 5],
      ['rwkv6', 5],
    ] as const) {
      const config = { model_type, ...small, ...(model_type === 'rwkv4' && { head_size: null }) };
      const wide = await createModel({ ...config, dim_att: 64 });
      const grown = wide.parameters.total - describeModel(config).parameters.total;
      expect(grown).toBeGreaterThanOrEqual(2 * matrices * 32 * 32);
      expect((await wide.createSession().forward([1, 2, 3])).shape).toEqual([1, 40]);
    }
    expect(await refused({ model_type: 'rwkv7', ...small, dim_att: 64 })).toContain('unknown key dim_att');
  });

  test('a rank that the checkpoint contradicts is an error that names both shapes', async () => {
    const { folder } = modelCase('rwkv7_orig');
    const alone = mkdtempSync(join(root, 'ranks'));
    symlinkSync(join(folder, 'model.safetensors'), join(alone, 'model.safetensors'));
    const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
    writeFileSync(join(alone, 'config.json'), JSON.stringify({ ...config, d_gate_lora: 24 }));
    await expect(loadModel(alone)).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT',
      message: expect.stringMatching(/blocks\.0\.att\.g1: expected shape \(32, 24\), received \(32, 16\)/),
    });
  });
});
