/** Time to the first token after a prefix that was read before: here, after a restart, and in another process. */
import { fork } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CallCase } from '../calls/case.js';
import { type ModelSize, modelOf, someTokens } from '../calls/sessions.js';
import { type DType, type Engine, library, type Model } from '../library.js';
import { median } from '../statistics.js';

/** What a process is asked: to make the model, to open the store, and to go on from the prefix. */
export interface Job {
  family: string;
  size: ModelSize;
  dtype: DType;
  prefix: number;
  /** Begins the prefix: another in each run, so that no store knows it. */
  salt: number;
  store: { folder: string } | { redis: string };
}

// Enough of the same in a row for a median; each ends otherwise, so that none is the whole of another.
const REPEATED = 3;
const OWN = 8;

function promptOf(model: Model, { prefix, salt }: Pick<Job, 'prefix' | 'salt'>, own: number): Int32Array {
  const tokens = someTokens(prefix + OWN, model.vocabSize);
  for (let i = 0; i < 4; i++) tokens[i] = Math.floor(salt / model.vocabSize ** i) % model.vocabSize;
  for (let i = 0; i < OWN; i++) tokens[prefix + i] = (own * 31 + i * 7) % model.vocabSize;
  return tokens;
}

async function firstToken(engine: Engine, prompt: Int32Array): Promise<{ ms: number; cached: number }> {
  const start = performance.now();
  for await (const { cachedTokens } of engine.generate({ prompt, maxTokens: 1, minTokens: 1 }))
    return { ms: performance.now() - start, cached: cachedTokens };
  throw new Error('bench serving: a request ended without a token');
}

/** Of requests that begin as one before did; an error where they did not go on from it. */
async function after(
  engine: Engine,
  model: Model,
  of: Pick<Job, 'prefix' | 'salt'>,
  from: number,
  count: number,
): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    const { ms, cached } = await firstToken(engine, promptOf(model, of, from + i));
    if (cached < of.prefix * 0.9)
      throw new Error(`bench serving: ${cached} of ${of.prefix} tokens came from the cache`);
    times.push(ms);
  }
  return median(times);
}

/** In a process of its own: the first request there finds the prefix in the store alone. In ms. */
export async function inAnotherProcess(job: Job): Promise<number> {
  const { family, size, dtype, prefix, store } = job;
  const { createEngine, folderStore, redisStore } = library();
  const model = await modelOf(family, size, dtype, 2 * prefix);
  const redis = 'redis' in store ? redisStore(store.redis) : undefined;
  const engine = createEngine(model, {
    prefixCache: { store: redis ?? folderStore((store as { folder: string }).folder) },
  });
  // Other tokens: what a process pays once is not what is measured.
  await firstToken(
    engine,
    Int32Array.from({ length: 32 }, (_, i) => (i * 5 + 1) % model.vocabSize),
  );
  const ms = await after(engine, model, job, 1000, 1);
  await engine.dispose();
  await redis?.close();
  await model.dispose();
  return ms;
}

function elsewhere(job: Job): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = fork(join(__dirname, 'child.js'), { stdio: 'inherit' });
    child.on('message', ({ ms, error }: { ms?: number; error?: string }) =>
      ms === undefined ? reject(new Error(error)) : resolve(ms),
    );
    child.on('exit', (code, signal) =>
      reject(new Error(`bench serving: the other process ended with ${signal ?? code}`)),
    );
    child.send(job);
  });
}

async function ratio(given: Omit<Job, 'store' | 'salt'>, store: Job['store'] | undefined): Promise<number> {
  const job = { ...given, salt: Date.now() };
  const { createEngine, folderStore, redisStore } = library();
  const model = await modelOf(job.family, job.size, job.dtype, 2 * job.prefix);
  const redis = store && 'redis' in store ? redisStore(store.redis) : undefined;
  const kept = redis ?? (store && folderStore((store as { folder: string }).folder));
  const engine = createEngine(model, { prefixCache: kept ? { store: kept } : {} });
  try {
    // A warm-up of other tokens, then the prefix cold.
    await firstToken(
      engine,
      Int32Array.from({ length: 32 }, (_, i) => (i * 5 + 1) % model.vocabSize),
    );
    const first = await firstToken(engine, promptOf(model, job, 0));
    if (first.cached > 0) throw new Error('bench serving: the store holds this prefix already');
    if (!store) return (await after(engine, model, job, 1, REPEATED)) / first.ms;
    await engine.drain();
    return (await elsewhere({ ...job, store })) / first.ms;
  } finally {
    await engine.dispose();
    await redis?.close();
    await model.dispose();
  }
}

/** The second request over the first, for a model of random weights. `redis`: the URL of an empty database. */
export function prefixCases(name: string, job: Omit<Job, 'store' | 'salt'>, redis: string | undefined): CallCase[] {
  const title = { group: 'prefix', what: 'second request / first, time to first token' };
  const cases: CallCase[] = [
    {
      ...{ ...title, name: `${name}, the same ${job.prefix} tokens`, bound: { atMost: 0.03 } },
      measure: () => ratio(job, undefined),
    },
    {
      ...{ ...title, name: `${name}, after a restart, from a folder`, bound: { atMost: 0.03 } },
      measure: async () => {
        const folder = mkdtempSync(join(tmpdir(), 'statespace-bench-'));
        try {
          return await ratio(job, { folder });
        } finally {
          rmSync(folder, { recursive: true });
        }
      },
    },
  ];
  if (redis !== undefined)
    cases.push({
      ...{ ...title, name: `${name}, another process, from Redis`, bound: { atMost: 0.06 } },
      measure: () => ratio(job, { redis }),
    });
  return cases;
}
