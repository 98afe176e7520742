// Every public layer by itself, in a network of its own: one run over a batch, each sequence alone, and a session fed in
// any pieces give the same rows. And each says in its docstring what goes in and comes out.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createModel, layers, type ModelDefinition, registerModel, Tensor } from 'statespace';
import { describe, expect, test } from 'vitest';
import { hasKernel } from '../conformance/backends.js';
import { expectClose } from '../support/golden.js';
import { feedRows, feedTokens, wave } from '../support/sessions.js';

const D = 12;
const L = 37;
type Build = (...a: Parameters<ModelDefinition['build']>) => ReturnType<ModelDefinition['build']>;

const EXPERTS = { router: 'router', experts: 'experts', gate: 'gate', up: 'up', down: 'down' };
const heads = { nHeads: 3, headSize: 4, eps: 64e-5 };

/** A network of each layer over float rows. */
const rows: Record<string, Build> = {
  activate: (g) => layers.activate(g, g.input(D), 'gelu'),
  adapted: (g, w) => {
    const x = g.input(D);
    const y = layers.linear(g, x, w, 'project', 7);
    return layers.adapted(g, y, x, w, { rank: 3, down: 'down', up: 'up' });
  },
  addScaled: (g, w) => {
    const x = g.input(D);
    return layers.addScaled(g, x, layers.linear(g, x, w, 'project', D), 0.5);
  },
  attend: (g, w) => {
    const qkv = layers.linear(g, g.input(D), w, 'qkv', 3 * D);
    const [q, k, v] = g.split(qkv, 3).map((x) => g.reshape(x, 3, 4));
    return g.op('activate', { x: g.reshape(layers.attend(g, q!, k!, v!, { nHeads: 3, nHeadsKv: 3, headDim: 4 }), D) });
  },
  attention: (g, w) =>
    layers.attention(g, g.input(D), w, { nHeads: 3, nHeadsKv: 1, headDim: 4, window: 9, rope: { theta: 100 } }),
  bidirectional: (g, w) =>
    layers.bidirectional(g, g.input(D), w, (g, x, w) => layers.conv1d(g, x, w, { dConv: 3 }), { merge: 'concat' }),
  cca: (g, w) =>
    layers.cca(g, g.input(D), w, {
      ...{ nHeads: 4, nHeadsKv: 2, headDim: 4, taps: [2, 3], bias: true, rope: { theta: 100, rotaryDim: 2 } },
    }),
  concat: (g, w) => {
    const x = g.input(D);
    return layers.concat(g, [x, layers.linear(g, x, w, 'project', 7)]);
  },
  conv1d: (g, w) => layers.conv1d(g, g.input(D), w, { dConv: 5 }),
  deltaNet: (g, w) =>
    layers.deltaNet(g, g.input(D), w, {
      ...{ nKeyHeads: 2, nValueHeads: 4, keyDim: 6, valueDim: 5, dConv: 4, betaFactor: 2, eps: 1e-5 },
    }),
  gatedMlp: (g, w) => layers.gatedMlp(g, g.input(D), w, { dFf: 20 }),
  headRmsNorm: (g, w) => {
    const x = g.reshape(g.input(D), 3, 4);
    return g.op('activate', { x: g.reshape(layers.headRmsNorm(g, x, w, 'norm', { eps: 1e-5 }), D) });
  },
  hyena: (g, w) => layers.hyena(g, g.input(D), w, { lMax: 64, order: 3, filterOrder: 8, initial: { w: 5 } }),
  kda: (g, w) => layers.kda(g, g.input(D), w, { nHeads: 3, headDim: 5, dConv: 4, eps: 1e-5, lowerBound: -5 }),
  layerNorm: (g, w) => layers.layerNorm(g, g.input(D), w, 'norm', { eps: 1e-5 }),
  linear: (g, w) => layers.linear(g, g.input(D), w, 'project', 7, { bias: true, activation: 'silu' }),
  linearBy: (g, w) => layers.linearBy(g, g.input(D), w.tensor('weight', [5, D])),
  mamba: (g, w) => layers.mamba(g, g.input(D), w, { dInner: 24, dState: 4, dConv: 4, dtRank: 2 }),
  mamba2: (g, w) =>
    layers.mamba2(g, g.input(D), w, {
      dInner: 24,
      nHeads: 4,
      headDim: 6,
      dState: 5,
      nGroups: 2,
      dConv: 4,
      norm: { eps: 1e-5 },
    }),
  mamba3: (g, w) =>
    layers.mamba3(g, g.input(D), w, {
      ...{ nHeads: 4, headDim: 6, nGroups: 2, dState: 8, angles: 3, rank: 2, aFloor: 1e-4, outNorm: true, eps: 1e-5 },
    }),
  mla: (g, w) =>
    layers.mla(g, g.input(D), w, {
      ...{ nHeads: 3, kvRank: 10, qRank: 7, nopeDim: 5, ropeDim: 3, valueDim: 4, eps: 1e-6, bias: true },
    }),
  mlp: (g, w) => layers.mlp(g, g.input(D), w, { dFf: 20 }),
  moe: (g, w) => layers.moe(g, g.input(D), w, { experts: 4, topK: 2, dFf: 8, renormalize: true, names: EXPERTS }),
  weightedExpert: (g, w) => {
    const x = g.input(D);
    const weight = layers.linear(g, x, w, 'gate', 1, { activation: 'sigmoid' });
    return layers.weightedExpert(g, x, w, weight, 8);
  },
  multiply: (g, w) => {
    const x = g.input(D);
    return layers.multiply(g, x, layers.linear(g, x, w, 'project', D));
  },
  relu: (g) => layers.relu(g, g.input(D)),
  retention: (g, w) => layers.retention(g, g.input(D), w, { nHeads: 3, dValue: 24, eps: 1e-6 }),
  rmsNorm: (g, w) => layers.rmsNorm(g, g.input(D), w, 'norm', { eps: 1e-5, groupSize: 4 }),
  rope: (g) => {
    const x = g.op('activate', { x: g.input(D) });
    return g.op('activate', { x: g.reshape(layers.rope(g, g.reshape(x, 3, 4), { theta: 50 }), D) });
  },
  rwkv4: (g, w) => layers.rwkv4(g, g.input(D), w, { dAtt: D }),
  rwkv5: (g, w) => layers.rwkv5(g, g.input(D), w, heads),
  rwkv6: (g, w) => layers.rwkv6(g, g.input(D), w, { ...heads, mixRank: 3, decayRank: 5 }),
  rwkv7: (g, w) => layers.rwkv7(g, g.input(D), w, { ...heads, ranks: { decay: 4, rate: 4, value: 4, gate: 4 } }).y,
  rwkvChannelMix: (g, w) => {
    const x = g.input(D);
    return layers.rwkvChannelMix(g, x, w, { dFf: 20, version: 6, residual: x });
  },
  s4d: (g, w) => layers.s4d(g, g.input(D), w, { dState: 8 }),
  scaled: (g) => layers.scaled(g, g.input(D), -1.5),
  shortConv: (g, w) => layers.shortConv(g, g.input(D), w, { dConv: 3, bias: true }),
  selectiveSSM: (g, w) => layers.selectiveSSM(g, g.input(D), w, { dState: 4 }),
  simpleSSM: (g, w) => layers.simpleSSM(g, g.input(D), w, { dState: 7 }),
  tokenMixes: (g, w) => {
    const [a, b] = layers.tokenMixes(g, g.input(D), w, { names: ['mix_a', 'mix_b'] });
    return g.op('add', { a: a!, b: b! });
  },
};
/** Those that read token ids or end a language model. */
const tokens: Record<string, Build> = {
  embedding: (g, w) => layers.linear(g, layers.embedding(g, w.tensor('table', [9, D])), w, 'out', 5),
  head: (g, w) => {
    const table = w.tensor('table', [9, D]);
    return layers.head(g, layers.embedding(g, table), table);
  },
};
/** Those that make one row of a sequence: what of each of its channels. */
const pools: Record<string, { build: Build; of: (channel: number[]) => number }> = {
  meanPool: { build: (g) => layers.meanPool(g, g.input(D)), of: (c) => c.reduce((a, b) => a + b, 0) / c.length },
  maxPool: { build: (g) => layers.maxPool(g, g.input(D)), of: (c) => Math.max(...c) },
};
const looksAhead = new Set(['bidirectional']);

