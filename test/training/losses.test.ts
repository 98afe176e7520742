// Losses and layers of networks of one's own: gradients against differences of the loss, losses against their definitions.
import {
  backbone,
  createModel,
  createTrainer,
  type Graph,
  layers,
  loadModel,
  type Model,
  type RowBatch,
  registerModel,
  StatespaceError,
  Tensor,
  type Trainer,
  type TrainingBatch,
  type Value,
  type Weights,
} from 'statespace';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

type Batch = TrainingBatch | RowBatch;
const FEATURES = 5;
const MAMBA = { model_type: 'mamba', vocab_size: 19, hidden_size: 16, num_hidden_layers: 1, state_size: 4 };
const scan = { dInner: 24, dState: 4, dConv: 3, dtRank: 2 };

const hidden = (g: Graph, w: Weights): Value => {
  const x = layers.linear(g, g.input(FEATURES), w, 'encoder', 12, { bias: true });
  const gate = layers.activate(g, layers.linear(g, x, w, 'gate', 12), 'sigmoid');
  const h = layers.multiply(g, layers.relu(g, x), gate);
  return layers.mamba(g, h, w.scope('mixer'), { ...scan, residual: x });
};
const networks: Record<string, (g: Graph, w: Weights) => Value> = {
  rows: (g, w) => layers.linear(g, hidden(g, w), w, 'decoder', 3, { bias: true }),
  mean: (g, w) => layers.linear(g, layers.meanPool(g, hidden(g, w)), w, 'decoder', 3, { bias: true }),
  max: (g, w) => layers.linear(g, layers.maxPool(g, hidden(g, w)), w, 'decoder', 3, { bias: true }),
  both: (g, w) => {
    const plainest = (g: Graph, x: Value, w: Weights) => layers.selectiveSSM(g, x, w, { dState: 3, residual: x });
    const x = layers.bidirectional(g, hidden(g, w), w.scope('sum'), plainest);
    const sides = layers.bidirectional(g, x, w.scope('sides'), plainest, { merge: 'concat' });
    return layers.linear(g, sides, w, 'decoder', 3);
  },
  systems: (g, w) => {
    let x = layers.linear(g, g.input(FEATURES), w, 'encoder', 6, { bias: true });
    for (const mode of ['recurrent', 'convolution', 'auto'] as const) {
      x = layers.s4d(g, x, w.scope('s4d', mode), { dState: 4, mode, residual: x });
      x = layers.simpleSSM(g, x, w.scope('simple', mode), { dState: 3, mode, residual: x });
    }
    return layers.linear(g, x, w, 'decoder', 3, { bias: true });
  },
  filters: (g, w) => {
    let x = layers.linear(g, g.input(FEATURES), w, 'encoder', 6, { bias: true });
    const filter = { lMax: 9, filterOrder: 5, initial: { w: 3 } };
    x = layers.hyena(g, x, w.scope('two'), { ...filter, residual: x });
    x = layers.hyena(g, x, w.scope('three'), {
      ...filter,
      order: 3,
      innerMlps: 0,
      trainedPositions: false,
      residual: x,
    });
    const plain = { ...filter, embDim: 5, modulate: false, filterBias: false, residual: x };
    // The same tensors twice: gradients of what they become add up.
    for (const scope of ['plain', 'again']) x = layers.hyena(g, x, w.scope('plain').sharedWith(w.scope(scope)), plain);
    return layers.linear(g, x, w, 'decoder', 3, { bias: true });
  },
  tokens: (g, w) => layers.linear(g, layers.meanPool(g, backbone(g, w.scope('body'), MAMBA)), w, 'decoder', 3),
};
for (const [name, build] of Object.entries(networks))
  registerModel({ modelTypes: [`loss_${name}`], config: () => ({}), build });

