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

export type ReadableDType = keyof typeof itemBytes;
export type StoredDType = ReadableDType | keyof typeof foreignBits;

/** Bits of one element. */
export const bitsOf = (dtype: StoredDType): number => (isReadable(dtype) ? 8 * itemBytes[dtype] : foreignBits[dtype]);
export const isReadable = (dtype: StoredDType): dtype is ReadableDType => dtype in itemBytes;

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
}

export function checkpointError(where: string, what: string, options?: ErrorOptions): StatespaceError {
  return new StatespaceError('ERR_CHECKPOINT', `${where}: ${what}`, options);
}