test('the tables name every layer', () => {
  expect([rows, tokens, pools].flatMap(Object.keys).sort()).toEqual(Object.keys(layers).sort());
});

const network = (name: string, build: Build) => {
  const type = `layer_${name}`;
  registerModel({ modelTypes: [type], config: () => ({}), build });
  return createModel({ model_type: type }, { seed: 7 });
};
const f32 = { atol: 2e-5, rtol: 1e-4 };

describe.each(Object.entries(rows))('%s', (name, build) => {
  test('a batch, each sequence alone, and any pieces agree', async () => {
    const model = await network(name, build);
    const x = wave(3 * L * D, 1);
    const y = (await model.run(new Tensor(x, [3, L, D]))).toFloat32Array();
    expect(y.every(Number.isFinite)).toBe(true);
    expect(new Set(y).size).toBeGreaterThan(100);
    const per = y.length / 3;
    for (let b = 0; b < 3; b++) {
      const alone = x.slice(b * L * D, (b + 1) * L * D);
      const want = y.slice(b * per, (b + 1) * per);
      expectClose((await model.run(new Tensor(alone, [1, L, D]))).toFloat32Array(), want, f32, 'alone');
      for (const sizes of looksAhead.has(name) ? [[L]] : [[L], [1], [5, 1, 13]])
        expectClose(await feedRows(model.createSession(), alone, D, sizes), want, f32, `pieces of ${sizes}`);
    }
    await model.dispose();
  });
});

