/**
 * Preset mixers: what the families put in attention's place, each in its modes, over the same width: one step after
 * another, in chunks, and all pairs of tokens at once.
 */
import type { MixerOps } from '../library.js';
import { Random } from '../random.js';
import { attentionContenders } from './memory.js';
import {
  convolution,
  deltaHead,
  glaHead,
  mamba3Head,
  type Rows,
  retentionHead,
  rgLruHead,
  shortConvChannel,
  ssdHead,
  wkv4Channel,
  wkv6Head,
  wkv7Head,
} from './mixers-reference.js';
import {
  type Check,
  type Contender,
  F32_BYTES,
  type Prepared,
  type Preset,
  relativeError,
  type Shape,
} from './preset.js';
import { attentionRow } from './reference.js';

export const MIXERS_SHAPE: Shape = { dModel: 512, heads: 8, dState: 64, batch: 1 };

const BOUND = 1e-4; // relative L2: chunked and all-pairs forms sum in another order
const SAMPLED = 3;
/** Channels that the widest backend transforms side by side. */
const LANES = 16;
/** Of the gated short convolution, as in LFM2. */
const TAPS = 3;

type Inputs = ReturnType<typeof inputs>;

/** One mixer: its modes, what it keeps, and samples of its output from the definition. */
interface Mixer {
  id: string;
  label: string;
  modes: { name: string; order: 1 | 2; working: string }[];
  /** Bytes besides input and output; default: the state that is kept. */
  working?(s: Shape, length: number, threads: number): number;
  kept(s: Shape, length: number): number;
  keptText: string;
  run(ops: MixerOps, i: Inputs, mode: string): Float32Array;
  /** Pairs of a place in the output and what belongs there. */
  sample(i: Inputs, s: Shape): { at: number[]; expected: ArrayLike<number> }[];
}

const STEPS = { name: 'recurrent', order: 1, working: 'the state' } as const;
const CHUNKS = { order: 1, working: 'the state (the products of a chunk stay in cache)' } as const;
const PAIRS = { order: 2, working: 'the state (tiles of the N×N weights stay in cache)' } as const;

const matrixState = (s: Shape, keys: number) => s.batch * s.dModel * keys * F32_BYTES;
const headDim = (s: Shape) => s.dModel / s.heads;

