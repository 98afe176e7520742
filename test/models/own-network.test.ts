// The network of docs/adding-a-model.md, taken from that page and run: whole, and (without its backward half) streamed.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as statespace from 'statespace';
import { transpileModule } from 'typescript';
import { beforeAll, expect, test } from 'vitest';
import { encodeGraph } from '../../dist/lib/graph/encode.js';
import { safetensorsOf, scratchFolders } from '../support/checkpoint-files.js';
import { expectClose } from '../support/golden.js';
import { wave } from '../support/sessions.js';
import { temporary } from '../support/training.js';

const folders = scratchFolders();
const page = readFileSync(join(__dirname, '../../docs/adding-a-model.md'), 'utf8');
const source = page.split('```ts\n')[1]!.split('```')[0]!;
const frames = (batch: number, length: number) =>
  new statespace.Tensor(
    Float32Array.from({ length: batch * length * 80 }, (_, i) => Math.sin(i * 0.37) + Math.cos(i * 0.011)),
    [batch, length, 80],
  );

beforeAll(() => {
  const definition = source.slice(0, source.indexOf('const model ='));
  const code = transpileModule(definition, { compilerOptions: { module: 1 /* CommonJS */, target: 9 } }).outputText;
  new Function('require', 'exports', code)(() => statespace, {});
});

test('the guide keeps its promise of under 60 lines', () => {
  expect(source.trim().split('\n').length).toBeLessThan(60);
});

test('runs whole: (B, L, features) to (B, L, classes), each sequence by itself', async () => {
  const model = await statespace.createModel({ model_type: 'audio_tagger', features: 80 });
  const x = frames(2, 33);
  const y = await model.run(x);
  expect(y.shape).toEqual([2, 33, 10]);
  const second = await model.run(new statespace.Tensor(x.toFloat32Array().slice(33 * 80), [1, 33, 80]));
  expectClose(y.toFloat32Array().subarray(330), second.toFloat32Array(), { atol: 1e-5, rtol: 1e-4 });
  const long = frames(1, 3000);
  const last = (await model.run(long)).toFloat32Array().subarray(0, 10);
  const cut = new statespace.Tensor(long.toFloat32Array().slice(0, 1500 * 80), [1, 1500, 80]);
  // The first frame sees the end of the sequence: nothing was run in chunks.
  expect(last).not.toEqual((await model.run(cut)).toFloat32Array().subarray(0, 10));
  const session = model.createSession();
  await session.forward(new statespace.Tensor(x.toFloat32Array().slice(0, 800), [10, 80]));
  await expect(session.forward(new statespace.Tensor(x.toFloat32Array().slice(0, 80), [1, 80]))).rejects.toMatchObject({
    code: 'ERR_STATE',
  });
});

test('loads a checkpoint with other names through its key map', async () => {
  const config = { model_type: 'audio_tagger', features: 80, hidden_size: 16, num_hidden_layers: 1 };
  const tensors: Record<string, { data: Float32Array; shape: number[] }> = {};
  const linear = (name: string, out: number, inputs: number, bias = true) => {
    tensors[`${name}.weight`] = { data: wave(out * inputs, out), shape: [out, inputs] };
    if (bias) tensors[`${name}.bias`] = { data: wave(out, inputs), shape: [out] };
  };
  linear('encoder', 16, 80);
  linear('decoder', 10, 16);
  tensors['layers.0.norm.weight'] = { data: wave(16, 3), shape: [16] };
  for (const direction of ['forward', 'backward']) {
    const at = `layers.0.${direction}`;
    linear(`${at}.in_proj`, 64, 16, false);
    linear(`${at}.x_proj`, 2 + 2 * 8, 32, false);
    linear(`${at}.dt_proj`, 32, 2);
    linear(`${at}.out_proj`, 16, 32, false);
    tensors[`${at}.conv1d.weight`] = { data: wave(32 * 4, 5), shape: [32, 1, 4] };
    tensors[`${at}.conv1d.bias`] = { data: wave(32, 6), shape: [32] };
    tensors[`${at}.A_log`] = { data: wave(32 * 8, 7), shape: [32, 8] };
    tensors[`${at}.D`] = { data: wave(32, 8), shape: [32] };
  }
  const { 'decoder.weight': weight, 'decoder.bias': bias, ...rest } = tensors;
  const save = (named: typeof tensors) =>
    folders.put({ 'config.json': JSON.stringify(config), 'model.safetensors': safetensorsOf(named) });
  const [plain, renamed] = await Promise.all([
    statespace.loadModel(save(tensors)),
    statespace.loadModel(save({ ...rest, 'head.weight': weight!, 'head.bias': bias! })),
  ]);
  const [a, b] = await Promise.all([plain, renamed].map((m) => m.run(frames(1, 30))));
  expect(a!.data).toEqual(b!.data);
  expect(a!.toFloat32Array().some((x) => Math.abs(x) > 0.1)).toBe(true);
  const lacking = statespace.loadModel(save({ ...rest, 'head.weight': weight! }));
  await expect(lacking).rejects.toMatchObject({
    code: 'ERR_CHECKPOINT',
    message: expect.stringContaining('head.bias'),
  });
});