test.for(Object.entries(pools))(
  '%s: a row for a sequence, whole or in pieces',
  async ([name, { build, of }], { skip }) => {
    skip(!hasKernel(name), `${name} has no kernel here`);
    const model = await network(name, build);
    const x = wave(2 * L * D, 1);
    const want = Float32Array.from({ length: 2 * D }, (_, i) =>
      of(Array.from({ length: L }, (_, t) => x[(Math.floor(i / D) * L + t) * D + (i % D)]!)),
    );
    expectClose((await model.run(new Tensor(x, [2, L, D]))).toFloat32Array(), want, f32);
    const session = model.createSession();
    const pieces = [x.slice(0, D), x.slice(D, 9 * D), x.slice(9 * D, L * D)];
    const answers = [];
    for (const piece of pieces) answers.push(await session.forward(new Tensor(piece, [piece.length / D, D])));
    expectClose(answers.at(-1)!.toFloat32Array(), want.subarray(0, D), f32, 'in pieces');
    await model.dispose();
  },
);

describe.each(Object.entries(tokens))('%s', (name, build) => {
  test('any pieces agree', async () => {
    const model = await network(name, build);
    const ids = Int32Array.from({ length: 20 }, (_, i) => (i * 5) % 9);
    const want = await feedTokens(model.createSession(), ids, [20]);
    for (const sizes of [[1], [3, 7]]) expectClose(await feedTokens(model.createSession(), ids, sizes), want, f32);
    await model.dispose();
  });
});

const folder = join(__dirname, '../../lib/layers');
const source = readdirSync(folder)
  .map((file) => readFileSync(join(folder, file), 'utf8'))
  .join('\n');

test.each(Object.keys(layers))('%s: its docstring has shapes', (name) => {
  const doc = new RegExp(`/\\*\\*((?:(?!\\*/)[\\s\\S])*)\\*/\\nexport function ${name}\\(`).exec(source)?.[1];
  expect(doc, 'a docstring').toBeDefined();
  expect(doc).toMatch(/\((tokens|rows|outputs)(, [^)]+)\)/);
});
