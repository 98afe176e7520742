// Hyena: the operator against the reference, and the language model against itself: one forward, steps, any chunks,
// forks and snapshots of one history give the same numbers.
import { createModel, describeModel, loadModel, type Tensor } from 'statespace';
import { describe, expect, test } from 'vitest';
import { onEveryBackend } from '../conformance/backends.js';
import { safetensorsOf, scratchFolders } from '../support/checkpoint-files.js';
import { expectClose, kernelCase, kernelNames } from '../support/golden.js';
import { feedRows, feedTokens, wave } from '../support/sessions.js';

const folders = scratchFolders();
const cases = kernelNames('hyena_operator');
const f32 = { atol: 2e-5, rtol: 1e-4 };

/** A case as a checkpoint: its inputs but u, "__" for ".". */
function operatorFolder(name: string): string {
  const { inputs, flags } = kernelCase(name);
  const tensors = Object.fromEntries(Object.entries(inputs).map(([key, t]) => [key.replaceAll('__', '.'), t]));
  return folders.put({
    'config.json': JSON.stringify({ model_type: 'hyena_operator', ...flags }),
    'model.safetensors': safetensorsOf(tensors),
  });
}

test('there are cases of order 2 and 3', () => {
  expect(cases.map((name) => kernelCase(name).flags.order)).toEqual(expect.arrayContaining([2, 3]));
});

const config = {
  model_type: 'hyena',
  d_model: 20,
  n_layer: 2,
  d_inner: 40,
  vocab_size: 50,
  l_max: 1500,
  filter_order: 8,
  emb_dim: 5,
  w: 10,
};

onEveryBackend(() => {
  test.each(cases)('%s', async (name) => {
    const c = kernelCase(name);
    const model = await loadModel(operatorFolder(name));
    const [, length, width] = c.inputs.u!.shape as [number, number, number];
    const y = await model.run(c.inputs.u as Tensor);
    expect(y.shape).toEqual(c.outputs.y!.shape);
    expectClose(y.toFloat32Array(), c.outputs.y!.data, c.tolerance('y', 'chunked'), 'run');
    const first = (c.inputs.u!.data as Float32Array).slice(0, length * width);
    for (const sizes of [[1], [2, 1, 3], [5]]) {
      const rows = await feedRows(model.createSession(), first, width, sizes);
      expectClose(rows, c.outputs.y!.data.slice(0, rows.length), c.tolerance('y', 'chunked'), `pieces of ${sizes}`);
    }
    await model.dispose();
  });

  test.each([2, 3, 4])(
    'a language model of order %i: prefill, steps, chunks, company, fork and snapshot agree',
    async (order) => {
      const model = await createModel({ ...config, order }, { seed: 4 });
      const ids = Int32Array.from({ length: 300 }, (_, i) => (i * 31 + 7) % 50);
      const whole = model.createSession();
      const want = (await whole.forward(ids, { logits: 'all' })).toFloat32Array();
      for (const sizes of [[1], [64, 1, 3, 37, 100], [33], [32], [299, 1]]) {
        const session = model.createSession();
        expectClose(await feedTokens(session, ids, sizes), want, f32, `pieces of ${sizes}`);
        expect(session.bytes).toBe(whole.bytes);
      }
      const fork = whole.fork();
      const restored = model.restoreSession(whole.save());
      const next = ids.subarray(0, 70);
      const [a, b, c] = await Promise.all(
        [whole, fork, restored].map((s) => feedTokens(s, next, s === fork ? [1] : [70])),
      );
      expectClose(b!, a!, f32, 'fork');
      expectClose(c!, a!, f32, 'restored');
      await model.dispose();
    },
  );

  test('a prompt of several chunks agrees with small pieces', async () => {
    const model = await createModel({ ...config, n_layer: 1, l_max: 9000 }, { seed: 5 });
    const ids = Int32Array.from({ length: 9000 }, (_, i) => (i * i + 3 * i) % 50);
    const whole = await model.createSession().forward(ids);
    const pieces = model.createSession();
    for (let at = 0; at < 9000; at += 700) await pieces.forward(ids.subarray(at, at + 700), { logits: 'none' });
    const session = model.createSession();
    await session.forward(ids.subarray(0, 8998), { logits: 'none' });
    await session.forward(ids.subarray(8998, 8999), { logits: 'none' });
    expectClose((await session.forward(ids.subarray(8999))).toFloat32Array(), whole.toFloat32Array(), f32);
    expect(pieces.position).toBe(9000);
    await model.dispose();
  });
});

