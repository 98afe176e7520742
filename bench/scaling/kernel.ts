/** Preset kernel: the mixing alone, attention against the selective scan, no projections around either. */
import type { Ops } from '../library.js';
import { Random } from '../random.js';
import { type Heads, materialisedAttention } from './materialised.js';
import { attentionContenders, scanContender } from './memory.js';
import { type Check, EXPAND, type Prepared, type Preset, relativeError, type Shape } from './preset.js';
import { attentionRow, type Scan, scanChannel } from './reference.js';

export const KERNEL_SHAPE: Shape = { dModel: 512, heads: 8, dState: 16, batch: 1 };

const BOUND = 1e-5; // relative L2, f32 kernels
const SAMPLED_ROWS = 6;
const SAMPLED_CHANNELS = 4;

/** `kept`: the ops on memory that is there, where runs are to be of kernels alone. */
export function kernelPreset(ops: Ops, shape: Shape, threads: number, kept?: Ops): Preset {
  const { dModel, heads, dState, batch } = shape;
  const headDim = dModel / heads;
  const dInner = EXPAND * dModel;
  return {
    name: 'kernel',
    title:
      `the mixing alone, f32, causal, batch ${batch}: attention with ${heads} heads of ${headDim}; ` +
      `selective scan over ${dInner} channels of ${dState} states`,
    shape,
    contenders: [...attentionContenders(shape, threads), scanContender(shape, 'selective scan')],
    prepare: (length) => prepare(ops, kept, length, { heads, headDim, dInner, dState, batch }),
  };
}

function prepare(
  ops: Ops,
  kept: Ops | undefined,
  length: number,
  s: { heads: number; headDim: number; dInner: number; dState: number; batch: number },
): Prepared {
  const attention = attentionInputs(length, s);
  const scan = scanInputs(length, s);
  const heads = tensors(attention);
  const wide = [s.batch, length, s.dInner];
  const states = [s.batch, length, s.dState];
  const arguments_ = {
    u: { data: scan.u, shape: wide },
    delta: { data: scan.delta, shape: wide },
    z: { data: scan.z, shape: wide },
    A: { data: scan.A, shape: [s.dInner, s.dState] },
    B: { data: scan.B, shape: states },
    C: { data: scan.C, shape: states },
    D: { data: scan.D, shape: [s.dInner] },
    deltaBias: { data: scan.deltaBias, shape: [s.dInner] },
    deltaSoftplus: true,
  };
  return {
    run: {
      tiled: async () => (kept ?? ops).attentionSync(heads).y.data as Float32Array,
      materialised: () => materialisedAttention(ops, attention),
      scan: async () => (kept ?? ops).selectiveScanSync(arguments_).y.data as Float32Array,
    },
    ...(kept && {
      call: { tiled: async () => ops.attentionSync(heads), scan: async () => ops.selectiveScanSync(arguments_) },
    }),
    check: (outputs) => [...checkAttention(attention, outputs), ...checkScan(scan, outputs.get('scan'))],
  };
}

export function tensors(a: Heads) {
  const shape = [a.batch, a.length, a.heads, a.headDim];
  return { q: { data: a.q, shape }, k: { data: a.k, shape }, v: { data: a.v, shape } };
}

function attentionInputs(length: number, s: { heads: number; headDim: number; batch: number }): Heads {
  const random = new Random(1);
  const size = s.batch * length * s.heads * s.headDim;
  return { ...s, length, q: random.array(size), k: random.array(size), v: random.array(size) };
}

function scanInputs(length: number, s: { dInner: number; dState: number; batch: number }): Scan {
  const { dInner, dState, batch } = s;
  const random = new Random(2);
  const tokens = batch * length;
  return {
    ...s,
    length,
    u: random.array(tokens * dInner),
    delta: random.array(tokens * dInner, 0.5),
    z: random.array(tokens * dInner),
    // Mamba's initialisation: A = −1 … −N; steps softplus(−4.6) ≈ 0.01.
    A: Float32Array.from({ length: dInner * dState }, (_, i) => -1 - (i % dState)),
    B: random.array(tokens * dState),
    C: random.array(tokens * dState),
    D: random.array(dInner),
    deltaBias: new Float32Array(dInner).fill(-4.6),
  };
}

/** Tiled = materialised in full where both ran; both = the definition on rows spread over the sequence. */
function checkAttention(a: Heads, outputs: ReadonlyMap<string, Float32Array>): Check[] {
  const [tiled, materialised] = [outputs.get('tiled'), outputs.get('materialised')];
  const checks: Check[] = [];
  if (tiled && materialised) {
    checks.push({ name: 'tiled = materialised attention', error: relativeError(tiled, materialised), bound: BOUND });
  }
  for (const [id, y] of Object.entries({ tiled, materialised })) {
    if (y === undefined) continue;
    const got: number[] = [];
    const expected: number[] = [];
    for (let i = 0; i < SAMPLED_ROWS; i++) {
      const [b, h] = [i % a.batch, i % a.heads];
      const t = Math.round(((a.length - 1) * i) / (SAMPLED_ROWS - 1));
      const from = ((b * a.length + t) * a.heads + h) * a.headDim;
      got.push(...y.subarray(from, from + a.headDim));
      expected.push(...attentionRow(a, b, t, h));
    }
    checks.push({
      name: `${id} attention = its definition (sampled rows)`,
      error: relativeError(got, expected),
      bound: BOUND,
    });
  }
  return checks;
}

function checkScan(s: Scan, y: Float32Array | undefined): Check[] {
  if (y === undefined) return [];
  const got: number[] = [];
  const expected: number[] = [];
  for (let i = 0; i < SAMPLED_CHANNELS; i++) {
    const b = i % s.batch;
    const channel = Math.round(((s.dInner - 1) * i) / (SAMPLED_CHANNELS - 1));
    expected.push(...scanChannel(s, b, channel));
    for (let t = 0; t < s.length; t++) got.push(y[(b * s.length + t) * s.dInner + channel]!);
  }
  return [
    { name: 'scan = recurrence step by step (sampled channels)', error: relativeError(got, expected), bound: BOUND },
  ];
}