test('the causal variant streams: chunks of frames equal the whole', async () => {
  const model = await statespace.createModel({ model_type: 'audio_tagger', features: 80, bidirectional: false });
  const x = frames(1, 40);
  const whole = (await model.run(x)).toFloat32Array();
  const session = model.createSession();
  const rows: number[] = [];
  for (let at = 0; at < 40; at += 7) {
    const n = Math.min(7, 40 - at);
    const chunk = new statespace.Tensor(x.toFloat32Array().slice(at * 80, (at + n) * 80), [n, 80]);
    rows.push(...(await session.forward(chunk, { logits: 'all' })).toFloat32Array());
  }
  expect(session.position).toBe(40);
  expectClose(rows, whole, { atol: 1e-5, rtol: 1e-4 });
});

test('a graph is encoded whole, wherever its bytes outgrow their room', () => {
  const value = { kind: 'weight', dtype: 'f32', dims: [] };
  for (const extra of [0, 1, 2, 3]) {
    const values = [...new Array(17_000).fill(value), { ...value, dims: new Array(extra).fill(3) }].reverse();
    const bytes = encodeGraph({ values, nodes: [] } as never, { id: 7 } as never);
    expect(bytes).toHaveLength(20 + 4 * values.length + 4 * extra);
    expect(new Set(bytes.subarray(24 + 4 * extra).filter((_, i) => i % 4 === 0))).toEqual(new Set([bytes[20]]));
  }
});

