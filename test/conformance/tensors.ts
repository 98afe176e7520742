// Tensors of the corpus in the public layouts.
import type { GoldenTensor } from '../support/golden.js';

export interface Plain {
  data: Float32Array;
  shape: readonly number[];
}

/** A tensor of the corpus as f32. */
export function plain(t: GoldenTensor): Plain {
  return { data: Float32Array.from(t.data), shape: t.shape };
}

export function reshape(t: Plain, ...shape: number[]): Plain {
  return { data: t.data, shape };
}

/** axes[i]: which axis of t becomes axis i. */
export function permute(t: GoldenTensor, ...axes: number[]): Plain {
  const strides = t.shape.map((_, i) => t.shape.slice(i + 1).reduce((n, s) => n * s, 1));
  const shape = axes.map((a) => t.shape[a]!);
  const out = new Float32Array(t.data.length);
  const index = shape.map(() => 0);
  for (let i = 0; i < out.length; i++) {
    out[i] = t.data[axes.reduce((at, a, k) => at + strides[a]! * index[k]!, 0)]!;
    for (let k = shape.length - 1; k >= 0; k--) {
      index[k]!++;
      if (index[k]! < shape[k]!) break;
      index[k] = 0;
    }
  }
  return { data: out, shape };
}

/** Entries [from, to) of one axis. */
export function slice(t: GoldenTensor, axis: number, from: number, to: number): Plain {
  const outer = t.shape.slice(0, axis).reduce((n, s) => n * s, 1);
  const inner = t.shape.slice(axis + 1).reduce((n, s) => n * s, 1);
  const length = t.shape[axis]!;
  const data = new Float32Array(outer * (to - from) * inner);
  for (let o = 0; o < outer; o++)
    data.set(t.data.subarray((o * length + from) * inner, (o * length + to) * inner), o * (to - from) * inner);
  return { data, shape: t.shape.map((s, i) => (i === axis ? to - from : s)) };
}

/** Starts and total of the runs of equal values: seq_idx as cu_seqlens. */
export function boundsOf(seqIdx: GoldenTensor): Int32Array {
  const starts = Array.from(seqIdx.data.keys()).filter((i) => i === 0 || seqIdx.data[i] !== seqIdx.data[i - 1]);
  return Int32Array.from([...starts, seqIdx.data.length]);
}
