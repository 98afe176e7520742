/**
 * Preset layer: whole layers with their projections, as the textbook comparison has it. Both begin with an RMSNorm and
 * end with the output projection; the residual addition, which is the same for both, is left out.
 */
import type { Ops, Tensor, TensorLike } from '../library.js';
import { Random } from '../random.js';
import { type Heads, materialisedAttention } from './materialised.js';
import { attentionContenders, scanContender } from './memory.js';
import {
  type Check,
  type Contender,
  EXPAND,
  F32_BYTES,
  type Prepared,
  type Preset,
  relativeError,
  type Shape,
} from './preset.js';
import { attentionRow, convSilu, matmul, rmsNormRows, type Scan, scanChannel } from './reference.js';

export const LAYER_SHAPE: Shape = { dModel: 512, heads: 8, dState: 16, batch: 4 };

const CONV_WIDTH = 4;
const EPS = 1e-5;
const BOUND = 2e-5; // relative L2 through four matrix products
const PREFIX = 8; // tokens of the first sequence that plain TypeScript computes as well

export function layerPreset(ops: Ops, shape: Shape, threads: number): Preset {
  const { dModel, heads, dState, batch } = shape;
  const weights = makeWeights(shape);
  return {
    name: 'layer',
    title:
      `whole layers with projections, f32, causal, batch ${batch}, d_model ${dModel}: attention with ${heads} heads; ` +
      `Mamba with d_inner ${EXPAND * dModel}, d_state ${dState}, conv ${CONV_WIDTH}`,
    shape,
    contenders: withActivations([...attentionContenders(shape, threads), scanContender(shape, 'Mamba layer')], shape),
    prepare: (length) => prepare(ops, length, shape, weights),
  };
}

// The op at a time that these layers are made of keeps every intermediate tensor until the layer ends.
function withActivations(contenders: Contender[], { dModel, dState, batch }: Shape): Contender[] {
  const attention = 5 * dModel; // norm, q, k, v, mixed
  const mamba = dModel + 5 * EXPAND * dModel + rank(dModel) + 2 * dState; // norm; u, z, conv, delta, y; dt, B, C
  return contenders.map((contender) => {
    const perToken = contender.family === 'attention' ? attention : mamba;
    return {
      ...contender,
      label: contender.label.replace('attention', 'attention layer'),
      memory(length) {
        const { working, kept } = contender.memory(length);
        return { working: working + batch * length * perToken * F32_BYTES, kept };
      },
      counted: {
        ...contender.counted,
        working: `activations: batch ${batch} · N · ${perToken} · 4 B; and ${contender.counted.working}`,
      },
    };
  });
}

const rank = (dModel: number) => Math.ceil(dModel / 16);

type Weights = ReturnType<typeof makeWeights>;

function makeWeights({ dModel, dState }: Shape) {
  const random = new Random(3);
  const dInner = EXPAND * dModel;
  const matrix = (out: number, into: number): TensorLike & { data: Float32Array } => ({
    data: random.array(out * into, 1 / Math.sqrt(into)),
    shape: [out, into],
  });
  return {
    norm: new Float32Array(dModel).fill(1),
    q: matrix(dModel, dModel),
    k: matrix(dModel, dModel),
    v: matrix(dModel, dModel),
    o: matrix(dModel, dModel),
    inU: matrix(dInner, dModel),
    inZ: matrix(dInner, dModel),
    conv: random.array(dInner * CONV_WIDTH, 0.5),
    convBias: new Float32Array(dInner).fill(0.1),
    dt: matrix(rank(dModel), dInner),
    dtProj: matrix(dInner, rank(dModel)),
    dtBias: new Float32Array(dInner).fill(-4.6),
    B: matrix(dState, dInner),
    C: matrix(dState, dInner),
    A: Float32Array.from({ length: dInner * dState }, (_, i) => -1 - (i % dState)),
    D: random.array(dInner),
    out: matrix(dModel, dInner),
  };
}

function prepare(ops: Ops, length: number, shape: Shape, w: Weights): Prepared {
  const { dModel, batch } = shape;
  const x: TensorLike = { data: new Random(4).array(batch * length * dModel), shape: [batch, length, dModel] };
  return {
    run: {
      tiled: async () => attentionLayer(ops, x, shape, w, (a) => ops.attentionSync(perHead(a)).y.data as Float32Array),
      materialised: () => attentionLayer(ops, x, shape, w, (a) => materialisedAttention(ops, a)),
      scan: async () => mambaLayer(ops, x, shape, w),
    },
    check: (outputs) => check(x, length, shape, w, outputs),
  };
}

function perHead(a: Heads) {
  const shape = [a.batch, a.length, a.heads, a.headDim];
  return { q: { data: a.q, shape }, k: { data: a.k, shape }, v: { data: a.v, shape } };
}

