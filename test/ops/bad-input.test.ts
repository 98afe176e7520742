// Arguments of every wrong kind, to every op, in both forms: a typed error that says what and where, and the process
// lives.
import { createEngine, ops, StatespaceError, Tensor } from 'statespace';
import { describe, expect, it } from 'vitest';
import { callAsync, callSync, type OpName } from '../conformance/check.js';
import { Random } from '../conformance/random.js';
import type { Args } from '../conformance/reference.js';
import { type Dims, samples } from '../conformance/samples.js';

const dims: Dims = { B: 2, L: 7, G: 2, R: 2, P: 4, N: 5, K: 4 };
const valid = (op: OpName): Args => samples[op].args(new Random(1), dims);

interface Failure {
  what: string;
  args: unknown;
  code: RegExp;
}

// biome-ignore lint/suspicious/noExplicitAny: what is wrong has no type
type Wrong = any;

function detached(t: { shape: number[]; data: Float32Array }): Wrong {
  const data = t.data.slice();
  structuredClone(data.buffer, { transfer: [data.buffer] });
  return { data, shape: t.shape };
}

/** Ways to spoil a tensor, with the code that each must give. */
const spoilt: Record<string, [RegExp, (t: { shape: number[]; data: Float32Array }) => Wrong]> = {
  'one axis too many': [/ERR_SHAPE/, (t) => ({ data: t.data, shape: [1, ...t.shape, 1, 1, 1] })],
  'a scalar': [/ERR_SHAPE/, () => ({ data: new Float32Array(1), shape: [] })],
  'a dtype without values of that kind': [
    /ERR_DTYPE/,
    (t) => ({ data: new Int32Array(t.data.length), shape: t.shape }),
  ],
  'a dtype that is none': [/ERR_DTYPE/, (t) => ({ ...t, dtype: 'f64' })],
  'data of another dtype': [/ERR_DTYPE/, (t) => ({ ...t, dtype: 'bf16' })],
  'f64 data': [/ERR_DTYPE/, (t) => ({ data: Float64Array.from(t.data), shape: t.shape })],
  'a plain array': [/ERR_DTYPE/, (t) => ({ data: Array.from(t.data), shape: t.shape })],
  'too little data': [/ERR_SHAPE/, (t) => ({ data: t.data.subarray(1), shape: t.shape })],
  'a detached buffer': [/ERR_SHAPE|ERR_ARGUMENT/, detached],
  'a negative size': [/ERR_SHAPE/, (t) => ({ data: t.data, shape: t.shape.map(() => -1) })],
  'a fractional size': [/ERR_SHAPE/, (t) => ({ data: t.data, shape: t.shape.map(() => 1.5) })],
  'a huge size': [/ERR_SHAPE/, (t) => ({ data: t.data, shape: t.shape.map(() => 2 ** 40) })],
  'no shape': [/ERR_SHAPE/, (t) => ({ data: t.data })],
  'a promise of one': [/ERR_ARGUMENT/, (t) => Promise.resolve(t)],
  'what has it as its y': [/ERR_ARGUMENT/, (t) => ({ y: new Tensor(t.data, t.shape) })],
  'a number': [/ERR_ARGUMENT|ERR_SHAPE/, () => 3],
  'a bare array': [/ERR_SHAPE|ERR_ARGUMENT/, (t) => t.data],
};

/** Arguments that set the sizes of others, or none: another size of them alone can be a valid call. */
const free = new Set(['linear x', 'linear weight', 'fftConv kernel', 'rope x', 'rmsNorm z', 'discretizeDense B']);
/** Arguments that a call can do without. */
const optional =
  /^(D|z|bias|deltaBias|dtBias|initialState|P|logDecay|weight|positions|dy|dloss|dlastState|dfinalState|normWeight)$/;
const needed = new Set(['linear weight', 'causalConv1d weight']);

const isTensor = (v: Wrong) => v?.data instanceof Float32Array;