const MIXERS: readonly Mixer[] = [
  {
    id: 'ssd',
    label: 'SSD (Mamba-2)',
    modes: [{ name: 'chunked', ...CHUNKS }, STEPS, { name: 'quadratic', ...PAIRS }],
    kept: (s) => matrixState(s, s.dState),
    keptText: 'a (headdim, d_state) matrix a head, at any length',
    run: (ops, i, mode) =>
      ops.ssdSync({ x: i.v, dt: i.dt, A: i.A, B: i.B, C: i.C, mode: mode as 'chunked' }).y.data as Float32Array,
    sample: (i, s) =>
      heads(s, i, (h) => ssdHead(i.length, h, { x: i.rows.v, dt: i.rows.dt, A: i.A.data, B: i.rows.B, C: i.rows.C })),
  },
  {
    id: 'retention',
    label: 'retention',
    modes: [{ name: 'chunkwise', ...CHUNKS }, STEPS, { name: 'parallel', ...PAIRS }],
    kept: (s) => matrixState(s, headDim(s)),
    keptText: 'a (key, value) matrix a head, at any length',
    run: (ops, i, mode) =>
      ops.retentionSync({ q: i.q, k: i.k, v: i.v, mode: mode as 'parallel' }).y.data as Float32Array,
    sample: (i, s) => heads(s, i, (h) => retentionHead(i.length, h, i.rows)),
  },
  {
    id: 'wkv4',
    label: 'WKV, RWKV-4',
    modes: [STEPS],
    kept: (s) => 3 * s.batch * s.dModel * F32_BYTES,
    keptText: 'numerator, denominator and maximum a channel, at any length',
    run: (ops, i) => ops.wkv4Sync(i.wkv4).y.data as Float32Array,
    sample: (i, s) =>
      Array.from({ length: SAMPLED }, (_, n) => {
        const c = Math.round(((s.dModel - 1) * n) / (SAMPLED - 1));
        const at = Array.from({ length: i.length }, (_, t) => t * s.dModel + c);
        const a = { timeDecay: i.wkv4.timeDecay.data, timeFirst: i.wkv4.timeFirst.data };
        return { at, expected: wkv4Channel(i.length, c, { k: i.rows.flatK, v: i.rows.flatV, ...a }) };
      }),
  },
  {
    id: 'wkv6',
    label: 'WKV, RWKV-6',
    modes: [{ name: 'chunked', ...CHUNKS }, STEPS],
    kept: (s) => matrixState(s, headDim(s)),
    keptText: 'a (key, value) matrix a head, at any length',
    run: (ops, i, mode) =>
      ops.wkv6Sync({ r: i.q, k: i.k, v: i.v, w: i.w, u: i.u, mode: mode as 'chunked' }).y.data as Float32Array,
    sample: (i, s) => heads(s, i, (h) => wkv6Head(i.length, h, { r: i.rows.q, ...i.rows, u: i.u.data })),
  },
  {
    id: 'wkv7',
    label: 'WKV, RWKV-7',
    modes: [{ name: 'chunked', ...CHUNKS }, STEPS],
    kept: (s) => matrixState(s, headDim(s)),
    keptText: 'a (key, value) matrix a head, at any length',
    run: (ops, i, mode) =>
      ops.wkv7Sync({ r: i.q, w: i.w, k: i.k, v: i.v, a: i.a, b: i.b, mode: mode as 'chunked' }).y.data as Float32Array,
    sample: (i, s) => heads(s, i, (h) => wkv7Head(i.length, h, { r: i.rows.q, ...i.rows })),
  },
  {
    id: 'mamba3',
    label: 'Mamba-3',
    modes: [{ name: 'chunked', ...CHUNKS }, STEPS],
    kept: (s) => matrixState(s, s.dState),
    keptText: 'a (headdim, d_state) matrix a head, and the token before, at any length',
    run: (ops, i, mode) =>
      ops.mamba3Sync({ ...i.mamba3, x: i.v, B: i.B, C: i.C, dt: i.dt, mode: mode as 'chunked' }).y.data as Float32Array,
    sample: (i, s) => heads(s, i, (h) => mamba3Head(i.length, h, { ...i.rows, x: i.rows.v })),
  },
  {
    id: 'gla',
    label: 'gated linear attention',
    modes: [{ name: 'chunked', ...CHUNKS }, STEPS],
    kept: (s) => matrixState(s, headDim(s)),
    keptText: 'a (key, value) matrix a head, at any length',
    run: (ops, i, mode) =>
      ops.glaSync({ q: i.q, k: i.k, v: i.v, g: i.w, mode: mode as 'chunked' }).y.data as Float32Array,
    sample: (i, s) => heads(s, i, (h) => glaHead(i.length, h, { ...i.rows, g: i.rows.w })),
  },
  {
    id: 'gatedDelta',
    label: 'gated delta rule',
    modes: [{ name: 'chunked', ...CHUNKS }, STEPS],
    kept: (s) => matrixState(s, headDim(s)),
    keptText: 'a (key, value) matrix a head, at any length',
    run: (ops, i, mode) =>
      ops.gatedDeltaRuleSync({ q: i.q, k: i.b, v: i.v, g: i.decay, beta: i.beta, mode: mode as 'chunked' }).y
        .data as Float32Array,
    sample: (i, s) => heads(s, i, (h) => deltaHead(i.length, h, { ...i.rows, k: i.rows.b, g: i.rows.decay })),
  },
  {
    id: 'kda',
    label: 'Kimi delta attention',
    modes: [{ name: 'chunked', ...CHUNKS }, STEPS],
    kept: (s) => matrixState(s, headDim(s)),
    keptText: 'a (key, value) matrix a head, at any length',
    run: (ops, i, mode) =>
      ops.kdaSync({ q: i.q, k: i.b, v: i.v, g: i.w, beta: i.beta, mode: mode as 'chunked' }).y.data as Float32Array,
    sample: (i, s) => heads(s, i, (h) => deltaHead(i.length, h, { ...i.rows, k: i.rows.b, g: i.rows.w })),
  },
  {
    id: 'rgLru',
    label: 'RG-LRU (Griffin)',
    modes: [{ ...STEPS, working: 'the gates of a chunk of tokens' }],
    kept: (s) => s.batch * s.dModel * F32_BYTES,
    keptText: 'a number a channel, at any length',
    run: (ops, i) => ops.rgLruSync({ x: i.x, ...i.rgLru }).y.data as Float32Array,
    sample: (i, s) => heads(s, i, (h) => rgLruHead(i.length, h, i.rows.v, i.rgLru)),
  },
  {
    id: 'shortConv',
    label: 'gated short convolution (LFM2)',
    modes: [{ ...STEPS, name: 'direct', working: 'nothing' }],
    working: () => 0,
    kept: (s) => s.batch * s.dModel * (TAPS - 1) * F32_BYTES,
    keptText: `${TAPS - 1} products a channel, at any length`,
    run: (ops, i) => ops.shortConvSync({ b: i.flatQ, c: i.flatK, x: i.x, weight: i.taps }).y.data as Float32Array,
    sample: (i, s) =>
      [0, s.dModel - 1].map((c) => ({
        at: Array.from({ length: i.length }, (_, t) => t * s.dModel + c),
        expected: shortConvChannel(i.length, c, { b: i.flatQ, c: i.flatK, x: i.x, weight: i.taps }),
      })),
  },
  {
    id: 'fftConv',
    label: 'long convolution',
    modes: [
      { name: 'FFT', order: 1, working: `two transforms of N points, ${LANES} channels of them, in each thread` },
    ],
    working: (_, length, threads) => threads * 2 * 2 ** Math.ceil(Math.log2(length)) * 2 * LANES * F32_BYTES,
    kept: (s, length) => s.batch * length * s.dModel * F32_BYTES,
    keptText: 'every input: there is no recurrence (Hyena); S4 has one',
    run: (ops, i) => ops.fftConvSync({ x: i.x, kernel: i.kernel }).y.data as Float32Array,
    sample: (i, s) =>
      Array.from({ length: SAMPLED }, (_, n) => {
        const part = n / (SAMPLED - 1);
        const [t, c] = [Math.round((i.length - 1) * part), Math.round((s.dModel - 1) * part)];
        return { at: [t * s.dModel + c], expected: [convolution(i.rows.flatV, i.kernel.data, t, c)] };
      }),
  },
];

