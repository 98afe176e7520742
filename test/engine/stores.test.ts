// Every store keeps bytes under keys in the same way; an engine goes on from what another one kept.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createEngine, folderStore, type Model, type RedisStore, redisStore, type SnapshotStore } from 'statespace';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { alone, ids, llama, mamba, numbers } from '../support/engines.js';
import { findRedis, type RedisServer, startRedis } from '../support/redis.js';

const redisPath = findRedis();
if (!redisPath) console.log('skipped: stores and engines over Redis (no redis-server here; Debian: redis-server)');
const folder = mkdtempSync(join(tmpdir(), 'statespace-store-'));
let redis: RedisServer | undefined;
const open: RedisStore[] = [];

beforeAll(async () => {
  if (redisPath) redis = await startRedis(redisPath);
});
afterAll(async () => {
  for (const store of open) await store.close();
  await redis?.stop();
  rmSync(folder, { recursive: true });
});

const makers: Record<string, (name: string) => SnapshotStore> = {
  folder: (name) => folderStore(join(folder, name)),
  redis: (name) => {
    const store = redisStore(redis!.url, { prefix: `${name}:` });
    open.push(store);
    return store;
  },
};

async function listed(store: SnapshotStore, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const key of store.list(prefix)) keys.push(key);
  return keys.sort();
}

describe.each(Object.keys(makers))('a store: %s', (kind) => {
  const there = kind !== 'redis' || redisPath !== undefined;

  test.runIf(there)('puts, gets, replaces, lists and deletes', async () => {
    const store = makers[kind]!('plain');
    expect(await store.get('a/b/1-x')).toBeUndefined();
    expect(await listed(store, '')).toEqual([]);
    const bytes = Uint8Array.from({ length: 70_000 }, (_, i) => (i * 31) & 255);
    await store.put('a/b/1-x', bytes);
    await store.put('a/b/2-y', bytes.subarray(1, 100));
    await store.put('a/c/3', new Uint8Array(0));
    await store.put('d', bytes.subarray(5, 6));
    expect(Buffer.compare(Buffer.from((await store.get('a/b/1-x'))!), bytes)).toBe(0);
    expect([...(await store.get('a/b/2-y'))!]).toEqual([...bytes.subarray(1, 100)]);
    await store.put('a/b/2-y', bytes.subarray(0, 3));
    expect([...(await store.get('a/b/2-y'))!]).toEqual([0, 31, 62]);
    expect(await listed(store, 'a/b/')).toEqual(['a/b/1-x', 'a/b/2-y']);
    expect(await listed(store, 'a/')).toEqual(['a/b/1-x', 'a/b/2-y', 'a/c/3']);
    expect(await listed(store, '')).toEqual(['a/b/1-x', 'a/b/2-y', 'a/c/3', 'd']);
    await store.delete('a/b/1-x');
    await store.delete('a/b/1-x');
    expect(await listed(store, 'a/b/')).toEqual(['a/b/2-y']);
    expect(await store.get('a/b/1-x')).toBeUndefined();
  });

  describe.each([
    ['mamba', mamba],
    ['llama', llama],
  ] as const)('an engine of a %s', (name, make) => {
    let model: Model;
    beforeAll(async () => {
      model = await make();
    });
    afterAll(() => model.dispose());

    test.runIf(there)('goes on from what another one kept, and not from another model`s', async () => {
      const next = numbers(31);
      const shared = ids(next, 300);
      const options = () => ({ prefixCache: { every: 64, store: makers[kind]!(`engine-${name}`) } });
      const first = createEngine(model, options());
      for await (const _ of first.generate({ prompt: shared, maxTokens: 4 }));
      await first.drain();
      expect(first.stats().store!.writes).toBeGreaterThan(2);
      await first.dispose();

      const prompt = Int32Array.from([...shared, ...ids(next, 20)]);
      const expected = await alone(model, { prompt, maxTokens: 10 });
      await using second = createEngine(model, options());
      const stream = second.generate({ prompt, maxTokens: 10 });
      const got: number[] = [];
      for await (const { token } of stream) got.push(token);
      expect(got).toEqual(expected);
      expect(stream.usage!.cachedTokens).toBeGreaterThanOrEqual(299);
      expect(second.stats().store).toMatchObject({ hits: 1, dropped: 0, errors: 0 });

      const other = await make(2);
      await using third = createEngine(other, options());
      const foreign = third.generate({ prompt, maxTokens: 1 });
      for await (const _ of foreign);
      expect(foreign.usage!.cachedTokens).toBe(0);
      await other.dispose();
    });
  });
});

test('a folder keeps to its size: what was used longest ago goes', async () => {
  const store = folderStore(join(folder, 'small'), { bytes: 1000 });
  for (let i = 0; i < 5; i++) {
    await store.put(`k/${i}`, new Uint8Array(240));
    await new Promise((done) => setTimeout(done, 5));
    if (i > 0) await store.get('k/0');
  }
  expect(await listed(store, 'k/')).toEqual(['k/0', 'k/2', 'k/3', 'k/4']);
  await store.put('k/large', new Uint8Array(2000));
  expect(await store.get('k/large')).toBeUndefined();
});

test.each(['../x', 'A', 'a//b', '/a', 'a/', ''])('a key that could lead elsewhere is refused: %j', async (key) => {
  await expect(folderStore(folder).put(key, new Uint8Array(1))).rejects.toThrow(/lower-case letters/);
});

test('a store that fails or never answers costs time, not an answer', async () => {
  const model = await mamba();
  const fails = () => Promise.reject(new Error('gone'));
  const never = () => new Promise<never>(() => {});
  const store = {
    ...{ get: fails, put: fails, delete: fails },
    // biome-ignore lint/correctness/useYield: it never comes to that
    async *list(): AsyncGenerator<string> {
      await never();
    },
  };
  await using engine = createEngine(model, { prefixCache: { store } });
  const prompt = ids(numbers(3), 80);
  const got: number[] = [];
  for await (const { token } of engine.generate({ prompt, maxTokens: 5 })) got.push(token);
  expect(got).toEqual(await alone(model, { prompt, maxTokens: 5 }));
  await engine.drain();
  expect(engine.stats().store!.errors).toBeGreaterThan(1);
  await model.dispose();
});
