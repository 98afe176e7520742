import { AsyncLocalStorage } from 'node:async_hooks';
import { join } from 'node:path';
import { createEngine, type Engine, type EngineToken, loadModel, type Model } from 'statespace';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { alone, ids, llama, mamba, numbers } from '../support/engines.js';
import { modelCase, readGolden } from '../support/golden.js';

const models: Record<string, Model> = {};
beforeAll(async () => {
  models.mamba = await mamba();
  models.llama = await llama();
});
afterAll(async () => {
  for (const model of Object.values(models)) await model.dispose();
});

async function collect(stream: AsyncIterable<EngineToken>): Promise<EngineToken[]> {
  const parts: EngineToken[] = [];
  for await (const part of stream) parts.push(part);
  return parts;
}
const tokensOf = async (stream: AsyncIterable<EngineToken>) => (await collect(stream)).map((part) => part.token);

describe.each(['mamba', 'llama'])('an engine of a %s', (name) => {
  test('64 requests of many lengths at once each say what they say alone', async () => {
    const model = models[name]!;
    await using engine = createEngine(model, { maxBatchTokens: 96, maxRunning: 24 });
    const next = numbers(3);
    const requests = Array.from({ length: 64 }, (_, i) => {
      const prompt = ids(next, 10 + next(i % 8 === 0 ? 900 : 60));
      const sampled = i % 3 === 2 ? { temperature: 0.8, topK: 20, seed: i } : {};
      return { prompt, maxTokens: 1 + next(24), repetitionPenalty: i % 5 === 4 ? 1.2 : 1, ...sampled };
    });
    const got = await Promise.all(requests.map((request) => tokensOf(engine.generate(request))));
    for (const [i, request] of requests.entries()) expect(got[i], `request ${i}`).toEqual(await alone(model, request));
    const stats = engine.stats();
    expect(stats).toMatchObject({ running: 0, queued: 0, finished: 64, failed: 0 });
    expect(stats.generatedTokens).toBe(got.flat().length);
    expect(stats.promptTokens).toBe(requests.reduce((n, r) => n + r.prompt.length, 0));
    // They were together: as many steps as tokens would mean that they were not.
    expect(stats.steps).toBeLessThan(got.flat().length / 2);
  });

  test('tokens count when they are generated, whether or not anybody reads them', async () => {
    await using engine = createEngine(models[name]!);
    const stream = engine.generate({ prompt: ids(numbers(4), 20), maxTokens: 6 });
    await stream.next();
    await engine.drain();
    expect(engine.stats()).toMatchObject({ running: 0, finished: 1, generatedTokens: 6 });
    await stream.return();
  });

  test('the last token says why it is the last, and what the request took', async () => {
    const model = models[name]!;
    await using engine = createEngine(model);
    const prompt = ids(numbers(5), 20);
    const plain = await collect(engine.generate({ prompt, maxTokens: 6 }));
    expect(plain.map((p) => p.finishReason)).toEqual([...new Array(5).fill(undefined), 'length']);
    expect(plain.at(-1)!.usage).toEqual({ promptTokens: 20, cachedTokens: 0, generatedTokens: 6 });
    const stop = plain[3]!.token;
    const at = plain.findIndex((p) => p.token === stop);
    const stopped = await collect(engine.generate({ tokens: prompt, maxTokens: 6, stop: [stop] }));
    expect(stopped.map((p) => p.token)).toEqual(plain.slice(0, at).map((p) => p.token));
    if (at > 0) expect(stopped.at(-1)).toMatchObject({ finishReason: 'stop', cachedTokens: 19 });
    const why = engine.generate({ tokens: prompt, maxTokens: 6, stop: [stop] });
    await collect(why);
    expect([why.finishReason, why.stoppedBy]).toEqual(['stop', stop]);
    const none = engine.generate({ prompt, maxTokens: 0 });
    expect(await collect(none)).toEqual([]);
    expect(none.finishReason).toBe('length');
    expect(none.usage).toEqual({ promptTokens: 20, cachedTokens: 0, generatedTokens: 0 });
  });
});

