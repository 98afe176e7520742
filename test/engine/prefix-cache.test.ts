// What comes from the cache equals what was computed cold: random trees of prompts that share prefixes.
import { createEngine, type Model } from 'statespace';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ids, llama, mamba, numbers, oneModelOfEachFamily } from '../support/engines.js';
import { amount } from '../support/scale.js';

let families: { name: string; model: Model }[] = [];
beforeAll(async () => {
  families = await oneModelOfEachFamily();
});
afterAll(async () => {
  for (const { model } of families) await model.dispose();
});

interface Said {
  tokens: number[];
  logprobs: number[];
}

/** Of a session by itself. Computed once a prompt. */
class Cold {
  private readonly known = new Map<string, Promise<Said>>();
  constructor(private readonly model: Model) {}

  said(prompt: Int32Array, maxTokens: number): Promise<Said> {
    const key = `${maxTokens}:${prompt.join()}`;
    const known = this.known.get(key) ?? this.compute(prompt, maxTokens);
    this.known.set(key, known);
    return known;
  }

  private async compute(prompt: Int32Array, maxTokens: number): Promise<Said> {
    await using session = this.model.createSession();
    const said: Said = { tokens: [], logprobs: [] };
    for await (const { token, logprob } of session.generate({ prompt, maxTokens })) {
      said.tokens.push(token);
      said.logprobs.push(logprob);
    }
    return said;
  }

  /** How much less likely `token` is than what is said after `tokens`. */
  async gap(tokens: Int32Array, token: number): Promise<number> {
    await using session = this.model.createSession();
    const row = (await session.forward(tokens)).toFloat32Array().subarray(0, this.model.vocabSize);
    return Math.max(...row) - row[token]!;
  }
}

// f32 over other pieces of a prompt: what chunked forms differ by from one another.
const BOUND = 2e-3;

/** One tree: prompts that go on from points of earlier ones, some at once, some aborted, in a cache that is too small. */
async function randomTree(model: Model, cold: Cold, seed: number): Promise<{ cached: number; evicted: number }> {
  const next = numbers(seed);
  const vocab = Math.min(model.vocabSize, 64);
  const least = model.sessionBytes(64).total;
  const bytes = least * (2 + next(12));
  const memoryBytes = bytes + 16 * model.sessionBytes(256).total;
  await using engine = createEngine(model, {
    ...{ maxRunning: 1 + next(6), maxBatchTokens: 8 + next(64), memoryBytes },
    prefixCache: { bytes, every: 1 + next(40) },
  });
  const prompts: Int32Array[] = [ids(next, 1 + next(50), vocab)];
  for (let round = 0; round < 3; round++) {
    const asked: Promise<void>[] = [];
    for (let i = 1 + next(3); i > 0; i--) {
      const from = prompts[next(prompts.length)]!;
      const own = ids(next, next(24), vocab);
      const prompt = Int32Array.from([...from.subarray(0, 1 + next(from.length)), ...own]);
      prompts.push(prompt);
      const maxTokens = 1 + next(4);
      asked.push(next(6) === 0 ? leave(engine, prompt) : ask(engine, cold, prompt, maxTokens));
    }
    await Promise.all(asked);
    expect(engine.stats().cacheBytes).toBeLessThanOrEqual(bytes);
  }
  const { cachedTokens, evictions } = engine.stats();
  return { cached: cachedTokens, evicted: evictions };
}

type AnEngine = ReturnType<typeof createEngine>;

async function leave(engine: AnEngine, prompt: Int32Array): Promise<void> {
  for await (const _ of engine.generate({ prompt, maxTokens: 50 })) return;
}

async function ask(engine: AnEngine, cold: Cold, prompt: Int32Array, maxTokens: number): Promise<void> {
  const expected = await cold.said(prompt, maxTokens);
  let i = 0;
  for await (const { token, logprob } of engine.generate({ prompt, maxTokens })) {
    if (token !== expected.tokens[i]) {
      // Two that are equal but for rounding may change places; nothing else may differ.
      const gap = await cold.gap(Int32Array.from([...prompt, ...expected.tokens.slice(0, i)]), token);
      expect(gap, `${prompt}: ${token} in place of ${expected.tokens[i]} at ${i}`).toBeLessThan(BOUND);
      return;
    }
    expect(Math.abs(logprob - expected.logprobs[i]!)).toBeLessThan(BOUND);
    i++;
  }
  expect(i).toBe(expected.tokens.length);
}

