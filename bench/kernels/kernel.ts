/** What the kernel benchmark measures: one op at one shape, with its work counted and its result checked. */
import type { Plan } from '../../lib/ops/run.js';
import type { DType, Tensor, TensorLike } from '../library.js';
import { Random } from '../random.js';
import { relativeError } from '../scaling/preset.js';
import type { GradientOp } from './plans.js';

export type Sizes = Readonly<Record<string, number>>;

/** One shape of a kernel; `dtype` is that of its large operands. */
export interface Variant {
  sizes: Sizes;
  dtype: DType;
}

/** Counted by the op's definition, not by what an implementation does. */
export interface Work {
  /** Floating-point operations; a multiply-add is two. */
  flops: number;
  /** Bytes that must move: every input read once, every output written once. */
  bytes: number;
  /** State updates, of the selective scan. */
  updates?: number;
}

export interface Prepared {
  /** The arguments of the public op: peers get the same. */
  args: Readonly<Record<string, TensorLike | number | boolean | string>>;
  /** Its name, where the native op serves others too. */
  op?: 'deltaRule' | 'kda' | 'lightningAttention';
  /** The native call with all its memory, anew each time. */
  plan: () => Plan<{ y: Tensor }>;
  work: Work;
  /** Relative L2 error of y against the definition in f64, on samples. */
  check: (y: Float32Array) => number;
  bound: number;
}

/** The public op of a kernel, whose gradient is measured too, and an argument by whose values the result is checked. */
export interface Differentiable {
  op: GradientOp;
  by: string;
  /** The op of the forward, where the gradient's is another's as well. */
  forward?: 'kda';
}

export interface Kernel {
  name: string;
  /** What it computes and what its sizes mean, for people. */
  title: string;
  variants: readonly Variant[];
  dtypes: readonly DType[];
  /** The unit that its speed is told in. */
  unit: 'flops' | 'bytes' | 'updates';
  gradient?: Differentiable;
  prepare: (variant: Variant) => Prepared;
}

/** A kernel whose sizes are K; variants name what differs from `sizes`. */
export function kernel<K extends string>(k: {
  name: string;
  title: string;
  sizes: Readonly<Record<K, number>>;
  variants?: readonly { sizes?: Partial<Record<NoInfer<K>, number>>; dtype?: DType }[];
  dtypes?: readonly DType[];
  unit: Kernel['unit'];
  gradient?: Differentiable;
  prepare: (sizes: Readonly<Record<K, number>>, dtype: DType) => Prepared;
}): Kernel {
  const { variants = [{}], dtypes = ['f32'], ...rest } = k;
  return {
    ...rest,
    dtypes,
    variants: variants.map(({ dtype = 'f32', sizes }) => ({ dtype, sizes: { ...k.sizes, ...sizes } as Sizes })),
    prepare: ({ sizes, dtype }) => k.prepare(sizes as Readonly<Record<K, number>>, dtype),
  };
}

export const F32 = 4;
export const F32_BOUND = 1e-5;
export const HALF_BOUND = 1e-2;

export function bytesOf(dtype: DType): number {
  return dtype === 'f32' ? F32 : 2;
}

/** Repeatable values for one call's arguments. */
export class Values {
  readonly #random: Random;
  constructor(seed: number) {
    this.#random = new Random(seed);
  }
  /** Mean 0, variance scale². */
  normal(shape: number[], scale = 1) {
    return { data: this.#random.array(count(shape), scale), shape };
  }
  uniform(shape: number[], low: number, high: number) {
    return { data: this.#random.uniform(count(shape), low, high), shape };
  }
  /** Rows of the last axis of unit length. */
  unit(shape: number[]) {
    const made = this.normal(shape);
    const width = shape.at(-1)!;
    for (let at = 0; at < made.data.length; at += width) {
      const row = made.data.subarray(at, at + width);
      const norm = Math.hypot(...row);
      for (let i = 0; i < width; i++) row[i]! /= norm;
    }
    return made;
  }
}

function count(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** `count` whole numbers spread over [0, size), first and last among them. */
export function spread(size: number, count: number): number[] {
  const last = Math.min(count, size) - 1;
  return Array.from({ length: last + 1 }, (_, i) => (last === 0 ? 0 : Math.round(((size - 1) * i) / last)));
}

/** Collects pairs of got and expected values and tells how far they are apart. */
export function compare(pairs: Iterable<readonly [got: ArrayLike<number>, expected: ArrayLike<number>]>): number {
  const [got, expected]: [number[], number[]] = [[], []];
  for (const [g, e] of pairs) {
    for (let i = 0; i < e.length; i++) {
      got.push(g[i]!);
      expected.push(e[i]!);
    }
  }
  return relativeError(got, expected);
}

export interface KernelCase {
  kernel: Kernel;
  variant: Variant;
}