const noise = (n: number, seed: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(12.9 * (i + 1) * seed));
const classes = (n: number) => Int32Array.from({ length: n }, (_, i) => (i * i + 1) % 3);
const BOUNDS = Int32Array.from([0, 4, 11]);
const inputs = new Tensor(noise(11 * FEATURES, 1.3), [1, 11, FEATURES]);
const ids = new Tensor(
  Int32Array.from({ length: 11 }, (_, i) => (i * 7) % 19),
  [1, 11],
);
const packed = (batch: Batch): Batch => ({ ...batch, cuSeqlens: BOUNDS });

/** The network, its loss, and a batch; targets of rows that have none are among them. */
const cases: [string, 'crossEntropy' | 'mse', Batch][] = [
  ['rows', 'mse', { inputs, targets: new Tensor(noise(33, 2.7).fill(Number.NaN, 4, 6), [1, 11, 3]) }],
  ['rows', 'crossEntropy', { inputs, targets: new Tensor(classes(11).fill(-100, 2, 4), [1, 11]) }],
  ['rows', 'crossEntropy', { inputs, targets: new Tensor(classes(2), [2]) }],
  ['rows', 'mse', { inputs, targets: new Tensor(noise(6, 0.7), [2, 3]) }],
  ['mean', 'crossEntropy', { inputs, targets: new Tensor(classes(2), [2]) }],
  ['mean', 'mse', { inputs, targets: new Tensor(noise(6, 0.7), [2, 3]) }],
  ['max', 'crossEntropy', { inputs, targets: new Tensor(classes(2), [2]) }],
  ['max', 'mse', { inputs, targets: new Tensor(noise(6, 0.7), [2, 3]) }],
  ['both', 'crossEntropy', { inputs, targets: new Tensor(classes(11).fill(-100, 2, 4), [1, 11]) }],
  ['both', 'mse', { inputs, targets: new Tensor(noise(6, 0.7), [2, 3]) }],
  ['systems', 'mse', { inputs, targets: new Tensor(noise(33, 2.7), [1, 11, 3]) }],
  ['systems', 'crossEntropy', { inputs, targets: new Tensor(classes(2), [2]) }],
  ['filters', 'mse', { inputs, targets: new Tensor(noise(33, 2.7), [1, 11, 3]) }],
  ['filters', 'crossEntropy', { inputs, targets: new Tensor(classes(2), [2]) }],
  ['tokens', 'crossEntropy', { ids, targets: new Tensor(classes(2), [2]) }],
];

const models = new Map<string, Model>();
beforeAll(async () => {
  for (const name of Object.keys(networks))
    models.set(name, await createModel({ model_type: `loss_${name}` }, { seed: 4, device: 'cpu' }));
});
afterAll(() => Promise.all([...models.values()].map((m) => m.dispose())));

interface Internal {
  exclusive<T>(work: () => Promise<T>): Promise<T>;
  write(which: 'value', values: ReadonlyMap<string, Float32Array>): Promise<void>;
}

async function expectSlopes(trainer: Trainer, batch: Batch): Promise<void> {
  const inside = trainer as unknown as Internal;
  const { loss, gradients } = await trainer.gradients(batch);
  expect(loss).toBeCloseTo((await trainer.evaluate(batch)).loss, 6);
  const values = await trainer.parameters();
  const lossAt = async (name: string, t: Float32Array) => {
    await inside.exclusive(() => inside.write('value', new Map([[name, t]])));
    return (await trainer.evaluate(batch)).loss;
  };
  for (const [name, g] of gradients) {
    const [value, gradient] = [values.get(name)!.data as Float32Array, g.data as Float32Array];
    const slope = gradient.reduce((a, x) => a + Math.abs(x), 0);
    const step = Math.min(1e-2, Math.max(1e-4, 1e-3 / Math.max(slope, 1e-9)));
    const moved = (sign: number) => value.map((v, i) => v + sign * step * Math.sign(gradient[i]!));
    const difference = (await lossAt(name, moved(1))) - (await lossAt(name, moved(-1)));
    await lossAt(name, value);
    expect(Math.abs(difference - 2 * step * slope), name).toBeLessThan(2e-5 + 0.05 * Math.abs(difference));
  }
}