function failures(op: OpName): Failure[] {
  const list: Failure[] = [
    { what: 'no arguments', args: undefined, code: /ERR_ARGUMENT/ },
    { what: 'null', args: null, code: /ERR_ARGUMENT/ },
    { what: 'a string', args: 'x', code: /ERR_ARGUMENT/ },
    { what: 'an unknown name', args: { ...valid(op), delat: 1 }, code: /ERR_ARGUMENT/ },
  ];
  for (const [name, value] of Object.entries(valid(op))) {
    const put = (what: string, code: RegExp, v: unknown) =>
      list.push({ what: `${name}: ${what}`, args: { ...valid(op), [name]: v }, code });
    if (isTensor(value)) {
      for (const [what, [code, spoil]] of Object.entries(spoilt)) put(what, code, spoil(value));
      if (!optional.test(name) || needed.has(`${op} ${name}`)) put('missing', /ERR_ARGUMENT/, undefined);
      // Every axis longer by one: the other tensors disagree.
      const shape = value.shape.map((s: number) => s + 1);
      const size = shape.reduce((n: number, s: number) => n * s, 1);
      const alone = Object.values(valid(op)).filter(isTensor).length === 1;
      if (!alone && !free.has(`${op} ${name}`))
        put('other sizes', /ERR_SHAPE/, { data: new Float32Array(size), shape });
    } else if (typeof value === 'number') {
      for (const v of [Number.NaN, Number.POSITIVE_INFINITY, '1', {}, null, 2n]) put(String(v), /ERR_ARGUMENT/, v);
      if (Number.isInteger(value) && name !== 'theta' && name !== 'softcap')
        for (const v of name === 'ignoreIndex' ? [1.5, 2 ** 40] : [1.5, -1, 2 ** 40])
          put(String(v), /ERR_ARGUMENT|ERR_SHAPE|ERR_OUT_OF_MEMORY/, v);
    } else if (typeof value === 'boolean') {
      for (const v of [0, 'true', null, {}]) put(String(v), /ERR_ARGUMENT/, v);
    } else if (typeof value === 'string') {
      for (const v of ['', 'other', 0, null, {}, value.toUpperCase()]) put(String(v), /ERR_ARGUMENT/, v);
    }
  }
  if ('cuSeqlens' in valid(op) || samples[op].perToken) {
    const bounds: Record<string, unknown> = {
      'not an Int32Array': [0, 7],
      empty: Int32Array.of(),
      'one offset': Int32Array.of(0),
      'a start past 0': Int32Array.of(1, 7),
      'an end short of L': Int32Array.of(0, 6),
      'an end past L': Int32Array.of(0, 8),
      falling: Int32Array.of(0, 5, 3, 7),
      negative: Int32Array.of(0, -1, 7),
    };
    const one = samples[op].args(new Random(1), { ...dims, B: 1 });
    for (const [what, cuSeqlens] of Object.entries(bounds)) {
      list.push({ what: `cuSeqlens: ${what}`, args: { ...one, cuSeqlens }, code: /ERR_ARGUMENT/ });
    }
    const batch = { ...valid(op), cuSeqlens: Int32Array.of(0, 3, 7) };
    list.push({ what: 'cuSeqlens: with a batch', args: batch, code: /ERR_SHAPE/ });
  }
  return list;
}

const extra: [OpName, string, Args, RegExp][] = [
  ['rope', 'an odd rotaryDim', { rotaryDim: 3 }, /ERR_ARGUMENT/],
  ['rope', 'a rotaryDim beyond the head', { rotaryDim: 14 }, /ERR_SHAPE/],
  ['rope', 'positions of another count', { positions: new Int32Array(5) }, /ERR_SHAPE/],
  ['rope', 'positions that are no Int32Array', { positions: [0, 1] }, /ERR_ARGUMENT/],
  ['rope', 'an unknown scaling', { scaling: { type: 'ntk' } }, /ERR_ARGUMENT/],
  ['rope', 'theta 0', { theta: 0 }, /ERR_ARGUMENT/],
  ['attention', 'a negative window', { window: -3 }, /ERR_ARGUMENT/],
  ['attention', 'a negative softcap', { softcap: -1 }, /ERR_ARGUMENT/],
  ['moe', 'more experts than there are', { topK: 5 }, /ERR_ARGUMENT/],
  ['ssd', 'limits the wrong way round', { dtLimit: [1, 0] }, /ERR_ARGUMENT/],
  ['ssd', 'NaN limits', { dtLimit: [Number.NaN, 1] }, /ERR_ARGUMENT/],
  ['rmsNorm', 'a group size that does not divide', { groupSize: 3 }, /ERR_SHAPE/],
  ['layerNorm', 'a group size that does not divide', { groupSize: 3 }, /ERR_SHAPE/],
  ['s4Kernel', 'zoh with a low-rank part', { method: 'zoh' }, /ERR_ARGUMENT/],
  ['s4dInit', 'an odd size', { N: 7 }, /ERR_ARGUMENT/],
  ['selectiveScan', 'complex without pairs', { complex: true }, /ERR_SHAPE/],
];