test('random trees in a cache that is too small: every answer is the cold one', { timeout: 3_600_000 }, async () => {
  const cold = new Map(families.map(({ name, model }) => [name, new Cold(model)]));
  expect(families.length).toBeGreaterThanOrEqual(8);
  const total = { cached: 0, evicted: 0 };
  for (let seed = 0; seed < amount(200, 10_000); seed++) {
    const { name, model } = families[seed % families.length]!;
    const { cached, evicted } = await randomTree(model, cold.get(name)!, seed);
    total.cached += cached;
    total.evicted += evicted;
  }
  expect(total.cached).toBeGreaterThan(1000);
  expect(total.evicted).toBeGreaterThan(100);
});

describe.each([
  ['mamba', mamba],
  ['llama', llama],
] as const)('a %s', (_, make) => {
  let model: Model;
  beforeAll(async () => {
    model = await make();
  });
  afterAll(() => model.dispose());

  /** The tokens, their log-probabilities and how many of the prompt's came from the cache. */
  async function ask(engine: AnEngine, prompt: Int32Array) {
    const said = { tokens: [] as number[], logprobs: [] as number[], cached: -1 };
    for await (const { token, logprob, cachedTokens } of engine.generate({ prompt, maxTokens: 8 })) {
      said.tokens.push(token);
      said.logprobs.push(logprob);
      said.cached = cachedTokens;
    }
    return said;
  }

  test('the same prompt again: all but its last token is found, and the answer is the same to the bit', async () => {
    await using engine = createEngine(model, { prefixCache: { every: 64 } });
    const prompt = ids(numbers(4), 500);
    const first = await ask(engine, prompt);
    const second = await ask(engine, prompt);
    expect(first.cached).toBe(0);
    expect(second).toEqual({ ...first, cached: 499 });
  });

  test('what branches is found to the last checkpoint before, the next time to the branch', async () => {
    await using engine = createEngine(model, { prefixCache: { every: 64 } });
    const next = numbers(6);
    const shared = ids(next, 300);
    const asked = () => Int32Array.from([...shared, ...ids(next, 150)]);
    expect((await ask(engine, asked())).cached).toBe(0);
    expect((await ask(engine, asked())).cached).toBe(256);
    expect((await ask(engine, asked())).cached).toBe(300);
  });

  test('what was answered is found by who goes on with it', async () => {
    await using engine = createEngine(model, { prefixCache: { every: 64 } });
    const prompt = ids(numbers(8), 100);
    const { tokens } = await ask(engine, prompt);
    const later = Int32Array.from([...prompt, ...tokens, ...ids(numbers(9), 20)]);
    expect((await ask(engine, later)).cached).toBe(107);
  });

  test('many that begin the same and come at once: it is read once', async () => {
    await using engine = createEngine(model, { prefixCache: { every: 1000 } });
    const next = numbers(10);
    const shared = ids(next, 700);
    const answers = await Promise.all(
      Array.from({ length: 12 }, () => ask(engine, Int32Array.from([...shared, ...ids(next, 10)]))),
    );
    expect(answers.map(({ cached }) => cached).sort((a, b) => a - b)).toEqual([0, ...new Array(11).fill(700)]);
  });

  test('prompts that are read beside others leave every fourth of the checkpoints that are a guess, and all others', async () => {
    const next = numbers(12);
    const prompts = Array.from({ length: 4 }, () => ids(next, 600));
    const left = async (at: (prompt: Int32Array, engine: AnEngine) => Promise<unknown>) => {
      await using engine = createEngine(model, { maxBatchTokens: 64, prefixCache: { every: 40 } });
      await at(prompts[0]!, engine);
      return engine.stats().checkpoints;
    };
    const alone = await left((prompt, engine) => ask(engine, prompt));
    const beside = await left((_, engine) => Promise.all(prompts.map((prompt) => ask(engine, prompt))));
    // The end of the prompt and of the answer, 32 and 128 tokens before the end; and of the grid 14 of 15 or 3.
    expect(alone).toBe(4 + 14);
    expect(beside).toBeGreaterThanOrEqual(4 * (4 + 3));
    expect(beside).toBeLessThanOrEqual(4 * (4 + 5)); // the last to end are alone at their end
  });

  test('without a cache nothing is found', async () => {
    await using engine = createEngine(model, { prefixCache: false });
    const prompt = ids(numbers(4), 100);
    const first = await ask(engine, prompt);
    expect(await ask(engine, prompt)).toEqual({ ...first, cached: 0 });
    expect(engine.stats().cacheBytes).toBe(0);
  });
});
