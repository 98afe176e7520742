// The chain that chooses tokens, in native code, against one written plainly here.
import { createModel, type GenerateOptions, type Model, type Session } from 'statespace';
import { beforeAll, describe, expect, test } from 'vitest';

const V = 64;
let model: Model;
beforeAll(async () => {
  model = await createModel({ model_type: 'mamba', vocab_size: V, hidden_size: 24, num_hidden_layers: 1 }, { seed: 3 });
});

/** A session whose next row of logits is known. */
async function start(prompt = [1, 2, 3]): Promise<{ session: Session; row: Float32Array }> {
  const session = model.createSession();
  const row = (await session.forward(prompt)).toFloat32Array().slice();
  return { session, row };
}

const scaled = (f: number, add = (_: number) => 0) => ({
  processLogits: (row: Float32Array) => {
    for (let i = 0; i < row.length; i++) row[i] = f * row[i]! + add(i);
  },
});

async function first(session: Session, options: GenerateOptions): Promise<{ token: number; logprob: number }> {
  for await (const part of session.fork().generate({ maxTokens: 1, ...options })) return part;
  throw new Error('nothing was generated');
}

/** The kept tokens and their weights, in the order in which they are drawn: all sorted, one filter after another. */
function plainly(logits: number[], o: GenerateOptions): { token: number; weight: number }[] {
  const top = Math.max(...logits);
  const weight = (t: number) => Math.exp((logits[t]! - top) / o.temperature!);
  let kept = logits.map((_, t) => t);
  if (o.topK || (o.topP ?? 1) < 1) kept.sort((a, b) => logits[b]! - logits[a]! || a - b);
  if (o.topK) kept = kept.slice(0, o.topK);
  const total = () => kept.reduce((sum, t) => sum + weight(t), 0);
  const until = (p: number) => {
    const all = total();
    let reached = 0;
    let n = 0;
    while (n < kept.length && reached < p * all) reached += weight(kept[n++]!);
    kept = kept.slice(0, Math.max(1, n));
  };
  if ((o.topP ?? 1) < 1) until(o.topP!);
  if (o.minP) kept = kept.filter((t) => weight(t) >= o.minP!);
  if ((o.typicalP ?? 1) < 1) {
    const all = total();
    const surprise = (t: number) => -Math.log(weight(t) / all);
    const mean = kept.reduce((sum, t) => sum + (weight(t) / all) * surprise(t), 0);
    kept.sort((a, b) => Math.abs(surprise(a) - mean) - Math.abs(surprise(b) - mean));
    until(o.typicalP!);
  }
  return kept.map((t) => ({ token: t, weight: weight(t) }));
}

test.each([0, 1])(
  'of a row without a number there is no token, and the session is as it was; temperature %i',
  async (temperature) => {
    const { session } = await start();
    const before = session.save({ logits: true });
    const nothing = scaled(Number.NaN);
    await expect(first(session, { temperature, ...nothing })).rejects.toMatchObject({
      code: 'ERR_STATE',
      message: expect.stringMatching(/none of the 64 logits is a number/),
    });
    expect(session.save({ logits: true })).toEqual(before);
    const banned = await first(session, { temperature, ...scaled(1, (i) => (i === 5 ? 0 : Number.NaN)) });
    expect(banned.token).toBe(5);
  },
);

function splitmix(seed: number): number {
  const mask = (1n << 64n) - 1n;
  let z = (BigInt(seed) + 0x9e3779b97f4a7c15n) & mask;
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & mask;
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & mask;
  return Number((z ^ (z >> 31n)) >> 11n) / 2 ** 53;
}

const CHAINS: GenerateOptions[] = [
  { temperature: 1 },
  { temperature: 0.7, topK: 5 },
  { temperature: 1.5, topK: 2000 },
  { temperature: 0.8, topP: 0.9 },
  { temperature: 0.8, topK: 20, topP: 0.5 },
  { temperature: 1, minP: 0.3 },
  { temperature: 1, topK: 30, minP: 0.2 },
  { temperature: 1, topP: 0.95, minP: 0.2 },
  { temperature: 1, typicalP: 0.6 },
  { temperature: 1, topK: 24, typicalP: 0.5 },
  { temperature: 1.2, topP: 0.8, typicalP: 0.7 },
];