/** Some heads of the first sequence, from their first token to their last. */
function heads(s: Shape, i: Inputs, reference: (h: number) => Float64Array) {
  const width = headDim(s);
  return [...new Set([0, s.heads - 1])].map((h) => ({
    at: Array.from({ length: i.length * width }, (_, j) => (Math.floor(j / width) * s.heads + h) * width + (j % width)),
    expected: reference(h),
  }));
}

export function mixersPreset(ops: MixerOps, shape: Shape, threads: number): Preset {
  const { dModel, heads, dState, batch } = shape;
  const tiled = attentionContenders(shape, threads)[0]!;
  const contender = (m: Mixer, mode: Mixer['modes'][number]): Contender => ({
    id: `${m.id}-${mode.name}`,
    label: m.modes.length > 1 ? `${m.label}, ${mode.name}` : m.label,
    family: mode.order === 2 ? 'attention' : 'scan',
    group: m.id,
    order: mode.order,
    memory: (length) => {
      const kept = m.kept(shape, length);
      return { working: m.working?.(shape, length, threads) ?? kept, kept };
    },
    counted: { working: mode.working, kept: m.keptText },
  });
  return {
    name: 'mixers',
    title:
      `the mixing alone, f32, causal, batch ${batch}: ${heads} heads of ${dModel / heads}, SSD with ${dState} states, ` +
      `convolution over ${dModel} channels with N taps`,
    shape,
    contenders: [tiled, ...MIXERS.flatMap((m) => m.modes.map((mode) => contender(m, mode)))],
    prepare: (length) => prepare(ops, length, shape),
  };
}

function prepare(ops: MixerOps, length: number, shape: Shape): Prepared {
  const i = inputs(length, shape);
  const run: Prepared['run'] = {
    tiled: async () => ops.attentionSync({ q: i.q, k: i.k, v: i.v }).y.data as Float32Array,
  };
  for (const m of MIXERS) for (const { name } of m.modes) run[`${m.id}-${name}`] = async () => m.run(ops, i, name);
  return {
    run,
    check: (outputs) => [...checkAttention(i, shape, outputs), ...MIXERS.flatMap((m) => check(m, i, shape, outputs))],
  };
}

/** Every mode against the definition on samples, and against the first mode in full. */
function check(m: Mixer, i: Inputs, s: Shape, outputs: ReadonlyMap<string, Float32Array>): Check[] {
  const ran = m.modes
    .map(({ name }) => ({ name, y: outputs.get(`${m.id}-${name}`) }))
    .filter(({ y }) => y !== undefined);
  if (ran.length === 0) return [];
  const samples = m.sample(i, s);
  const expected = samples.flatMap((sample) => Array.from(sample.expected));
  return ran.flatMap(({ name, y }, n) => {
    const got = samples.flatMap(({ at }) => at.map((place) => y![place]!));
    const own = {
      name: `${m.label}, ${name} = its definition (samples)`,
      error: relativeError(got, expected),
      bound: BOUND,
    };
    if (n === 0) return [own];
    const first = { name: `${m.label}, ${name} = ${ran[0]!.name}`, error: relativeError(y!, ran[0]!.y!), bound: BOUND };
    return [own, first];
  });
}