describe('a hook that changes logits', () => {
  const prompt = ids(numbers(15), 12);
  /** Bans what was said, as an example of what only the caller knows. */
  const processLogits = (row: Float32Array, tokens: readonly number[]) => {
    for (const id of tokens) row[id] = Number.NEGATIVE_INFINITY;
  };

  test.each([{}, { temperature: 0.9, seed: 5, repetitionPenalty: 1.3 }, { minTokens: 3, stop: [1] }])(
    'chooses beside others what it chooses alone: %j',
    async (options) => {
      const model = models.mamba!;
      await using engine = createEngine(model);
      const request = { prompt, maxTokens: 12, logprobs: 2, processLogits, ...options };
      const plain = { prompt: prompt.subarray(2), maxTokens: 12 };
      const [hooked, other] = await Promise.all([collect(engine.generate(request)), tokensOf(engine.generate(plain))]);
      expect(other).toEqual(await alone(model, plain));
      const expected = [];
      for await (const part of model.createSession().generate(request)) expected.push(part);
      expect(hooked.map((p) => p.token)).toEqual(expected.map((p) => p.token));
      for (const [i, { logprob, alternatives }] of hooked.entries()) {
        expect(logprob).toBeCloseTo(expected[i]!.logprob, 4);
        expect(alternatives!.map((a) => a.token)).toEqual(expected[i]!.alternatives!.map((a) => a.token));
      }
    },
  );

  test('runs in the context of its own request', async () => {
    await using engine = createEngine(models.mamba!);
    const context = new AsyncLocalStorage<number>();
    const seen = [0, 1, 2].map(() => new Set<unknown>());
    const ask = (i: number) =>
      tokensOf(engine.generate({ prompt, maxTokens: 4, processLogits: () => void seen[i]!.add(context.getStore()) }));
    await Promise.all(seen.map((_, i) => context.run(i, () => ask(i))));
    expect(seen).toEqual([0, 1, 2].map((i) => new Set([i])));
  });

  test('ends its own request where it throws, and no other', async () => {
    const model = models.llama!;
    await using engine = createEngine(model);
    const failure = new Error('mine');
    const throws = () => {
      throw failure;
    };
    const plain = { prompt: prompt.subarray(2), maxTokens: 12 };
    const [failed, other] = await Promise.allSettled([
      tokensOf(engine.generate({ prompt, processLogits: throws })),
      tokensOf(engine.generate(plain)),
    ]);
    expect(failed).toEqual({ status: 'rejected', reason: failure });
    expect(other).toEqual({ status: 'fulfilled', value: await alone(model, plain) });
    await expect(tokensOf(engine.generate({ prompt, processLogits: 5 as never }))).rejects.toThrow(/a function/);
  });
});