describe.each(CHAINS.map((c) => [JSON.stringify(c), c] as const))('%s', (_, chain) => {
  test.each([1, 40])('chooses what the plain chain does, logits times %i', async (factor) => {
    const { session, row } = await start();
    const logits = Array.from(row, (x) => factor * x);
    const kept = plainly(logits, chain);
    const total = kept.reduce((sum, k) => sum + k.weight, 0);
    let differences = 0;
    for (let seed = 0; seed < 60; seed++) {
      const hook = factor === 1 ? {} : scaled(factor);
      const { token, logprob } = await first(session, { ...chain, ...hook, seed });
      let left = splitmix(seed) * total;
      const taken = kept.find((k) => {
        left -= k.weight;
        return left < 0;
      });
      const want = taken ?? kept[0]!;
      if (token !== want.token) differences++;
      const all = Math.log(row.reduce((sum, x) => sum + Math.exp(x), 0));
      expect(logprob).toBeCloseTo(row[token]! - all, 4);
    }
    expect(differences).toBeLessThanOrEqual(1); // a draw on an edge may fall to either side
  });
});

describe('what changes logits', () => {
  test('penalties, bias and banned ends', async () => {
    const prompt = [5, 9, 9, 9, 7];
    const { session, row } = await start(prompt);
    const best = (change: (x: number, t: number) => number) => {
      const changed = Array.from(row, change);
      return changed.indexOf(Math.max(...changed));
    };
    const count = (t: number) => prompt.filter((p) => p === t).length;
    const seen = (t: number) => (count(t) ? 1 : 0);
    const cases: [GenerateOptions, (x: number, t: number) => number][] = [
      [{ frequencyPenalty: -0.9 }, (x, t) => x + 0.9 * count(t)],
      [{ presencePenalty: -0.9 }, (x, t) => x + 0.9 * seen(t)],
      [{ repetitionPenalty: 0.01 }, (x, t) => (seen(t) ? (x > 0 ? x / 0.01 : x * 0.01) : x)],
      [{ presencePenalty: -9, penaltyLastN: 1 }, (x, t) => (t === 7 ? x + 9 : x)],
      [{ presencePenalty: -9, penaltyLastN: 0 }, (x) => x],
      [{ logitBias: { 11: 20 } }, (x, t) => (t === 11 ? x + 20 : x)],
    ];
    for (const [options, change] of cases) expect((await first(session, options)).token).toBe(best(change));
    const likeliest = best((x) => x);
    expect((await first(session, { logitBias: { [likeliest]: Number.NEGATIVE_INFINITY } })).token).not.toBe(likeliest);
    const held: number[] = [];
    for await (const { token } of session.fork().generate({ maxTokens: 5, minTokens: 3, stop: [likeliest] }))
      held.push(token);
    expect(held.length).toBeGreaterThanOrEqual(3);
    expect(held.slice(0, 3)).not.toContain(likeliest);
  });

  test('penalties follow what is generated and what a restored session has seen', async () => {
    const { session } = await start();
    const options = { maxTokens: 20, frequencyPenalty: 50 };
    const run = async (s: Session) => {
      const out: number[] = [];
      for await (const { token } of s.generate(options)) out.push(token);
      return out;
    };
    const restored = model.restoreSession(session.save({ logits: true }));
    const tokens = await run(session);
    expect(new Set([1, 2, 3, ...tokens]).size).toBe(23);
    expect(await run(restored)).toEqual(tokens);
  });

  test('a hook sees the row and all tokens, and has the last word before the chain', async () => {
    const { session, row } = await start();
    const seen: number[][] = [];
    const out: number[] = [];
    const hook = (logits: Float32Array, tokens: readonly number[]) => {
      if (seen.length === 0) expect(logits).toEqual(row);
      seen.push([...tokens]);
      logits[30 + seen.length] = 100;
    };
    for await (const { token } of session.generate({ maxTokens: 3, processLogits: hook })) out.push(token);
    expect(out).toEqual([31, 32, 33]);
    expect(seen).toEqual([
      [1, 2, 3],
      [1, 2, 3, 31],
      [1, 2, 3, 31, 32],
    ]);
    await expect(
      first(session, {
        processLogits: () => {
          throw new Error('mine');
        },
      }),
    ).rejects.toThrow('mine');
  });

  test.each([
    [
      'a hook that goes on after it has returned',
      { processLogits: async () => {} },
      /processLogits: .*received a promise/,
    ],
    ['a Map of biases', { logitBias: new Map([[10, 5]]) }, /logitBias: expected an object/],
    ['an array of biases', { logitBias: [1, 2] }, /logitBias: expected an object/],
    ['an id in hexadecimal', { logitBias: { '0x1': 1 } }, /logitBias: expected ids from 0/],
    [
      'a temperature below 0',
      { temperature: -1 },
      'generate: temperature: expected a number of at least 0, received -1',
    ],
    ['a penalty of 0', { repetitionPenalty: 0 }, 'generate: repetitionPenalty: expected a number above 0, received 0'],
    [
      'a penalty without end',
      { presencePenalty: Infinity },
      'presencePenalty: expected a finite number, received Infinity',
    ],
    ['topP above 1', { topP: 2 }, 'generate: topP: expected a number from 0 to 1, received 2'],
  ])('%s is refused', async (_, options, message) => {
    const { session } = await start();
    await expect(first(session, options as never)).rejects.toThrow(message);
  });

  const all = Object.fromEntries(Array.from({ length: V }, (_, id) => [id, Number.NEGATIVE_INFINITY]));
  test.each([
    ['a bias', { logitBias: all }],
    ['a bias, drawn', { logitBias: all, temperature: 1, topP: 0.9 }],
    ['a hook', { processLogits: (row: Float32Array) => void row.fill(Number.NEGATIVE_INFINITY) }],
  ])('%s that bans every token is refused: it gave the first', async (_, options) => {
    const { session } = await start();
    await expect(first(session, options)).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
      message: 'sample: none of the 64 tokens may come: logitBias, processLogits or the format bans all of them',
    });
    expect((await session.forward([1])).shape).toEqual([1, V]);
  });

  test.each([{}, { prompt: [] }, { prompt: [], processLogits: () => {} }])(
    'nothing to go on from is refused: %j',
    async (options) => {
      const fresh = model.createSession();
      await expect(first(fresh, options)).rejects.toThrow(
        "generate: expected a prompt, or an earlier forward with logits 'last' or 'all'",
      );
    },
  );

  test('the likeliest alternatives come with their log-probabilities', async () => {
    const { session, row } = await start();
    const all = Math.log(row.reduce((sum, x) => sum + Math.exp(x), 0));
    const order = Array.from(row.keys()).sort((a, b) => row[b]! - row[a]!);
    for (const hook of [{}, scaled(1)]) {
      const part = await first(session, { logprobs: 4, temperature: 1, seed: 1, ...hook });
      const { alternatives } = part as { alternatives?: { token: number; logprob: number }[] };
      expect(alternatives!.map((a) => a.token)).toEqual(order.slice(0, 4));
      for (const a of alternatives!) expect(a.logprob).toBeCloseTo(row[a.token]! - all, 4);
    }
  });
});

test('a million draws are distributed as the softmax says (χ²)', async () => {
  const { Sampler } = await import('../../dist/lib/session/sampler.js');
  const { native } = await import('../../dist/lib/native.js');
  const { row } = await start();
  const n = native();
  for (const chain of [{ temperature: 0.9 }, { temperature: 0.9, topP: 0.97 }, { temperature: 0.9, topK: 20 }]) {
    const session = model.newSession();
    const sampler = new Sampler({ ...chain, seed: 11 }, V);
    const kept = plainly(Array.from(row), chain);
    const total = kept.reduce((sum, k) => sum + k.weight, 0);
    const draws = 1_000_000;
    const counts = new Float64Array(V);
    for (let i = 0; i < draws; i++) counts[n.sampleRow(sampler.handle, session as never, row)]!++;
    const square = kept.reduce((sum, k) => {
      const want = (draws * k.weight) / total;
      return sum + (counts[k.token]! - want) ** 2 / want;
    }, 0);
    expect(kept.reduce((sum, k) => sum + counts[k.token]!, 0)).toBe(draws);
    const freedom = kept.length - 1;
    expect(Math.abs(square - freedom)).toBeLessThan(6 * Math.sqrt(2 * freedom)); // six standard deviations
  }
});