describe.each(cases)('%s, %s', (name, loss, batch) => {
  test(`targets (${batch.targets!.shape}): every gradient`, async () => {
    const model = models.get(name)!;
    await using trainer = createTrainer(model, { loss });
    const { gradients } = await trainer.gradients(packed(batch));
    const trained = [...model.parameterList.values()].filter((p) => !p.buffer);
    expect([...gradients.keys()].sort()).toEqual(trained.map((p) => p.name).sort());
    await expectSlopes(trainer, packed(batch));
    // In parts, and with blocks computed again: the same numbers but for the order of sums.
    await using parts = createTrainer(model, { loss, accumulate: 2, recompute: 'blocks' });
    for (const [key, g] of (await parts.gradients(packed(batch))).gradients)
      expect(
        Math.max(...g.toFloat32Array().map((v, i) => Math.abs(v - gradients.get(key)!.toFloat32Array()[i]!))),
        key,
      ).toBeLessThan(1e-5);
  });
});

test.each(['rows', 'mean', 'max'])('%s: an empty sequence and its target count for nothing', async (name) => {
  for (const loss of ['mse', 'crossEntropy'] as const) {
    await using trainer = createTrainer(models.get(name)!, { loss });
    const targets = (rows: number[]) =>
      loss === 'mse'
        ? new Tensor(Float32Array.from(rows.flatMap((r) => [r, r + 0.5, -r])), [rows.length, 3])
        : new Tensor(Int32Array.from(rows), [rows.length]);
    const full = await trainer.gradients({ inputs, targets: targets([2, 1]), cuSeqlens: BOUNDS });
    const cuSeqlens = Int32Array.of(0, 0, 4, 4, 11, 11);
    const withEmpty = await trainer.gradients({ inputs, targets: targets([1, 2, 0, 1, 2]), cuSeqlens });
    expect(withEmpty).toEqual(full);
    await using parts = createTrainer(models.get(name)!, { loss, accumulate: 5 });
    const { loss: inParts } = await parts.evaluate({ inputs, targets: targets([1, 2, 0, 1, 2]), cuSeqlens });
    expect(inParts).toBeCloseTo(full.loss, 6);
  }
});

test.each([2, 20])('what %i layers make of their tensors is found out once', async (count) => {
  let calls = 0;
  const negated = ([v]: Float32Array[]) => {
    calls++;
    return v!.map((x) => -x);
  };
  registerModel({
    modelTypes: ['loss_alike'],
    config: () => ({}),
    build(g, w) {
      let x = layers.linear(g, g.input(FEATURES), w, 'encoder', 4, { bias: true });
      for (let i = 0; i < count; i++) {
        const shift = w.combined([{ name: `shift.${i}`, shape: [4] }], [4], { transform: negated });
        x = g.op('affine', { x, scale: w.tensor(`scale.${i}`, [4], { init: 'ones' }), shift });
      }
      return x;
    },
  });
  await using model = await createModel({ model_type: 'loss_alike' }, { seed: 1, device: 'cpu' });
  expect(calls).toBe(count); // the weights themselves
  calls = 0;
  await using trainer = createTrainer(model, { loss: 'mse' });
  const { gradients } = await trainer.gradients({ inputs, targets: new Tensor(noise(44, 2.7), [1, 11, 4]) });
  expect(gradients.has(`shift.${count - 1}`)).toBe(true);
  expect(calls).toBe(5); // zeros, a pattern, ones and two digits of the place
});