async function attentionLayer(
  ops: Ops,
  x: TensorLike,
  { dModel, heads }: Shape,
  w: Weights,
  mix: (a: Heads) => Float32Array | Promise<Float32Array>,
): Promise<Float32Array> {
  const h = ops.rmsNormSync({ x, weight: { data: w.norm, shape: [dModel] }, eps: EPS }).y;
  const project = (weight: TensorLike) => ops.linearSync({ x: h, weight }).y.data as Float32Array;
  const [batch, length] = [x.shape[0]!, x.shape[1]!];
  const mixed = await mix({
    q: project(w.q),
    k: project(w.k),
    v: project(w.v),
    batch,
    length,
    heads,
    headDim: dModel / heads,
  });
  return ops.linearSync({ x: { data: mixed, shape: x.shape }, weight: w.o }).y.data as Float32Array;
}

function mambaLayer(ops: Ops, x: TensorLike, { dModel, dState }: Shape, w: Weights): Float32Array {
  const dInner = EXPAND * dModel;
  const vector = (data: Float32Array): TensorLike => ({ data, shape: [dInner] });
  const linear = (input: TensorLike, weight: TensorLike): Tensor => ops.linearSync({ x: input, weight }).y;
  const h = ops.rmsNormSync({ x, weight: { data: w.norm, shape: [dModel] }, eps: EPS }).y;
  const { y: u } = ops.causalConv1dSync({
    x: linear(h, w.inU),
    weight: { data: w.conv, shape: [dInner, CONV_WIDTH] },
    bias: vector(w.convBias),
    activation: 'silu',
  });
  const { y } = ops.selectiveScanSync({
    u,
    delta: linear(linear(u, w.dt), w.dtProj),
    A: { data: w.A, shape: [dInner, dState] },
    B: linear(u, w.B),
    C: linear(u, w.C),
    D: vector(w.D),
    z: linear(h, w.inZ),
    deltaBias: vector(w.dtBias),
    deltaSoftplus: true,
  });
  return linear(y, w.out).data as Float32Array;
}

/** Tiled = materialised in full; each layer = its definition on the first tokens (causal: they do not see the rest). */
function check(
  x: TensorLike,
  length: number,
  shape: Shape,
  w: Weights,
  outputs: ReadonlyMap<string, Float32Array>,
): Check[] {
  const rows = Math.min(PREFIX, length);
  const prefix = (y: Float32Array) => y.subarray(0, rows * shape.dModel);
  const h = rmsNormRows(prefix(x.data as Float32Array), w.norm, rows, EPS);
  const checks: Check[] = [];
  const [tiled, materialised] = [outputs.get('tiled'), outputs.get('materialised')];
  if (tiled && materialised) {
    const error = relativeError(tiled, materialised);
    checks.push({ name: 'tiled = materialised attention layer', error, bound: BOUND });
  }
  const expected = attentionPrefix(h, rows, shape, w);
  for (const [id, y] of Object.entries({ tiled, materialised })) {
    if (!y) continue;
    const error = relativeError(prefix(y), expected);
    checks.push({ name: `${id} attention layer = its definition (first ${rows} tokens)`, error, bound: BOUND });
  }
  const scan = outputs.get('scan');
  if (scan) {
    const error = relativeError(prefix(scan), mambaPrefix(h, rows, shape, w));
    checks.push({ name: `Mamba layer = its definition, step by step (first ${rows} tokens)`, error, bound: BOUND });
  }
  return checks;
}

function attentionPrefix(h: Float32Array, rows: number, { dModel, heads }: Shape, w: Weights): Float32Array {
  const project = (weight: TensorLike) => matmul(h, weight.data, rows, dModel);
  const headDim = dModel / heads;
  const a: Heads = { q: project(w.q), k: project(w.k), v: project(w.v), batch: 1, length: rows, heads, headDim };
  const mixed = new Float32Array(rows * dModel);
  for (let t = 0; t < rows; t++) {
    for (let i = 0; i < heads; i++) mixed.set(attentionRow(a, 0, t, i), t * dModel + i * headDim);
  }
  return matmul(mixed, w.o.data, rows, dModel);
}

function mambaPrefix(h: Float32Array, rows: number, { dModel, dState }: Shape, w: Weights): Float32Array {
  const dInner = EXPAND * dModel;
  const u = convSilu(matmul(h, w.inU.data, rows, dModel), w.conv, w.convBias, rows);
  const scan: Scan = {
    u,
    delta: matmul(matmul(u, w.dt.data, rows, dInner), w.dtProj.data, rows, rank(dModel)),
    z: matmul(h, w.inZ.data, rows, dModel),
    A: w.A,
    B: matmul(u, w.B.data, rows, dInner),
    C: matmul(u, w.C.data, rows, dInner),
    D: w.D,
    deltaBias: w.dtBias,
    batch: 1,
    length: rows,
    dInner,
    dState,
  };
  const y = new Float32Array(rows * dInner);
  for (let channel = 0; channel < dInner; channel++) {
    scanChannel(scan, 0, channel).forEach((value, t) => {
      y[t * dInner + channel] = value;
    });
  }
  return matmul(y, w.out.data, rows, dInner);
}
