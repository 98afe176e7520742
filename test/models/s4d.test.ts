// The S4D stack: whole sequences by convolution give the reference's answer, and a session, step by step or in chunks,
// what run() gives for the rows fed so far.
import { createModel, describeModel, loadModel, Tensor } from 'statespace';
import { expect, test } from 'vitest';
import { onEveryBackend } from '../conformance/backends.js';
import { expectClose, modelCase, modelNames } from '../support/golden.js';
import { wave } from '../support/sessions.js';

const f32 = { atol: 2e-6, rtol: 1e-5 };
const cases = modelNames().filter((name) => name.startsWith('s4d'));

test('there are cases', () => expect(cases).not.toEqual([]));

onEveryBackend(() => {
  test.each(cases)('%s: run() is the reference, and sessions are run()', async (name) => {
    const { folder, expected } = modelCase(name);
    const model = await loadModel(folder);
    const [batch, length, features] = expected.x!.shape as [number, number, number];
    const y = await model.run(expected.x as Tensor);
    expect(y.shape).toEqual(expected.y!.shape);
    expectClose(y.toFloat32Array(), expected.y!.data, { atol: 2e-6, rtol: 1e-4 }, 'run');
    for (const sizes of [[1], [3, 1, 7], [length]]) {
      const session = model.createSession();
      const rows = (expected.x!.data as Float32Array).subarray(0, length * features);
      let last = new Float32Array();
      for (let at = 0, i = 0; at < length; i++) {
        const n = Math.min(sizes[i % sizes.length]!, length - at);
        const piece = new Tensor(rows.slice(at * features, (at + n) * features), [n, features]);
        const answer = await session.forward(piece);
        expect(answer.shape).toEqual([1, y.shape[1]]);
        last = answer.toFloat32Array() as Float32Array<ArrayBuffer>;
        at += n;
        if (at === 20) {
          const prefix = await model.run(new Tensor(rows.slice(0, at * features), [1, at, features]));
          expectClose(last, prefix.toFloat32Array(), f32, 'the rows so far');
        }
      }
      expectClose(last, y.toFloat32Array().subarray(0, y.shape[1]), f32, `pieces of ${sizes}`);
      await session.dispose();
    }
    expect(batch).toBeGreaterThan(1);
    await model.dispose();
  });

  test('long sequences, longer than a chunk, agree in both forms and both orders of the norm', async () => {
    for (const prenorm of [true, false]) {
      const config = {
        model_type: 's4d_example',
        d_input: 2,
        d_output: 3,
        d_model: 10,
        n_layers: 2,
        d_state: 6,
        prenorm,
      };
      const model = await createModel(config, { seed: 3 });
      const x = wave(2 * 3000 * 2);
      const whole = await model.run(new Tensor(x, [2, 3000, 2]));
      const session = model.createSession();
      for (const [from, to] of [
        [0, 1700],
        [1700, 1701],
        [1701, 3000],
      ] as const)
        await session.forward(new Tensor(x.slice(2 * from, 2 * to), [to - from, 2]), { logits: 'none' });
      const copy = model.restoreSession(session.save());
      expect(copy.position).toBe(3000);
      const again = await copy.forward(new Tensor(x.slice(0, 0), [0, 2]));
      expect(again.shape).toEqual([0, 3]);
      const tail = model.createSession();
      const all = await tail.forward(new Tensor(x.slice(0, 6000), [3000, 2]));
      expectClose(all.toFloat32Array(), whole.toFloat32Array().subarray(0, 3), { atol: 1e-5, rtol: 1e-4 }, 'session');
      const more = wave(2 * 5, 7);
      const [a, b] = await Promise.all(
        [copy, tail].map(async (s) => (await s.forward(new Tensor(more, [5, 2]))).toFloat32Array()),
      );
      expectClose(a!, b!, { atol: 1e-5, rtol: 1e-4 }, 'restored');
      await model.dispose();
    }
  });
});

test('what it costs is read off the recurrence', () => {
  const d = describeModel({
    model_type: 's4d_example',
    d_input: 3,
    d_output: 5,
    d_model: 12,
    n_layers: 2,
    d_state: 16,
  });
  expect(d.layers).toEqual([{ kind: 's4', count: 2 }]);
  // Encoder and decoder, and per layer: norm, D, log_dt, the three of (12, 8) pairs, and the gated product.
  const layer = 2 * 12 + 12 + 12 + 2 * 12 * 8 + 12 * 8 * 2 + 24 * 12 + 24;
  expect(d.parameters.total).toBe(3 * 12 + 12 + 12 * 5 + 5 + 2 * layer);
  const aligned = (bytes: number) => Math.ceil(bytes / 64) * 64;
  expect(d.sessionBytes(10 ** 6)).toEqual({
    state: 2 * aligned(12 * 8 * 2 * 4) + aligned(12 * 4),
    kvCache: 0,
    total: 2 * aligned(12 * 8 * 2 * 4) + aligned(12 * 4),
  });
});

test('run takes no sequences as none, and names what is no tensor', async () => {
  const model = await createModel({ model_type: 's4d_example', d_input: 2, d_output: 3, d_model: 4, d_state: 4 });
  expect((await model.run({ data: new Float32Array(0), shape: [0, 5, 2] })).shape).toEqual([0, 3]);
  for (const bad of [null, undefined, 3, {}] as never[])
    await expect(model.run(bad)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
  await model.dispose();
});
