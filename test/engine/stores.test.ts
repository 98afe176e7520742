// Every store keeps bytes under keys in the same way; an engine goes on from what another one kept.
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { createEngine, folderStore, type Model, type RedisStore, redisStore, type SnapshotStore } from 'statespace';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { alone, ids, llama, mamba, numbers } from '../support/engines.js';
import { needs } from '../support/needs.js';
import { succeed } from '../support/process.js';
import { findRedis, type RedisServer, startRedis } from '../support/redis.js';
import { until } from '../support/stalls.js';

const redisPath = findRedis();
const REDIS = 'redis-server (Debian: redis-server)';
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

// What another process is asked for comes too late where that one is halted for seconds; once more, in a place of its own.
const HALTED = { retry: 5 };
let places = 0;
const anew = (name: string) => `${name}-${places++}`;

async function listed(store: SnapshotStore, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const key of store.list(prefix)) keys.push(key);
  return keys.sort();
}

describe.each(Object.keys(makers))('a store: %s', (kind) => {
  const there = kind !== 'redis' || redisPath !== undefined;

  test.runIf(needs(there, REDIS))('puts, gets, replaces, lists and deletes', HALTED, async () => {
    const store = makers[kind]!(anew('plain'));
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

    test.runIf(needs(there, REDIS))(
      'goes on from what another one kept, and not from another model`s',
      HALTED,
      async () => {
        const next = numbers(31);
        const shared = ids(next, 300);
        const its = anew(`engine-${name}`);
        const options = () => ({ prefixCache: { every: 64, store: makers[kind]!(its) } });
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
      },
    );
  });
});

test.runIf(needs(redisPath, REDIS))(
  'a Redis lists what was used last, and no names of what has gone',
  HALTED,
  async () => {
    const [store, brief] = ['last', 'brief'].map((name) => {
      const made = redisStore(redis!.url, { prefix: `${anew(name)}:`, ttlSeconds: name === 'brief' ? 1 : 100_000 });
      open.push(made);
      return made;
    }) as [RedisStore, RedisStore];
    const value = new Uint8Array(3);
    await store.put('a/first', value);
    for (let i = 0; i < 4500; i += 500)
      await Promise.all(Array.from({ length: 500 }, (_, k) => store.put(`a/${i + k}`, value)));
    const last = await listed(store, 'a/');
    expect(last.length).toBe(4096);
    expect(last).toContain('a/4499');
    expect(last).not.toContain('a/first');
    await setTimeout(5);
    await store.get('a/first'); // as who knows its name may
    expect(await listed(store, 'a/')).toContain('a/first');
    const { pieces } = (await store.read!('a/0'))!;
    for await (const _ of pieces);
    expect(await listed(store, 'a/')).toContain('a/0');

    await brief.put('b/c/gone', value);
    await setTimeout(1100);
    expect(await listed(brief, 'b/')).toEqual(['b/c/gone']);
    await brief.put('b/c/new', value);
    expect(await listed(brief, '')).toEqual(['b/c/new']);
  },
);

/** In memory; what is read comes in pieces of so many bytes, each in the memory of the one before. */
function inPieces(length: number): SnapshotStore & { values: Map<string, Uint8Array> } {
  const values = new Map<string, Uint8Array>();
  const shared = new Uint8Array(length);
  async function* pieces(value: Uint8Array) {
    for (let at = 0; at < value.length; at += length) {
      const piece = value.subarray(at, at + length);
      shared.set(piece);
      yield shared.subarray(0, piece.length);
      shared.fill(0xaa);
    }
  }
  return {
    values,
    get: () => Promise.reject(new Error('it reads pieces')),
    put: async (key, value) => void values.set(key, value.slice()),
    delete: async (key) => void values.delete(key),
    async *list(prefix) {
      for (const key of values.keys()) if (key.startsWith(prefix)) yield key;
    },
    read: async (key) => {
      const value = values.get(key);
      return value && { bytes: value.length, pieces: pieces(value) };
    },
  };
}

