// Where a checkpoint's tensors lie; the type that every reader here produces.
import { StatespaceError } from '../errors.js';

/** Bytes of one element of each type whose values are read. */
export const itemBytes = { f32: 4, f16: 2, bf16: 2, f64: 8, i64: 8, i32: 4, i16: 2, i8: 1, u8: 1, bool: 1 } as const;
/** Bits of one element of the types that are located only: an error where a layer asks for such a tensor. */
export const foreignBits = {
  u16: 16,
  u32: 32,
  u64: 64,
  c64: 64,
  f8_e4m3: 8,
  f8_e5m2: 8,
  f8_e8m0: 8,
  f8_e4m3fnuz: 8,
  f8_e5m2fnuz: 8,
  f6_e2m3: 6,
  f6_e3m2: 6,
  f4: 4,
} as const;

/** Values in a block and bytes of it, of ggml's quantised types; native/core/blocks.h knows what the bytes mean. */
export const blocks = {
  q8_0: [32, 34],
  q4_0: [32, 18],
  q4_1: [32, 20],
  q5_0: [32, 22],
  q5_1: [32, 24],
  q2_k: [256, 84],
  q3_k: [256, 110],
  q4_k: [256, 144],
  q5_k: [256, 176],
  q6_k: [256, 210],
  iq4_nl: [32, 18],
  iq4_xs: [256, 136],
  mxfp4: [32, 17],
  q1_0: [128, 18],
  q2_0: [64, 18],
  tq1_0: [256, 54],
  tq2_0: [256, 66],
  iq1_s: [256, 50],
  iq1_m: [256, 56],
  iq2_xxs: [256, 66],
  iq2_xs: [256, 74],
  iq2_s: [256, 82],
  iq3_xxs: [256, 98],
  iq3_s: [256, 110],
  nvfp4: [64, 36],
} as const;

export type ReadableDType = keyof typeof itemBytes;
export type BlockDType = keyof typeof blocks;
export type StoredDType = ReadableDType | BlockDType | keyof typeof foreignBits;

export const isReadable = (dtype: StoredDType): dtype is ReadableDType => dtype in itemBytes;
export const isBlocks = (dtype: StoredDType): dtype is BlockDType => dtype in blocks;

/** Bits of one element; of blocks, on average. */
export function bitsOf(dtype: StoredDType): number {
  if (isBlocks(dtype)) return (8 * blocks[dtype][1]) / blocks[dtype][0];
  return isReadable(dtype) ? 8 * itemBytes[dtype] : foreignBits[dtype];
}
/** Values that lie together: rows are whole blocks. */
export const typeBlock = (dtype: StoredDType): number => (isBlocks(dtype) ? blocks[dtype][0] : 1);
/** Bytes of `count` values, whole blocks of them. */
export const storedBytes = (dtype: StoredDType, count: number): number =>
  isBlocks(dtype) ? (count / blocks[dtype][0]) * blocks[dtype][1] : (count * bitsOf(dtype)) / 8;

/** A tensor in a file, located and not read. */
export interface StoredTensor {
  name: string;
  dtype: StoredDType;
  shape: readonly number[];
  /** Only when the values are not contiguous: the distance of neighbours along each axis, in elements. */
  strides?: readonly number[];
  /** Absolute path. */
  file: string;
  /** Of the first value, in bytes from the start of the file. */
  offset: number;
  /** From the first byte of the first value to the last byte of the last one. */
  byteLength: number;
  /** Only when whole rows (of the last axis) lie in another order: which row of those at `offset` each one is. */
  rows?: Int32Array;
  /** Only when it lies in several places: parts whose values, one after the other, are those of this tensor. */
  parts?: readonly StoredTensor[];
  /** Only when its values are computed: what from, and how, in f32 and row-major order. */
  derived?: { from: StoredTensor; apply(values: Float32Array): Float32Array };
}

/** The tensors of the file that this one lies in. */
export function leavesOf(tensor: StoredTensor): StoredTensor[] {
  if (tensor.parts) return tensor.parts.flatMap(leavesOf);
  return tensor.derived ? leavesOf(tensor.derived.from) : [tensor];
}

export function checkpointError(where: string, what: string, options?: ErrorOptions): StatespaceError {
  return new StatespaceError('ERR_CHECKPOINT', `${where}: ${what}`, options);
}