function checkAttention(i: Inputs, s: Shape, outputs: ReadonlyMap<string, Float32Array>): Check[] {
  const y = outputs.get('tiled');
  if (y === undefined) return [];
  const a = { q: i.q.data, k: i.k.data, v: i.v.data, ...s, length: i.length, headDim: headDim(s) };
  const got: number[] = [];
  const expected: number[] = [];
  for (let n = 0; n < SAMPLED; n++) {
    const [t, h] = [Math.round(((i.length - 1) * n) / (SAMPLED - 1)), n % s.heads];
    const from = (t * s.heads + h) * a.headDim;
    got.push(...y.subarray(from, from + a.headDim));
    expected.push(...attentionRow(a, 0, t, h));
  }
  return [{ name: 'attention, tiled = its definition (samples)', error: relativeError(got, expected), bound: BOUND }];
}

function inputs(length: number, { batch, dModel, heads, dState }: Shape) {
  const random = new Random(3);
  const width = dModel / heads;
  const tokens = batch * length;
  const perHead = (data: Float32Array) => ({ data, shape: [batch, length, heads, width] });
  const flat = ({ data }: { data: Float32Array }) => ({ data, shape: [batch, length, dModel] });
  const values = () => perHead(random.array(tokens * dModel));
  const [q, k, v] = [values(), values(), values()];
  // RWKV-7 removes along unit vectors: a = −b/‖b‖ · rate.
  const b = perHead(unitRows(random.array(tokens * dModel), width));
  const states = () => ({
    data: random.array(tokens * dState, 1 / Math.sqrt(dState)),
    shape: [batch, length, 1, dState],
  });
  const [B, C] = [states(), states()];
  const dt = { data: random.uniform(tokens * heads, 0.01, 0.1), shape: [batch, length, heads] };
  const first = (data: Float32Array, count: number, w: number): Rows => ({ data, heads: count, width: w });
  const w = perHead(random.uniform(tokens * dModel, -0.5, -0.01));
  const a = perHead(b.data.map((x) => -0.5 * x));
  const byHead = (data: Float32Array) => ({ data, shape: [batch, length, heads] });
  const [beta, decay] = [byHead(random.uniform(tokens * heads, 0.1, 0.9)), byHead(dt.data.map((x) => -2 * x))];
  const trap = byHead(random.array(tokens * heads));
  const angles = {
    data: random.array(tokens * Math.floor(dState / 4)),
    shape: [batch, length, Math.floor(dState / 4)],
  };
  const gates = () => ({
    data: random.array(heads * width * width, 1 / Math.sqrt(width)),
    shape: [heads, width, width],
  });
  const gateBias = { data: random.array(dModel), shape: [heads, width] };
  const ones = { data: new Float32Array(heads * dState).fill(1), shape: [heads, dState] };
  return {
    length,
    q,
    k,
    v,
    w,
    a,
    b,
    B,
    C,
    dt,
    A: { data: Float32Array.from({ length: heads }, (_, h) => -1 - h), shape: [heads] },
    u: { data: random.array(dModel, 0.5), shape: [heads, width] },
    x: flat(v),
    kernel: { data: random.array(dModel * length, 1 / Math.sqrt(length)), shape: [dModel, length] },
    wkv4: {
      k: flat(k),
      v: flat(v),
      timeDecay: { data: random.uniform(dModel, -5, 1), shape: [dModel] },
      timeFirst: { data: random.uniform(dModel, -1, 1), shape: [dModel] },
    },
    flatQ: flat(q),
    flatK: flat(k),
    taps: { data: random.array(dModel * TAPS), shape: [dModel, TAPS] },
    rgLru: {
      inputGateWeight: gates(),
      inputGateBias: gateBias,
      recurrentGateWeight: gates(),
      recurrentGateBias: gateBias,
      recurrentParam: { data: random.uniform(dModel, -8, -4), shape: [dModel] },
    },
    beta,
    decay,
    mamba3: { adt: decay, trap, angles, BBias: ones, CBias: ones },
    rows: {
      q: first(q.data, heads, width),
      k: first(k.data, heads, width),
      v: first(v.data, heads, width),
      w: first(w.data, heads, width),
      a: first(a.data, heads, width),
      b: first(b.data, heads, width),
      B: first(B.data, 1, dState),
      C: first(C.data, 1, dState),
      dt: first(dt.data, 1, heads),
      beta: first(beta.data, 1, heads),
      decay: first(decay.data, heads, 1),
      trap: first(trap.data, 1, heads),
      angles: first(angles.data, 1, angles.shape[2]!),
      flatK: first(k.data, 1, dModel),
      flatV: first(v.data, 1, dModel),
    },
  };
}

function unitRows(data: Float32Array, width: number): Float32Array {
  for (let at = 0; at < data.length; at += width) {
    const r = data.subarray(at, at + width);
    const norm = Math.hypot(...r);
    for (let j = 0; j < width; j++) r[j]! /= norm;
  }
  return data;
}