describe.each([
  ['mamba', mamba],
  ['llama', llama],
] as const)('a store that gives a %s pieces', (_, make) => {
  const prompt = ids(numbers(5), 150);
  let model: Model;
  let kept: ReturnType<typeof inPieces>['values'];
  const ask = async (store: SnapshotStore) => {
    await using engine = createEngine(model, { prefixCache: { every: 64, store } });
    const stream = engine.generate({ prompt, maxTokens: 6 });
    const tokens: number[] = [];
    for await (const { token } of stream) tokens.push(token);
    await engine.drain();
    return { tokens, cached: stream.usage!.cachedTokens, counts: engine.stats().store! };
  };
  beforeAll(async () => {
    model = await make();
    const store = inPieces(1 << 20);
    await ask(store);
    kept = store.values;
  });
  afterAll(() => model.dispose());

  test.each([1, 7, 88, 1000, 4096])('of %d bytes goes on as from one', async (length) => {
    const store = inPieces(length);
    for (const [key, value] of kept) store.values.set(key, value);
    const { tokens, cached, counts } = await ask(store);
    expect(tokens).toEqual(await alone(model, { prompt, maxTokens: 6 }));
    expect(cached).toBe(149);
    expect(counts).toMatchObject({ hits: 1, dropped: 0, errors: 0 });
  });

  test('none that is damaged, cut short or longer is used', async () => {
    const [key, value] = [...kept].find(([key]) => /\/149-[^/]*$/.test(key))!;
    const bits = [0, 10, 50, 500, 700, 760, 800, value.length - 40, value.length - 1].map((at) => {
      const bad = value.slice();
      bad[at]! ^= 1;
      return bad;
    });
    const longer = new Uint8Array(value.length + 1);
    longer.set(value);
    for (const bad of [...bits, longer, ...[0, 20, 400, value.length - 1].map((n) => value.subarray(0, n))]) {
      const store = inPieces(333);
      store.values.set(key, bad);
      const { tokens, cached, counts } = await ask(store);
      expect(tokens).toEqual(await alone(model, { prompt, maxTokens: 6 }));
      expect(cached).toBe(0);
      expect(counts).toMatchObject({ hits: 0, dropped: 1 });
    }
  });

  test('that stop coming costs time, not an answer', async () => {
    const store = inPieces(100);
    for (const [key, value] of kept) store.values.set(key, value);
    const whole = store.read!;
    const fails: SnapshotStore = {
      ...store,
      read: async (key) => {
        const found = (await whole(key))!;
        async function* some() {
          for await (const piece of found.pieces) yield piece;
          throw new Error('gone');
        }
        return { ...found, pieces: some() };
      },
    };
    const { cached, counts } = await ask(fails);
    expect([cached, counts.hits, counts.dropped]).toEqual([0, 0, 0]);
    expect(counts.errors).toBeGreaterThan(0);
    expect(store.values.size).toBeGreaterThanOrEqual(kept.size);
  });
});

test.concurrent('a store that lists many and gives none of them costs one patience, not one for each', async () => {
  const model = await mamba();
  const kept = inPieces(1 << 20);
  const prompt = ids(numbers(5), 300);
  const ask = async (store: SnapshotStore) => {
    await using engine = createEngine(model, { prefixCache: { every: 16, store } });
    const stream = engine.generate({ prompt, maxTokens: 5 });
    const tokens: number[] = [];
    for await (const { token } of stream) tokens.push(token);
    await engine.drain();
    return { tokens, store: engine.stats().store! };
  };
  await ask(kept);
  expect(kept.values.size).toBeGreaterThan(4);
  let reads = 0;
  const read = () => {
    reads++;
    return new Promise<never>(() => {});
  };
  const never = await ask({ ...kept, read });
  expect(reads).toBe(1);
  expect(never).toEqual({ tokens: await alone(model, { prompt, maxTokens: 5 }), store: never.store });
  expect(never.store).toMatchObject({ hits: 0, errors: 1 });
  const fails = await ask({ ...kept, read: () => Promise.reject(new Error('gone')) });
  expect(fails.store).toMatchObject({ hits: 0, errors: 1 });
  await model.dispose();
});