test('losses are what their names say, of what the network gives', async () => {
  const model = models.get('rows')!;
  const y = (await model.run(inputs)).toFloat32Array();
  const wanted = noise(33, 2.7).fill(Number.NaN, 4, 6);
  const errors = [...y].map((v, i) => (v - wanted[i]!) ** 2).filter((v) => !Number.isNaN(v));
  await using squared = createTrainer(model, { loss: 'mse' });
  const { loss } = await squared.evaluate({ inputs, targets: new Tensor(wanted, [1, 11, 3]) });
  expect(loss).toBeCloseTo(errors.reduce((a, b) => a + b, 0) / 31, 5);
  const row = [...y.subarray(30)];
  const lse = Math.log(row.reduce((a, v) => a + Math.exp(v), 0));
  await using cross = createTrainer(model, { loss: 'crossEntropy' });
  const last = await cross.evaluate({ inputs, targets: new Tensor(Int32Array.of(1), [1]) });
  expect(last.loss).toBeCloseTo(lse - row[1]!, 5);
});

test('a network learns, is saved, and goes on', async () => {
  const model = models.get('mean')!;
  const batch = {
    inputs: new Tensor(noise(4 * 6 * FEATURES, 0.9), [4, 6, FEATURES]),
    targets: new Tensor(classes(4), [4]),
  };
  await using trainer = createTrainer(model, { loss: 'crossEntropy', learningRate: 3e-2 });
  const first = await trainer.step(batch);
  expect(first.tokens).toBe(24);
  for (let i = 0; i < 40; i++) await trainer.step(batch);
  expect((await trainer.evaluate(batch)).loss).toBeLessThan(0.2 * first.loss);
});

test('pooling streams: a session answers for all rows so far', async () => {
  const model = models.get('max')!;
  const whole = (await model.run(inputs)).toFloat32Array();
  const session = model.createSession();
  await session.forward(new Tensor(inputs.toFloat32Array().slice(0, 4 * FEATURES), [4, FEATURES]));
  const last = await session.forward(new Tensor(inputs.toFloat32Array().slice(4 * FEATURES), [7, FEATURES]));
  last.toFloat32Array().forEach((v, i) => {
    expect(v).toBeCloseTo(whole[i]!, 5);
  });
  await session.dispose();
});

test('a backbone has the rows that the head of its family reads, by the weights of a checkpoint', async () => {
  registerModel({
    modelTypes: ['loss_bare'],
    config: () => ({}),
    build: (g, w) => layers.linear(g, backbone(g, w, MAMBA), w, 'own', 2),
  });
  const mamba = await createModel(MAMBA, { seed: 2, device: 'cpu' });
  const own = new Tensor(noise(32, 0.3), [2, 16]);
  const model = await loadModel(new Map([...(await mamba.parameters()), ['own.weight', own]]), {
    config: { model_type: 'loss_bare' },
    device: 'cpu',
  });
  expect(model.parameters.total).toBe(mamba.parameters.total + 32);
  await model.dispose();
  await mamba.dispose();
  expect(() => backbone({} as Graph, {} as Weights, { model_type: 'nothing' })).toThrow(StatespaceError);
});

test.each([
  ['rows', { loss: 'nextToken' }, {}, /another loss/],
  ['rows', { loss: 'mse' }, { ids }, /reads rows/],
  ['rows', { loss: 'mse' }, { inputs }, /targets is missing/],
  ['rows', { loss: 'mse' }, { inputs, targets: new Tensor(noise(3, 1), [3]) }, /shape \(1, 11, 3\) or shape \(1, 3\)/],
  ['mean', { loss: 'crossEntropy' }, { inputs, targets: new Tensor(classes(11), [1, 11]) }, /shape \(1\)/],
  ['mean', { loss: 'crossEntropy' }, { inputs, targets: new Tensor(Int32Array.of(3), [1]) }, /from 0 to 2 or -100/],
  ['tokens', { loss: 'crossEntropy' }, { inputs, targets: new Tensor(classes(1), [1]) }, /reads token ids/],
  ['tokens', { loss: 'crossEntropy' }, { ids, labels: ids }, /takes targets/],
] as const)('%s %j refuses what does not fit: %#', async (name, options, batch, message) => {
  const attempt = async () => {
    await using trainer = createTrainer(models.get(name)!, options);
    await trainer.evaluate(batch as Batch);
  };
  await expect(attempt()).rejects.toThrow(message);
});