test('what no network is, is refused: sizes that are none, values of another graph, attributes that are no numbers', async () => {
  const { layers } = statespace;
  type Build = Parameters<typeof statespace.registerModel>[0]['build'];
  const none = undefined as never;
  const other = (g: statespace.Graph) => new (g.constructor as new () => statespace.Graph)().input(3);
  const wrong: [string, Build, RegExp][] = [
    ['features', (g, w) => layers.linear(g, g.input([3] as never), w, 'a', 2), /input: expected sizes from 1/],
    ['none', (g) => g.input(none), /input: expected sizes from 1/],
    ['outputs', (g, w) => layers.linear(g, g.input(3), w, 'a', 2 ** 40), /weight: expected sizes from 1 to 2\^31 - 1/],
    ['zero', (g, w) => layers.linear(g, g.input(3), w, 'a', 0), /weight: expected sizes from 1/],
    [
      'named',
      (g, w) => layers.linear(g, g.input(3), w, 'a', Number.NaN),
      /weight a.weight: expected sizes from 1 .*\[NaN, 3\]/,
    ],
    [
      'divides',
      (g, w) => layers.retention(g, g.input(15), w, { nHeads: 2, dValue: 8, eps: 1 }),
      /^layers.retention: d_model 15 is no multiple of 2 · nHeads 4/,
    ],
    [
      'heads',
      (g, w) => layers.mamba2(g, g.input(4), w, { dInner: 9, nHeads: 2, headDim: 4, dState: 4, nGroups: 1, dConv: 4 }),
      /^layers.mamba2: dInner: expected nHeads · headDim = 8, received 9/,
    ],
    ['state', (g) => g.state('x' as never), /state: expected sizes from 0/],
    ['nothing', () => none, /what build gives: expected a value of this graph, received undefined/],
    [
      'promise',
      (async (g: statespace.Graph) => g.input(3)) as never,
      /expected a value of this graph, received a Promise/,
    ],
    ['foreign', (g, w) => layers.linear(g, other(g), w, 'a', 2), /linear: x: expected a value of this graph/],
    ['foreign output', (g) => other(g), /what build gives: expected a value of this graph/],
    ['two inputs', (g) => g.op('add', { a: g.input(3), b: g.input(4) }), /input: expected 3 features, as before/],
    [
      'rows and ids',
      (g, w) => g.op('add', { a: g.input(3), b: layers.embedding(g, w.tensor('e', [5, 3])) }),
      /graph: expected a network of float rows \(input\) or of token ids \(embedding\), received one of both/,
    ],
    [
      'ids and rows',
      (g, w) => g.op('add', { b: layers.embedding(g, w.tensor('e', [5, 3])), a: g.input(3) }),
      /received one of both/,
    ],
    [
      'one name, two shapes',
      (g, w) => layers.linear(g, layers.linear(g, g.input(4), w, 'a', 8), w, 'a', 2),
      /weight a.weight: expected shape \(8, 4\), as it was asked for before, received \(2, 8\)/,
    ],
    // Ops that go by the bounds of sequences, over rows of which there are fewer.
    [
      'pooled weight',
      (g, w) => layers.maxPool(g, w.tensor('rows', [1, 2])),
      /^maxPool: x: expected a row for each token/,
    ],
    [
      'pooled twice',
      (g) => layers.meanPool(g, layers.meanPool(g, g.input(4))),
      /^meanPool: x: .* received \(sequences, 4\)/,
    ],
    [
      'convolved after pooling',
      (g, w) => layers.conv1d(g, layers.meanPool(g, g.input(4)), w, { dConv: 3 }),
      /^causalConv1d: x: expected a row for each token/,
    ],
    [
      'chosen',
      (g, w) => g.op('selectRows', { x: w.tensor('rows', [1, 2]) }),
      /^selectRows: x: expected a row for each/,
    ],
    [
      'keys of a weight',
      (g, w) => {
        const k = w.tensor('k', [2, 1, 4], { matrix: false });
        return g.reshape(g.op('attention', { q: g.reshape(g.input(4), 1, 4), k, v: k }), 4);
      },
      /^attention: k: expected a row for each token, received \(2, 1, 4\)/,
    ],
    [
      'reserved',
      (g, w) => layers.linearBy(g, g.input(4), w.tensor('__metadata__', [4, 4])),
      /weight: expected a name of its own, received __metadata__/,
    ],
    ['offset', (g) => g.view(g.input(3), Number.NaN, 1), /view: columns NaN/],
    [
      'attribute',
      (g, w) => g.op('rmsNorm', { x: g.input(3), weight: w.tensor('n', [3]) }, { eps: 'x' }),
      /eps: expected a number/,
    ],
  ];
  for (const [name, build, message] of wrong) {
    statespace.registerModel({ modelTypes: ['wrong_network'], config: () => ({}), build });
    await expect(statespace.createModel({ model_type: 'wrong_network' }), name).rejects.toThrow(message);
  }
});

test('a tensor may be called as what every object has', async () => {
  const { layers, registerModel, createModel, loadModel, Tensor } = statespace;
  registerModel({
    modelTypes: ['own_proto'],
    config: () => ({}),
    build: (g, w) => layers.linearBy(g, g.input(4), w.tensor('__proto__', [4, 4])),
  });
  const folder = join(await temporary(), 'saved');
  await using model = await createModel({ model_type: 'own_proto' });
  await model.save(folder);
  await using again = await loadModel(folder);
  const rows = new Tensor(Float32Array.of(1, 2, 3, 4), [1, 1, 4]);
  expect((await again.run(rows)).data).toEqual((await model.run(rows)).data);
});