test('what is used from memory is put again where the store may have let it go', async () => {
  const model = await mamba();
  const store = inPieces(1 << 20);
  await using engine = createEngine(model, { prefixCache: { every: 64, store } });
  const prompt = ids(numbers(5), 150);
  const ask = async () => {
    const stream = engine.generate({ prompt, maxTokens: 2 });
    for await (const _ of stream);
    await until(() => engine.stats().store!.writes >= 3);
    return stream.usage!.cachedTokens;
  };
  expect(await ask()).toBe(0);
  const key = [...store.values.keys()].find((key) => /\/149-/.test(key))!;
  store.values.delete(key);
  expect(await ask()).toBe(149);
  await setTimeout(50);
  expect(store.values.has(key)).toBe(false);
  const { now } = performance;
  const later = vi.spyOn(performance, 'now').mockImplementation(() => now.call(performance) + 7 * 3600e3);
  try {
    expect(await ask()).toBe(149);
    await until(() => store.values.has(key));
    const { writes } = engine.stats().store!;
    expect(await ask()).toBe(149);
    expect(engine.stats().store!.writes).toBe(writes);
  } finally {
    later.mockRestore();
  }
  await engine.drain();
  await model.dispose();
});

test('a folder keeps to its size: what was used longest ago goes', async () => {
  const store = folderStore(join(folder, 'small'), { bytes: 1000 });
  for (let i = 0; i < 5; i++) {
    await store.put(`k/${i}`, new Uint8Array(240));
    await setTimeout(5);
    if (i > 0) await store.get('k/0');
  }
  expect(await listed(store, 'k/')).toEqual(['k/0', 'k/2', 'k/3', 'k/4']);
  await store.put('k/large', new Uint8Array(2000));
  expect(await store.get('k/large')).toBeUndefined();
  // The next start knows what was used last.
  const use = join(folder, 'small', 'k', '2.snapshot');
  const before = statSync(use).mtimeMs;
  await store.get('k/2');
  await until(() => statSync(use).mtimeMs > before);
  const later = folderStore(join(folder, 'small'), { bytes: 1000 });
  await later.put('k/5', new Uint8Array(400));
  expect(await listed(later, 'k/')).toEqual(['k/0', 'k/2', 'k/5']);
  await later.put('k/2', new Uint8Array(360)); // in its own place
  expect(await listed(later, 'k/')).toEqual(['k/2', 'k/5']);
});

test.each(['../x', 'A', 'a//b', '/a', 'a/', ''])('a key that could lead elsewhere is refused: %j', async (key) => {
  await expect(folderStore(folder).put(key, new Uint8Array(1))).rejects.toThrow(/lower-case letters/);
});

test.each(['localhost:6379', 'http://user:secret@x', '', 'redis://host:99999', 'redis://host:abc', 7])(
  'no Redis is at %s, which is said at once and without a password',
  (url) => {
    expect(() => redisStore(url as string)).toThrow(
      /^redisStore: url: expected redis:\/\/host:port, received (?!.*secret)/,
    );
  },
);

test.runIf(needs(redisPath, REDIS))('what a Redis refuses of a value is told in its own words', async () => {
  const [store, admin] = [redisStore(redis!.url, { prefix: 'full:' }), new Redis(redis!.url)];
  await admin.config('SET', 'maxmemory', '1');
  await expect(store.put('a/1', new Uint8Array(1))).rejects.toThrow(/^redis: OOM command not allowed/);
  await admin.config('SET', 'maxmemory', '0');
  await store.put('a/1', Uint8Array.of(3));
  expect([...(await store.get('a/1'))!]).toEqual([3]);
  await store.close();
  await admin.quit();
});

test.runIf(needs(redisPath, REDIS))('a Redis store that was closed stays closed, whenever it was', async () => {
  for (const wait of [undefined, 0, 3]) {
    const store = redisStore(redis!.url, { prefix: 'closed:' });
    const asked = store.get('a/1').catch((error: Error) => error.message);
    if (wait !== undefined) await setTimeout(wait);
    await store.close();
    expect([undefined, 'redis: the store was closed', 'Connection is closed.']).toContain(await asked);
    await expect(store.get('a/1')).rejects.toThrow('redis: the store was closed');
    await expect(store.put('a/1', new Uint8Array(1))).rejects.toThrow('redis: the store was closed');
    await store.close();
  }
  // A connection that is left would keep the process.
  const program = `
    const { redisStore } = require(process.argv[1]);
    const store = redisStore(process.argv[2]);
    store.get('a/1').catch(() => {});
    store.close().then(() => store.get('a/1')).catch((error) => console.log(error.message));`;
  const entry = resolve(__dirname, '../../dist/lib/index.js');
  expect(await succeed(process.execPath, ['-e', program, entry, redis!.url])).toBe('redis: the store was closed\n');
});
