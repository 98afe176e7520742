// Where a checkpoint's tensors lie; the type that every reader here produces.
import { type StoredType, storedTypes } from '../dtype.js';
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

export type ReadableDType = keyof typeof itemBytes;
/** ggml's quantised types: rows of whole blocks. */
export type BlockDType = Exclude<StoredType, 'f32' | 'f16' | 'bf16' | 'i32'>;
export type StoredDType = ReadableDType | BlockDType | keyof typeof foreignBits;

export const isReadable = (dtype: StoredDType): dtype is ReadableDType => dtype in itemBytes;
export const isBlocks = (dtype: StoredDType): dtype is BlockDType =>
  Object.hasOwn(storedTypes, dtype) && storedTypes[dtype as StoredType].block > 1;

/** Bits of one element; of blocks, on average. */
export function bitsOf(dtype: StoredDType): number {
  if (isBlocks(dtype)) return (8 * storedTypes[dtype].bytes) / storedTypes[dtype].block;
  return isReadable(dtype) ? 8 * itemBytes[dtype] : foreignBits[dtype];
}
/** Values that lie together: rows are whole blocks. */
export const typeBlock = (dtype: StoredDType): number => (isBlocks(dtype) ? storedTypes[dtype].block : 1);
/** Bytes of `count` values, whole blocks of them. */
export const storedBytes = (dtype: StoredDType, count: number): number =>
  isBlocks(dtype) ? (count / storedTypes[dtype].block) * storedTypes[dtype].bytes : (count * bitsOf(dtype)) / 8;

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
  /** Only when its values cannot be had, as no dense ones lie in the file: what it is. Its shape is not known then. */
  unreadable?: string;
  /** Only when whole rows (of the last axis) lie in another order: which row of those at `offset` each one is. */
  rows?: Int32Array;
  /** Only when it lies in several places: parts whose values, one after the other, are those of this tensor. */
  parts?: readonly StoredTensor[];
  /** Only when its values are computed: what from, and how, in f32 and row-major order; in the values' own memory or another. */
  derived?: {
    from: StoredTensor;
    apply(values: Float32Array): Float32Array | Promise<Float32Array>;
    /** The values, where others have read `from` already: in place of apply(). */
    values?(): Promise<Float32Array>;
    /** Values [first, first + wanted) without the others, where that is possible. */
    range?(first: number, wanted: number): StoredTensor;
  };
}

/** The tensors of the file that this one lies in. */
export function leavesOf(tensor: StoredTensor): StoredTensor[] {
  if (tensor.parts) return tensor.parts.flatMap(leavesOf);
  return tensor.derived ? leavesOf(tensor.derived.from) : [tensor];
}

export const unreadableError = ({ file, name, unreadable }: StoredTensor): StatespaceError =>
  checkpointError(file, `tensor ${name} is ${unreadable} and cannot be read; save it as an ordinary tensor of floats`);

export function checkpointError(where: string, what: string, options?: ErrorOptions): StatespaceError {
  return new StatespaceError('ERR_CHECKPOINT', `${where}: ${what}`, options);
}
