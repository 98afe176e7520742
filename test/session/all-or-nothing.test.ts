// What a call has not finished it has not changed; what forks share costs nothing; calls take turns.
import { createModel, type Session } from 'statespace';
import { describe, expect, test } from 'vitest';
import { loopTime, until, wanted } from '../support/stalls.js';

const LLAMA = {
  model_type: 'llama',
  vocab_size: 61,
  hidden_size: 24,
  intermediate_size: 40,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
};
const WINDOW = { ...LLAMA, model_type: 'mistral', sliding_window: 70 };
const MAMBA = { model_type: 'mamba', vocab_size: 61, hidden_size: 20, num_hidden_layers: 2, state_size: 5 };
const ids = (n: number, seed = 1) => Int32Array.from({ length: n }, (_, i) => (i * 7919 + seed * 104729) % 61);

describe.each(Object.entries({ llama: LLAMA, 'sliding window': WINDOW, mamba: MAMBA }))('%s', (_, config) => {
  test('an abort after one sequence was read whole: every session is as it was, forks included, and goes on', async () => {
    const model = await createModel(config, { seed: 3 });
    const start = async (n: number, seed: number) => {
      const s = model.createSession();
      await s.forward(ids(n, seed), { logits: 'none' });
      return s;
    };
    const sessions = [await start(200, 1), await start(30, 2), (await start(150, 3)).fork()];
    const before = sessions.map((s) => Buffer.from(s.save()));
    const bytes = sessions.map((s) => s.bytes);
    const abort = new AbortController();
    const running = model.forwardBatch(
      [300, 200_000, 40].map((n, i) => ({ session: sessions[i]!, tokens: ids(n, 7 + i) })),
      { signal: abort.signal, onProgress: () => abort.abort() },
    );
    await expect(running).rejects.toMatchObject({ name: 'AbortError' });
    expect(sessions.map((s) => s.position)).toEqual([200, 30, 150]);
    expect(sessions.map((s) => s.bytes)).toEqual(bytes);
    sessions.forEach((s, i) => {
      expect(Buffer.compare(s.save(), before[i]!)).toBe(0);
    });
    for (const [i, n] of [200, 30, 150].entries()) {
      const got = await sessions[i]!.forward([5, 6]);
      const alone = await start(n, i + 1);
      expect(got.data).toEqual((await alone.forward([5, 6])).data);
    }
    await model.dispose();
  });

  test('a thousand forks hold one state, and each goes its own way', async () => {
    const model = await createModel(config, { seed: 3 });
    const session = model.createSession();
    await session.forward(ids(70));
    const forks = Array.from({ length: 1000 }, () => session.fork());
    const first = await Promise.all(forks.slice(0, 5).map((f, i) => f.forward([i])));
    const again = session.fork();
    for (const [i, row] of first.entries()) {
      const straight = model.createSession();
      await straight.forward(ids(70));
      expect((await straight.forward([i])).data).toEqual(row.data);
    }
    expect((await again.forward([3])).data).toEqual(first[3]!.data);
    await model.dispose();
  });

  test('saveAsync is of the moment of the call, whatever comes after it', async () => {
    const model = await createModel(config, { seed: 3 });
    const session = model.createSession();
    await session.forward(ids(130));
    const now = session.save();
    const saving = session.saveAsync();
    await session.forward(ids(40, 2));
    expect(Buffer.compare(await saving, now)).toBe(0);
    const restored = await model.restoreSessionAsync(await saving);
    expect(restored.position).toBe(130);
    await restored.forward(ids(40, 2), { logits: 'none' });
    expect((await restored.forward([1])).data).toEqual((await session.forward([1])).data);
    await model.dispose();
  });
});

