import { blockSize, byteLength, type DType, decode, encode, isQuantized } from './dtype.js';
import { mismatch, StatespaceError, show } from './errors.js';

export type { DType } from './dtype.js';

/** Anything with data and a shape is accepted as an input; data is read in place, not copied. */
export interface TensorLike {
  readonly data: Float32Array | Int32Array | Uint16Array | Uint8Array;
  readonly shape: readonly number[];
  /** Default: by the type of data; Uint16Array needs 'f16' or 'bf16', Uint8Array 'q8_0' or 'q4_0'. */
  readonly dtype?: DType;
}

const arrayOf = {
  f32: 'Float32Array',
  i32: 'Int32Array',
  f16: 'Uint16Array',
  bf16: 'Uint16Array',
  q8_0: 'Uint8Array',
  q4_0: 'Uint8Array',
};

/** Data, its shape and its element type. The data is held, not copied. */
export class Tensor implements TensorLike {
  readonly data: TensorLike['data'];
  readonly shape: readonly number[];
  readonly dtype: DType;

  constructor(data: TensorLike['data'], shape: readonly number[], dtype?: DType) {
    this.dtype = checkTensor('Tensor', { data, shape, dtype });
    this.data = data;
    this.shape = Object.freeze([...shape]);
  }

  /**
   * A converted copy. Halves are rounded to nearest even; quantised types group 32 values of the last axis
   * (ggml block layout).
   */
  to(dtype: DType): Tensor {
    if (!Object.hasOwn(arrayOf, dtype))
      throw mismatch('ERR_DTYPE', 'Tensor.to', 'f32, f16, bf16, q8_0 or q4_0', show(dtype));
    if (dtype === this.dtype) return new Tensor(this.data.slice(), this.shape, dtype);
    if (dtype === 'i32') {
      throw new StatespaceError('ERR_DTYPE', `Tensor.to: ${this.dtype} has no conversion to i32; build an Int32Array`);
    }
    checkBlocks('Tensor.to', this.shape, dtype);
    return new Tensor(encode(this.toFloat32Array(), dtype), this.shape, dtype);
  }

  /** Values as f32, whatever the dtype; always a copy. */
  toFloat32Array(): Float32Array {
    return decode(this.data, this.dtype, sizeOf('Tensor', this.shape));
  }
}

/** The product of a shape, checked to be one. */
export function sizeOf(where: string, shape: readonly number[]): number {
  if (!Array.isArray(shape)) throw mismatch('ERR_SHAPE', where, 'shape as an array of sizes', show(shape));
  let size = 1;
  for (const length of shape) {
    if (!Number.isSafeInteger(length) || length < 0) {
      throw mismatch('ERR_SHAPE', where, 'shape of non-negative integers', show(shape));
    }
    size *= length;
  }
  if (!Number.isSafeInteger(size)) throw mismatch('ERR_SHAPE', where, 'at most 2^53 values', `shape ${show(shape)}`);
  return size;
}

/** Checks data, shape and dtype against each other and returns the dtype. `where` begins the message. */
export function checkTensor(where: string, tensor: TensorLike): DType {
  if (typeof tensor !== 'object' || tensor === null) {
    throw mismatch('ERR_ARGUMENT', where, 'a tensor { data, shape, dtype? }', show(tensor));
  }
  const { data, shape } = tensor;
  const size = sizeOf(where, shape);
  const dtype = tensor.dtype ?? defaultDType(where, data);
  const array = arrayOf[dtype];
  if (!Object.hasOwn(arrayOf, dtype))
    throw mismatch('ERR_DTYPE', where, 'f32, f16, bf16, i32, q8_0 or q4_0', show(dtype));
  if (tagOf(data) !== array) {
    throw mismatch('ERR_DTYPE', where, `data of dtype ${dtype} in a ${array}`, `a ${tagOf(data) ?? show(data)}`);
  }
  checkBlocks(where, shape, dtype);
  const expected = byteLength(dtype, size) / data.BYTES_PER_ELEMENT;
  if (data.length !== expected) {
    const hint = data.length === 0 ? ' (was its buffer transferred?)' : '';
    throw mismatch(
      'ERR_SHAPE',
      where,
      `${expected} elements of data for shape ${show(shape)} ${dtype}`,
      `${data.length}${hint}`,
    );
  }
  return dtype;
}

function checkBlocks(where: string, shape: readonly number[], dtype: DType): void {
  if (!isQuantized(dtype)) return;
  const last = shape.at(-1) ?? 1;
  if (last % blockSize !== 0) {
    throw mismatch(
      'ERR_SHAPE',
      where,
      `a last axis that is a multiple of ${blockSize} for ${dtype}`,
      `shape ${show(shape)}`,
    );
  }
}

function defaultDType(where: string, data: TensorLike['data']): DType {
  switch (tagOf(data)) {
    case 'Float32Array':
      return 'f32';
    case 'Int32Array':
      return 'i32';
    case 'Uint16Array':
      throw mismatch('ERR_DTYPE', where, "dtype 'f16' or 'bf16' with a Uint16Array", 'none');
    case 'Uint8Array':
      throw mismatch('ERR_DTYPE', where, "dtype 'q8_0' or 'q4_0' with a Uint8Array", 'none');
    default:
      throw mismatch('ERR_DTYPE', where, 'data as Float32Array, Int32Array, Uint16Array or Uint8Array', show(data));
  }
}

/** The typed array's own name, true across realms and for subclasses (a Buffer is a Uint8Array). */
function tagOf(data: unknown): string | undefined {
  return ArrayBuffer.isView(data) && !(data instanceof DataView)
    ? (data as Float32Array)[Symbol.toStringTag]
    : undefined;
}