describe('limits', () => {
  const prompt = ids(numbers(9), 40);

  test('one more than may wait is ERR_OVERLOADED, and the others are served', async () => {
    await using engine = createEngine(models.mamba!, { maxRunning: 2, maxQueued: 3 });
    const results = await Promise.allSettled(
      Array.from({ length: 8 }, () => tokensOf(engine.generate({ prompt, maxTokens: 4 }))),
    );
    const failed = results.filter((r) => r.status === 'rejected');
    expect(failed.length).toBe(3);
    for (const { reason } of failed) expect(reason).toMatchObject({ code: 'ERR_OVERLOADED' });
    expect(engine.stats()).toMatchObject({ running: 0, queued: 0, finished: 5, failed: 3 });
  });

  test('sessions and cache together stay below memoryBytes', async () => {
    const model = models.llama!;
    const one = model.sessionBytes(400).total;
    const memoryBytes = Math.floor(3.5 * one);
    await using engine = createEngine(model, { memoryBytes, prefixCache: { bytes: 2 * one, every: 64 } });
    const next = numbers(11);
    let most = 0;
    let running = 0;
    const watch = setInterval(() => {
      running = Math.max(running, engine.stats().running);
      most = Math.max(most, engine.stats().running * one + engine.stats().cacheBytes);
    }, 1);
    await Promise.all(
      Array.from({ length: 20 }, () => tokensOf(engine.generate({ prompt: ids(next, 390), maxTokens: 10 }))),
    );
    clearInterval(watch);
    expect(running).toBeGreaterThan(1);
    expect(most).toBeLessThanOrEqual(memoryBytes);
    await expect(tokensOf(engine.generate({ prompt, maxTokens: 5000 }))).rejects.toMatchObject({
      code: 'ERR_OUT_OF_MEMORY',
    });
  });

  test('a deadline, an abort and a reader that leaves end a request, not the others', async () => {
    const model = models.mamba!;
    await using engine = createEngine(model, { maxRunning: 8 });
    const long = { prompt, maxTokens: 100_000 };
    const other = tokensOf(engine.generate({ prompt: prompt.subarray(3), maxTokens: 50 }));
    await expect(tokensOf(engine.generate({ ...long, timeoutMs: 30 }))).rejects.toMatchObject({ code: 'ERR_TIMEOUT' });
    const abort = new AbortController();
    setTimeout(() => abort.abort(new Error('enough')), 20);
    await expect(tokensOf(engine.generate({ ...long, signal: abort.signal }))).rejects.toThrow('enough');
    await expect(tokensOf(engine.generate({ ...long, signal: AbortSignal.abort() }))).rejects.toThrow(/abort/);
    let count = 0;
    for await (const _ of engine.generate(long)) if (++count === 3) break;
    expect(await other).toEqual(await alone(model, { prompt: prompt.subarray(3), maxTokens: 50 }));
    await engine.drain();
    expect(engine.stats()).toMatchObject({ running: 0, queued: 0 });
    await expect(tokensOf(engine.generate(long))).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
  });

  test('dispose ends what runs and what waits', async () => {
    const engine = createEngine(models.mamba!, { maxRunning: 1 });
    const results = Promise.allSettled([1, 2].map(() => tokensOf(engine.generate({ prompt, maxTokens: 100_000 }))));
    setTimeout(() => void engine.dispose(), 20);
    for (const result of await results)
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'ERR_DISPOSED' } });
  });

  test.each([
    [{}, /one of prompt, tokens and messages/],
    [{ prompt: [1], tokens: [1] }, /prompt and tokens/],
    [{ prompt: [] }, /at least one token/],
    [{ prompt: [96] }, /an id from 0 to 95/],
    [{ prompt: 'text' }, /tokenizer/],
    [{ messages: [] }, /at least one message/],
    [{ prompt: [1], maxTokens: -1 }, /maxTokens/],
    [{ prompt: [1], priority: Number.NaN }, /priority/],
    [{ prompt: [1], timeoutMs: 0 }, /timeoutMs/],
    [{ prompt: [1], temperature: -1 }, /temperature/],
    [{ prompt: [1], stop: ['x'] }, /tokenizer/],
    [{ prompt: [1], responseFormat: { type: 'regex', pattern: 'a' } }, /responseFormat/],
  ])('%j is refused', async (request, message) => {
    await using engine = createEngine(models.mamba!);
    await expect(tokensOf(engine.generate(request as never))).rejects.toThrow(message);
    expect(engine.stats().queued).toBe(0);
  });

  test.each([
    ['generate: prompt[1]', (engine: Engine) => tokensOf(engine.generate({ prompt: [1, 96] }))],
    ['generate: tokens[0]', (engine: Engine) => tokensOf(engine.generate({ tokens: [96] }))],
    ['generate: tokens', (engine: Engine) => tokensOf(engine.generate({ tokens: [] }))],
    ['generate: prompt', (engine: Engine) => tokensOf(engine.generate({ prompt: 5 as never }))],
    ['embed: input', (engine: Engine) => engine.embed([])],
    ['embed: input', (engine: Engine) => engine.embed('text')],
    ['embed: input', (engine: Engine) => engine.embed(undefined as never)],
    ['embed: input[0]', (engine: Engine) => engine.embed(['text'] as never)],
    ['score: tokens', (engine: Engine) => engine.score('text' as never)],
    ['score: tokens[1]', (engine: Engine) => engine.score([1, 96])],
    ['generate: prompt[0]', ({ model }: Engine) => tokensOf(model.createSession().generate({ prompt: [96] }) as never)],
    ['forward: tokens[0]', ({ model }: Engine) => model.createSession().forward([96])],
  ])('%s is what the error of a wrong one begins with', async (name, call) => {
    await using engine = createEngine(models.mamba!);
    const error = await call(engine).catch((reason) => reason);
    expect(error).toMatchObject({ code: 'ERR_ARGUMENT' });
    expect(error.message.slice(0, name.length + 1)).toBe(`${name}:`);
  });

  test.each([
    [{ maxBatchTokens: 0 }, /maxBatchTokens/],
    [{ maxRunning: 1.5 }, /maxRunning/],
    [{ prefixCache: true }, /prefixCache/],
    [{ prefixCache: { every: 0 } }, /every/],
    [{ prefixCache: { store: {} } }, /get\(\)/],
  ])('an engine with %j is refused', (options, message) => {
    expect(() => createEngine(models.mamba!, options as never)).toThrow(message);
  });
});