describe('limits and costs', () => {
  test('a sequence ends where the filters end', async () => {
    const model = await createModel({ ...config, l_max: 100 });
    const session = model.createSession();
    await session.forward(new Int32Array(99));
    await expect(session.forward(new Int32Array(2))).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
      message: expect.stringMatching(/at most 100 tokens.*received 2 after 99/),
    });
    expect(session.position).toBe(99);
    await session.forward(new Int32Array(1));
    await expect(model.createSession().forward(new Int32Array(101))).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
  });

  test('the history is accounted for, f32 whatever the model is held in', async () => {
    for (const dtype of ['f32', 'bf16'] as const) {
      const model = await createModel({ ...config, order: 3 }, { dtype });
      const session = model.createSession();
      for (const n of [1, 63, 1, 200]) {
        await session.forward(new Int32Array(n), { logits: 'none' });
        const { state, kvCache, total } = model.sessionBytes(session.position);
        expect(session.bytes).toBe(total);
        expect(kvCache).toBe(Math.ceil(session.position / 64) * 64 * 2 * 2 * 20 * 4);
        expect(state).toBe(2 * Math.ceil((4 * 20 * 2 * 4) / 64) * 64);
      }
      await model.dispose();
    }
  });

  test('describes layers, parameters and FLOPs', () => {
    const d = describeModel({ ...config, order: 3 });
    expect(d.layers).toEqual([{ kind: 'hyena', count: 2 }]);
    const mixer = 80 * 20 + 80 + 80 * 3 + 80 + 20 * 20 + 20;
    const filter = 1500 * 5 + 8 + (8 * 5 + 8) + 2 * (8 * 8 + 8) + 40 * 8 + 40; // z counts, t and deltas are buffers
    const rest = 4 * 20 + 2 * 20 * 40 + 40 + 20;
    expect(d.parameters.total).toBe(50 * 20 + 2 * (mixer + filter + rest) + 2 * 20);
    expect(d.flopsPerToken(1000) - d.flopsPerToken(0)).toBe(2 * 2 * 2 * 20 * 1000);
  });

  test('safari nests the operator: the same model', async () => {
    const { l_max, filter_order, emb_dim, w, ...outer } = config;
    const nested = { ...outer, layer: { _name_: 'hyena', l_max, filter_order, emb_dim, w, fused_bias_fc: true } };
    const [a, b] = await Promise.all([createModel(config, { seed: 1 }), createModel(nested, { seed: 1 })]);
    const ids = Int32Array.from(wave(40), (x) => Math.floor(20 * (x + 1)));
    const [ya, yb] = await Promise.all([a, b].map((m) => m!.createSession().forward(ids)));
    expect(ya!.data).toEqual(yb!.data);
  });

  test('new filters start as the reference makes them', async () => {
    const c = kernelCase('hyena_operator__order2_short');
    const { flags, inputs } = c;
    const tensors = Object.fromEntries(Object.entries(inputs).map(([key, t]) => [key.replaceAll('__', '.'), t]));
    // What is computed and not trained: without the stored values, ours must stand in for them exactly enough.
    const { z, t, deltas } = await initialPositions(flags.l_max as number, flags.emb_dim as number, 8);
    expectClose(z, tensors['filter_fn.pos_emb.z']!.data, { atol: 2e-6, rtol: 0 }, 'z');
    expectClose(t, tensors['filter_fn.pos_emb.t']!.data, { atol: 1e-7, rtol: 0 }, 't');
    expectClose(deltas, tensors['filter_fn.modulation.deltas']!.data, { atol: 2e-6, rtol: 0 }, 'deltas');
  });
});

/** Initial values that the layer declares, read off its graph. */
async function initialPositions(lMax: number, embDim: number, channels: number) {
  const { Graph } = await import('../../dist/lib/graph/graph.js');
  const { Weights } = await import('../../dist/lib/graph/weights.js');
  const { hyena } = await import('../../dist/lib/layers/hyena.js');
  const g = new Graph();
  hyena(g, g.input(channels), new Weights(g), { lMax, embDim, filterOrder: 16 });
  const found: Record<string, Float32Array> = {};
  for (const spec of g.weights.values())
    spec.sources.forEach((s, i) => {
      const init = spec.init[i]!;
      if ('values' in init) found[s.name] = init.values(() => 0.5);
    });
  return {
    z: found['filter_fn.pos_emb.z']!,
    t: found['filter_fn.pos_emb.t']!,
    deltas: found['filter_fn.modulation.deltas']!,
  };
}