describe.each(Object.keys(samples) as OpName[])('%s', (op) => {
  const all = [
    ...failures(op),
    ...extra.filter(([o]) => o === op).map(([, what, args, code]) => ({ what, args: { ...valid(op), ...args }, code })),
  ];

  it('takes the valid call', async () => {
    expect(await callAsync(op, valid(op))).toEqual(callSync(op, valid(op)));
  });

  it.each(all.map((f) => [f.what, f] as const))('%s', async (_, { args, code }) => {
    const matching = expect.objectContaining({
      code: expect.stringMatching(code),
      message: expect.stringMatching(`^${op}`),
    });
    expect(() => callSync(op, args as object)).toThrow(matching);
    const promise = callAsync(op, args as object);
    await expect(promise).rejects.toThrow(StatespaceError);
    await expect(promise).rejects.toThrow(matching);
  });
});

describe('buffers', () => {
  const values = Float32Array.from({ length: 12 }, (_, i) => i + 1);
  const expected = ops.rmsNormSync({ x: { data: values, shape: [3, 4] } }).y;

  it('reads a SharedArrayBuffer in place', async () => {
    const data = new Float32Array(new SharedArrayBuffer(48));
    data.set(values);
    expect((await ops.rmsNorm({ x: { data, shape: [3, 4] } })).y).toEqual(expected);
  });

  it('copies a resizable buffer: shrinking it during the call changes nothing', async () => {
    const Resizable = ArrayBuffer as unknown as new (n: number, o: object) => ArrayBuffer & { resize(n: number): void };
    const buffer = new Resizable(48, { maxByteLength: 96 });
    const data = new Float32Array(buffer);
    data.set(values);
    const promise = ops.rmsNorm({ x: { data, shape: [3, 4] } });
    buffer.resize(0);
    expect((await promise).y).toEqual(expected);
  });

  it('copies cuSeqlens: writing to it during the call changes nothing', async () => {
    const args = {
      x: { data: new Float32Array(4000).fill(1), shape: [1, 1000, 4] },
      weight: { data: values.slice(0, 8), shape: [4, 2] },
    };
    const cuSeqlens = Int32Array.of(0, 400, 1000);
    const whole = ops.causalConv1dSync({ ...args, cuSeqlens });
    const promise = ops.causalConv1d({ ...args, cuSeqlens });
    cuSeqlens.fill(2 ** 30);
    expect(await promise).toEqual(whole);
  });

  it('says what a promise and the result of an op are, in place of a tensor', async () => {
    const x = { data: values.slice(0, 4), shape: [1, 4] };
    const pending = ops.rmsNorm({ x });
    const wanted = 'expected a tensor { data, shape, dtype? }, received';
    for (const [given, what] of [
      [pending, 'a Promise (await it)'],
      [await pending, 'what has it as its y'],
      [{}, 'Object'],
    ])
      expect(() => ops.linearSync({ x: given as never, weight: x })).toThrow(`linear: x: ${wanted} ${what}`);
    expect(() => createEngine(pending as never)).toThrow(
      'createEngine: model: expected a model, received a Promise (await it)',
    );
  });

  it('takes empty batches and times', () => {
    for (const shape of [
      [0, 5, 3],
      [2, 0, 3],
    ]) {
      const x = { data: new Float32Array(0), shape };
      const { y, finalState } = ops.causalConv1dSync({ x, weight: { data: values, shape: [3, 4] } });
      expect(y.shape).toEqual(shape);
      expect(finalState.shape).toEqual([shape[0], 3, 3]);
    }
  });
});