describe('order', () => {
  /** In which order requests ended, of an engine that serves one at a time. */
  async function order(engine: Engine, requests: { name: string; priority?: number; client?: string }[]) {
    const ended: string[] = [];
    await Promise.all(
      requests.map(async ({ name, ...request }, i) => {
        await tokensOf(engine.generate({ prompt: [i, 2, 3], maxTokens: 20, ...request }));
        ended.push(name);
      }),
    );
    return ended;
  }

  test('higher priorities first', async () => {
    await using engine = createEngine(models.mamba!, { maxRunning: 1 });
    const requests = [0, 5, 1, 9].map((priority) => ({ name: `${priority}`, priority }));
    expect(await order(engine, requests)).toEqual(['9', '5', '1', '0']);
  });

  test('a client with many requests does not keep another waiting', async () => {
    await using engine = createEngine(models.mamba!, { maxRunning: 1 });
    const many = Array.from({ length: 6 }, (_, i) => ({ name: `a${i}`, client: 'a' }));
    const ended = await order(engine, [...many, { name: 'b0', client: 'b' }, { name: 'b1', client: 'b' }]);
    expect(ended.indexOf('b0')).toBeLessThanOrEqual(1);
    expect(ended.indexOf('b1')).toBeLessThanOrEqual(3);
  });

  test('a short prompt need not wait for a long one', async () => {
    const model = models.mamba!;
    await using engine = createEngine(model, { maxBatchTokens: 64 });
    const ended: string[] = [];
    await Promise.all([
      tokensOf(engine.generate({ prompt: ids(numbers(1), 8000), maxTokens: 1 })).then(() => ended.push('long')),
      tokensOf(engine.generate({ prompt: ids(numbers(2), 50), maxTokens: 8 })).then(() => ended.push('short')),
    ]);
    expect(ended).toEqual(['short', 'long']);
  });
});

test('score: the log-probability of every token but the first', async () => {
  const model = models.llama!;
  await using engine = createEngine(model);
  const tokens = ids(numbers(21), 150);
  const scores = await engine.score(tokens);
  const logits = await model.createSession().forward(tokens, { logits: 'all' });
  const [rows, width] = [logits.toFloat32Array(), logits.shape[1]!];
  for (let i = 0; i + 1 < tokens.length; i++) {
    const row = rows.subarray(i * width, (i + 1) * width);
    const total = Math.log(row.reduce((sum, x) => sum + Math.exp(x), 0));
    expect(Math.abs(scores[i]! - (row[tokens[i + 1]!]! - total))).toBeLessThan(1e-4);
  }
  expect(scores.length).toBe(149);
  expect(await engine.score([1])).toEqual(new Float32Array(0));
  await expect(engine.score([1, 96])).rejects.toThrow(/an id from 0 to 95/);
});

test('embed: the mean of the hidden states, or the last one; what the head makes logits of', async () => {
  const model = models.llama!;
  await using engine = createEngine(model, { maxBatchTokens: 16 });
  const tokens = ids(numbers(23), 75);
  const [last, first] = await Promise.all([engine.embed(tokens, { pooling: 'last' }), engine.embed([tokens[0]!])]);
  expect(last.length).toBe(32);
  // The mean over all prefixes' last states is the mean of the states.
  const states = await Promise.all(
    Array.from({ length: 5 }, (_, i) => engine.embed(tokens.subarray(0, i + 1), { pooling: 'last' })),
  );
  const mean = await engine.embed(tokens.subarray(0, 5));
  for (let c = 0; c < 32; c++) expect(mean[c]!).toBeCloseTo(states.reduce((sum, state) => sum + state[c]!, 0) / 5, 4);
  expect(first).toEqual(states[0]);
});

test('hidden states times the head are the logits', async () => {
  const { folder } = modelCase('mamba_hf');
  const model = await loadModel(folder);
  await using engine = createEngine(model);
  const tokens = ids(numbers(25), 30);
  const state = await engine.embed(tokens, { pooling: 'last' });
  const logits = (await model.createSession().forward(tokens)).toFloat32Array();
  const { tensors } = readGolden(join(folder, 'model.safetensors'));
  const head = tensors['backbone.embeddings.weight']!;
  const [vocab, width] = head.shape as [number, number];
  expect(state.length).toBe(width);
  for (let t = 0; t < vocab; t++) {
    const row = head.data.subarray(t * width, (t + 1) * width) as Float32Array;
    expect(row.reduce((sum, w, c) => sum + w * state[c]!, 0)).toBeCloseTo(logits[t]!, 3);
  }
  await model.dispose();
});
