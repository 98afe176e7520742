// An engine whose store fails, never answers, takes long, or cannot be written to.
import { setTimeout } from 'node:timers/promises';
import { createEngine, loadModel, type SnapshotStore } from 'statespace';
import { expect, test, vi } from 'vitest';
import { alone, ids, mamba, numbers } from '../support/engines.js';
import { modelCase } from '../support/golden.js';

/** How many times since then a store that was left alone may have been asked again. */
const silences = (begun: number) => Math.floor((performance.now() - begun) / 10_000);

test.concurrent('a store that fails or never answers costs time, not an answer', async () => {
  const model = await mamba();
  const fails = () => Promise.reject(new Error('gone'));
  const never = () => new Promise<never>(() => {});
  let lists = 0;
  const store = {
    ...{ get: fails, put: fails, delete: fails },
    // biome-ignore lint/correctness/useYield: it never comes to that
    async *list(): AsyncGenerator<string> {
      lists++;
      await never();
    },
  };
  const begun = performance.now();
  await using engine = createEngine(model, { prefixCache: { store } });
  const prompt = ids(numbers(3), 80);
  const got: number[] = [];
  for await (const { token } of engine.generate({ prompt, maxTokens: 5 })) got.push(token);
  expect(got).toEqual(await alone(model, { prompt, maxTokens: 5 }));
  // Those that come soon after it, and the greeting, do not ask it.
  for (let seed = 4; seed < 14; seed++)
    for await (const _ of engine.generate({ prompt: ids(numbers(seed), 80), maxTokens: 5 }));
  expect(lists).toBeLessThanOrEqual(2 + silences(begun));
  await engine.drain();
  expect(engine.stats().store!.errors).toBeGreaterThan(0);
  await model.dispose();
});

test.concurrent('a store that takes long to fail, as a Redis that hangs does, is left alone for a while', async () => {
  const model = await mamba();
  let asked = 0;
  const begun = performance.now();
  const fails = async () => {
    asked++;
    await setTimeout(300);
    throw new Error('gone');
  };
  const store = { get: fails, put: fails, delete: fails, list: fails as unknown as SnapshotStore['list'] };
  await using engine = createEngine(model, { prefixCache: { store, every: 16 } });
  const read = async (seed: number) => {
    for await (const _ of engine.generate({ prompt: ids(numbers(seed), 80), maxTokens: 2 }));
  };
  await read(20);
  for (let seed = 21; seed < 40; seed++) await read(seed);
  await engine.drain();
  // The greeting, the first one's list, and writes that were asked for before it failed.
  expect(asked).toBeLessThan(5 + 4 * silences(begun));
  await model.dispose();
});

test('a list that comes as a promise: rejected it is counted, of keys it is read', async () => {
  const model = await mamba();
  const kept = new Map<string, Uint8Array>();
  const rejected: unknown[] = [];
  const hear = (error: unknown) => rejected.push(error);
  process.on('unhandledRejection', hear);
  const prompt = ids(numbers(5), 80);
  for (const list of [async () => Promise.reject(new Error('gone')), async () => [...kept.keys()]]) {
    const store = {
      get: async (key: string) => kept.get(key),
      put: async (key: string, value: Uint8Array) => void kept.set(key, value),
      delete: async (key: string) => void kept.delete(key),
      list: list as unknown as SnapshotStore['list'],
    };
    await using engine = createEngine(model, { prefixCache: { store } });
    for await (const _ of engine.generate({ prompt, maxTokens: 2 }));
    await engine.drain();
    const { hits, errors } = engine.stats().store!;
    expect(hits + errors).toBe(1);
  }
  await new Promise((done) => setImmediate(done));
  process.off('unhandledRejection', hear);
  expect(rejected).toEqual([]);
  await model.dispose();
});

test('a store that can be read and not written is told of once', async () => {
  const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
  const model = await loadModel(modelCase('mamba_hf').folder);
  const store: SnapshotStore = {
    get: async () => undefined,
    put: () => Promise.reject(new Error('EROFS: read-only')),
    delete: async () => {},
    async *list() {},
  };
  const engine = createEngine(model, { prefixCache: { store } });
  for (let seed = 0; seed < 5; seed++) {
    for await (const _ of engine.generate({ prompt: ids(numbers(seed), 80), maxTokens: 2 }));
  }
  await engine.drain();
  expect(engine.stats().store!.errors).toBeGreaterThan(4);
  expect(warn.mock.calls.map(([text]) => text)).toEqual([
    'prefixCache.store: EROFS: read-only; what was read is not kept',
  ]);
  warn.mockRestore();
  await engine.dispose();
  await model.dispose();
});

test.concurrent('many checkpoints for a store that never answers are waited for once', async () => {
  const model = await mamba();
  let puts = 0;
  const store = {
    get: async () => undefined,
    put: () => {
      puts++;
      return new Promise<never>(() => {});
    },
    delete: async () => {},
    async *list(): AsyncGenerator<string> {},
  };
  await using engine = createEngine(model, { prefixCache: { store } });
  const read = async (seed: number) => {
    for await (const _ of engine.generate({ prompt: ids(numbers(seed), 80), maxTokens: 2 }));
  };
  await Promise.all(Array.from({ length: 16 }, (_, i) => read(100 + i)));
  const before = puts;
  await engine.drain();
  expect(puts - before).toBeLessThanOrEqual(1);
  expect(engine.stats().store).toMatchObject({ writes: 0 });
  await model.dispose();
});

test('an engine that was disposed of asks its store for nothing any more, and says nothing of it', async () => {
  const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
  const model = await loadModel(modelCase('mamba_hf').folder);
  let closed = false;
  const late: string[] = [];
  const call = async (name: string) => {
    if (closed) late.push(name);
    await setTimeout(5);
    if (closed) throw new Error('Connection is closed.');
  };
  const store: SnapshotStore = {
    get: () => call('get').then(() => undefined),
    put: () => call('put'),
    delete: () => call('delete'),
    async *list() {
      yield* await call('list').then(() => []);
    },
  };
  for (const wait of [0, 2, 7, 30]) {
    closed = false;
    const engine = createEngine(model, { prefixCache: { store } });
    await setTimeout(wait);
    await engine.dispose();
    closed = true;
    await setTimeout(50);
  }
  expect(late).toEqual([]);
  expect(warn.mock.calls).toEqual([]);
  warn.mockRestore();
  await model.dispose();
});