test('a snapshot leaves the row of logits out unless asked, and names the type that its model was held in', async () => {
  const config = { ...LLAMA, vocab_size: 5000, hidden_size: 32 };
  const [f32, bf16] = await Promise.all([
    createModel(config, { seed: 1 }),
    createModel(config, { seed: 1, dtype: 'bf16' }),
  ]);
  const session = f32.createSession();
  await session.forward(ids(3));
  expect(session.save({ logits: true }).length - session.save().length).toBe(4 * 5000);
  const held = bf16.createSession();
  await held.forward(ids(3));
  expect(() => f32.restoreSession(held.save())).toThrow(
    'snapshot: it was saved from this model held in bf16; this one is held in f32: load it with the dtype, or exact, of that one',
  );
  const other = await createModel(config, { seed: 2 });
  expect(() => other.restoreSession(session.save())).toThrow('snapshot: it was saved from another model (held in f32)');
});

test('a session that has been fed nothing has touched no memory: who creates it does not wait for that', async () => {
  const config = { model_type: 'mamba', vocab_size: 61, hidden_size: 512, num_hidden_layers: 8, state_size: 64 };
  const model = await createModel(config, { seed: 1 });
  await model.createSession().forward([1]);
  const before = process.memoryUsage().rss;
  const sessions = Array.from({ length: 64 }, () => model.createSession());
  const held = sessions.reduce((bytes, session) => bytes + session.bytes, 0);
  expect(held).toBeGreaterThan(100e6);
  expect(process.memoryUsage().rss - before).toBeLessThan(0.2 * held);
  const [first, last] = [await sessions[0]!.forward([1, 2]), await sessions.at(-1)!.forward([1, 2])];
  expect(first.data).toEqual(last.data);
  await model.dispose();
});

test('dispose() gives the weights back though sessions are alive', async () => {
  const model = await createModel({ ...LLAMA, hidden_size: 1024, intermediate_size: 4096, num_hidden_layers: 4 });
  const session = model.createSession();
  await session.forward([1]);
  const before = process.memoryUsage().rss;
  await model.dispose();
  expect(before - process.memoryUsage().rss).toBeGreaterThan(100e6);
  await expect(session.forward([1])).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
});

test('a step does not wait for another session`s prompt', async () => {
  const model = await createModel({ ...MAMBA, hidden_size: 128, num_hidden_layers: 4 }, { seed: 1 });
  const [long, short] = [model.createSession(), model.createSession()];
  await Promise.all([long.forward([1]), short.forward([1])]);
  const stepsBeside = async () => {
    let steps = 0;
    let reading = true;
    const prompt = long.forward(ids(60_000), { logits: 'none' }).finally(() => {
      reading = false;
    });
    for (; reading; steps++) await short.forward([2]);
    await prompt;
    return steps;
  };
  // A machine that halts this thread has none of it; where they waited there would never be more than two.
  expect(await wanted((steps) => steps > 20, stepsBeside)).toBeGreaterThan(20);
});

test('sixty-four sessions that generate leave timers their turn', async () => {
  const model = await createModel({ ...MAMBA, vocab_size: 1024 }, { seed: 1 });
  const generate = async (session: Session, seed: number) => {
    let n = 0;
    for await (const _ of session.generate({ prompt: [1], maxTokens: 40, temperature: 1, topK: 40, seed })) n++;
    return n;
  };
  let counts: number[] = [];
  const { all, longest } = await loopTime(async () => {
    counts = await Promise.all(Array.from({ length: 64 }, (_, i) => generate(model.createSession(), i)));
  });
  expect(counts).toEqual(new Array(64).fill(40));
  expect(longest).toBeLessThan(Math.min(250, all / 3));
});

test('a session with the memory of one that is gone does not wait for that to be cleared', async () => {
  // A state of 84 MB, more than is held for the next session.
  const config = { model_type: 'mamba', vocab_size: 61, hidden_size: 512, num_hidden_layers: 10, state_size: 2048 };
  const model = await createModel(config, { seed: 1 });
  const resident = () => process.memoryUsage().rss;
  const first = model.createSession();
  const row = await first.forward([1, 2]);
  const fed = resident();
  expect(first.bytes).toBeGreaterThan(80e6);
  await first.dispose();
  await until(() => resident() < fed - 70e6);
  const before = resident();
  const second = model.createSession();
  expect(resident() - before).toBeLessThan(10e6);
  expect((await second.forward([1, 2])).data).toEqual(row.data);
  await model.dispose();
});
