// Model.forwardBatch: prompts and single tokens of several sessions in one pass.
import { createModel, loadModel, Tensor } from 'statespace';
import { describe, expect, test } from 'vitest';
import { modelCase, relativeL2 } from '../support/golden.js';
import { wanted } from '../support/stalls.js';

const NAMES = ['mamba_hf', 'llama_gqa', 'mamba2_hf', 'jamba_p4_o3_moe'];
const ids = (n: number, seed: number) => Int32Array.from({ length: n }, (_, i) => (i * 31 + seed * 17) % 60);

describe.each(NAMES)('%s', (name) => {
  test('a batch of prompts and steps gives what each session gives alone', async () => {
    const model = await loadModel(modelCase(name).folder, { dtype: 'f32' });
    const inputs = [ids(70, 1), ids(1, 2), ids(5, 3), ids(0, 4), ids(1, 5), ids(33, 6)];
    const modes = ['last', 'all', 'all', 'last', 'none', 'last'] as const;
    const start = async (i: number) => {
      const session = model.createSession();
      await session.forward(ids(3 * i, i), { logits: 'none' });
      return session;
    };
    const alone = await Promise.all(inputs.map((_, i) => start(i)));
    const together = await Promise.all(inputs.map((_, i) => start(i)));
    const got = await model.forwardBatch(
      together.map((session, i) => ({ session, tokens: inputs[i]!, logits: modes[i] })),
    );
    for (let i = 0; i < inputs.length; i++) {
      const want = await alone[i]!.forward(inputs[i]!, { logits: modes[i] });
      expect(got[i]!.shape).toEqual(want.shape);
      expect(relativeL2(got[i]!.toFloat32Array(), want.toFloat32Array())).toBeLessThan(1e-5);
      expect(together[i]!.position).toBe(alone[i]!.position);
      const [a, b] = await Promise.all([alone[i]!, together[i]!].map((s) => s.forward([7])));
      expect(relativeL2(b!.toFloat32Array(), a!.toFloat32Array())).toBeLessThan(1e-5);
    }
    await model.dispose();
  });
});

test('batches and single calls on the same sessions keep their order', async () => {
  const model = await loadModel(modelCase('mamba_hf').folder);
  const [a, b] = [model.createSession(), model.createSession()];
  const calls = [
    a.forward(ids(40, 1), { logits: 'none' }),
    model.forwardBatch([
      { session: a, tokens: [1] },
      { session: b, tokens: ids(20, 2) },
    ]),
    b.forward([2]),
    model.forwardBatch([
      { session: b, tokens: [3] },
      { session: a, tokens: [4] },
    ]),
  ];
  const last = (await Promise.all(calls))[3] as Tensor[];
  const alone = model.createSession();
  await alone.forward([...ids(40, 1), 1], { logits: 'none' });
  const want = await alone.forward([4]);
  expect(relativeL2(last[1]!.toFloat32Array(), want.toFloat32Array())).toBeLessThan(1e-5);
  expect([a.position, b.position]).toEqual([42, 22]);
});

test('generate goes on from a batch', async () => {
  const model = await loadModel(modelCase('llama_gqa').folder);
  const [a, b] = [model.createSession(), model.createSession()];
  await model.forwardBatch([{ session: a, tokens: ids(12, 1) }]);
  await b.forward(ids(12, 1));
  const tokens = async (s: typeof a) => {
    const out: number[] = [];
    for await (const { token } of s.generate({ maxTokens: 5, temperature: 0 })) out.push(token);
    return out;
  };
  expect(await tokens(a)).toEqual(await tokens(b));
});

test('a wrong entry leaves every session as it was, and names its place', async () => {
  const model = await loadModel(modelCase('mamba_hf').folder);
  const other = await createModel({ model_type: 'mamba', vocab_size: 16, hidden_size: 8, num_hidden_layers: 1 });
  const [a, b] = [model.createSession(), model.createSession()];
  const good = { session: a, tokens: [1, 2] };
  for (const [bad, message] of [
    [{ session: a, tokens: [1] }, /\[1\]: session: it is in this batch already/],
    [{ session: other.createSession(), tokens: [1] }, /\[1\]: session: expected one of this model/],
    [{ session: b, tokens: [1e9] }, /tokens\[0\]/],
    [{ session: b, tokens: [1], logits: 'first' }, /\[1\]: logits/],
    [undefined, /\[1\]: session/],
    [{ session: b, tokens: new Tensor(new Float32Array(2), [2]) }, /tokens/],
  ] as const) {
    await expect(model.forwardBatch([good, bad as never])).rejects.toMatchObject({ code: 'ERR_ARGUMENT', message });
  }
  await expect(model.forwardBatch(5 as never)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
  expect([a.position, b.position]).toEqual([0, 0]);
  expect(await model.forwardBatch([])).toEqual([]);
});

test('an abort rolls every session of the batch back', async () => {
  const model = await createModel({ model_type: 'mamba', vocab_size: 64, hidden_size: 64, num_hidden_layers: 4 });
  const [a, b] = [model.createSession(), model.createSession()];
  await model.forwardBatch([
    { session: a, tokens: [1, 2, 3] },
    { session: b, tokens: [4] },
  ]);
  const before = [a.save(), b.save()];
  const abort = new AbortController();
  const running = model.forwardBatch(
    [
      { session: a, tokens: ids(20000, 1) },
      { session: b, tokens: ids(20000, 2) },
    ],
    { signal: abort.signal, onProgress: () => abort.abort() },
  );
  await expect(running).rejects.toMatchObject({ name: 'AbortError' });
  expect([a.save(), b.save()]).toEqual(before);
});

test('a batch that waits for another call hears its signal at once, and what comes later keeps its order', async () => {
  const model = await loadModel(modelCase('mamba_hf').folder);
  const attempt = async () => {
    const [a, b] = [model.createSession(), model.createSession()];
    const controller = new AbortController();
    const ended: string[] = [];
    const long = a.forward(ids(30_000, 1), { logits: 'none' }).then(() => ended.push('long'));
    const batch = model
      .forwardBatch(
        [
          { session: b, tokens: [1] },
          { session: a, tokens: [1] },
        ],
        { signal: controller.signal },
      )
      .catch((error) => ended.push(error.message));
    const after = [a, b].map((session) => session.forward([2]).then(() => ended.push(session === a ? 'a' : 'b')));
    controller.abort(new Error('enough'));
    await Promise.all([long, batch, ...after]);
    expect([a.position, b.position]).toEqual([30_001, 1]);
    return ended.join();
  };
  // Where this thread is halted the long one may end before `b` is asked for.
  const right = 'enough,b,long,a';
  expect(await wanted((ended) => ended === right, attempt)).toBe(right);
  await model.dispose();
});
