/**
 * Attention as textbooks write it: y = softmax(q·kᵀ/√P)·v with the (L, L) matrix in memory. One head at a time, so that
 * long sequences fit at all; the softmax is TypeScript on one thread (the package has no op that takes such a matrix).
 */
import type { Ops, TensorLike } from '../library.js';
import { collectGarbage } from '../machine.js';
import { breathe } from '../sampling.js';
import { F32_BYTES } from './preset.js';

export interface Heads {
  q: Float32Array; // (batch, length, heads, headDim); so are k, v
  k: Float32Array;
  v: Float32Array;
  batch: number;
  length: number;
  heads: number;
  headDim: number;
}

// The op returns a new matrix for every head; left to itself the collector lets gigabytes of them pile up.
const COLLECT_BYTES = 64 * 1024 * 1024;

export async function materialisedAttention(ops: Ops, a: Heads): Promise<Float32Array> {
  const { batch, length, heads, headDim } = a;
  const y = new Float32Array(a.q.length);
  const scale = 1 / Math.sqrt(headDim);
  let garbage = 0;
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      mixHead(ops, a, b, h, scale, y);
      garbage += length * length * F32_BYTES;
      if (garbage >= COLLECT_BYTES) {
        collectGarbage();
        garbage = 0;
      }
      await breathe();
    }
  }
  return y;
}

// A function of its own: when it returns, nothing refers to the matrix.
function mixHead(ops: Ops, a: Heads, b: number, h: number, scale: number, y: Float32Array): void {
  const { length, headDim } = a;
  const scores = ops.linearSync({ x: head(a.q, a, b, h, scale), weight: head(a.k, a, b, h, 1) }).y; // (L, L)
  softmaxCausal(scores.data as Float32Array, length);
  const mixed = ops.linearSync({ x: scores, weight: transposed(a.v, a, b, h) }).y; // (L, headDim)
  const rows = mixed.data as Float32Array;
  for (let t = 0; t < length; t++) y.set(rows.subarray(t * headDim, (t + 1) * headDim), at(a, b, t, h));
}

function at({ length, heads, headDim }: Heads, b: number, t: number, h: number): number {
  return ((b * length + t) * heads + h) * headDim;
}

function head(source: Float32Array, a: Heads, b: number, h: number, scale: number): TensorLike {
  const { length, headDim } = a;
  const data = new Float32Array(length * headDim);
  for (let t = 0; t < length; t++) {
    const from = at(a, b, t, h);
    for (let p = 0; p < headDim; p++) data[t * headDim + p] = source[from + p]! * scale;
  }
  return { data, shape: [length, headDim] };
}

function transposed(source: Float32Array, a: Heads, b: number, h: number): TensorLike {
  const { length, headDim } = a;
  const data = new Float32Array(length * headDim);
  for (let t = 0; t < length; t++) {
    const from = at(a, b, t, h);
    for (let p = 0; p < headDim; p++) data[p * length + t] = source[from + p]!;
  }
  return { data, shape: [headDim, length] };
}

/** In place; row i sees columns 0 … i, the rest becomes 0. */
export function softmaxCausal(scores: Float32Array, length: number): void {
  for (let i = 0; i < length; i++) {
    const row = scores.subarray(i * length, (i + 1) * length);
    let max = Number.NEGATIVE_INFINITY;
    for (let j = 0; j <= i; j++) if (row[j]! > max) max = row[j]!;
    let sum = 0;
    for (let j = 0; j <= i; j++) {
      const e = expNegative(row[j]! - max);
      row[j] = e;
      sum += e;
    }
    const inverse = 1 / sum;
    for (let j = 0; j <= i; j++) row[j]! *= inverse;
    row.fill(0, i + 1);
  }
}

const LOG2E = Math.LOG2E;
const ROUND = 1.5 * 2 ** 52;
const POWERS = Float64Array.from({ length: 128 }, (_, n) => 2 ** -n);

/**
 * e^x for x ≤ 0 to 1e-8: 2^n · 2^r by a polynomial for |r| ≤ ½. Math.exp is exact to the last bit of a double and takes
 * several times as long, which would be charged to attention.
 */
export function expNegative(x: number): number {
  if (x < -87) return 0;
  const t = x * LOG2E;
  const n = t + ROUND - ROUND;
  const r = (t - n) * Math.LN2;
  const p = 1 + r * (1 + r * (1 / 2 + r * (1 / 6 + r * (1 / 24 + r * (1 / 120 + r * (1 / 720 + r * (1 / 5040)))))));
  return p * POWERS[-n]!;
}
