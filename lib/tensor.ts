import { blockSize, byteLength, type DType, isQuantized } from './dtype.js';
import { mismatch, StatespaceError, show } from './errors.js';
import { allocated, bytesOf, floats, giveBack, halves, zeroedMemory } from './memory.js';
import { call } from './native.js';

export type { DType } from './dtype.js';

/** Anything with data and a shape is accepted as an input; data is read in place, not copied. */
export interface TensorLike {
  readonly data: Float32Array | Int32Array | Uint16Array | Uint8Array | Float16;
  readonly shape: readonly number[];
  /**
   * Default: by the type of data (a Float16Array, where Node has it, is f16); Uint16Array needs 'f16' or 'bf16',
   * Uint8Array 'q8_0' or 'q4_0'.
   */
  readonly dtype?: DType | undefined;
}

/** A Float16Array, which this package's own types do not ask for. */
interface Float16 extends ArrayBufferView {
  readonly length: number;
  readonly [index: number]: number;
  readonly BYTES_PER_ELEMENT: number;
  readonly [Symbol.toStringTag]: 'Float16Array';
}

const arrayOf = {
  f32: 'Float32Array',
  i32: 'Int32Array',
  f16: 'Uint16Array',
  bf16: 'Uint16Array',
  q8_0: 'Uint8Array',
  q4_0: 'Uint8Array',
};

/** The arrays that tensors hold. */
type Data = Float32Array | Int32Array | Uint16Array | Uint8Array;

// Beside the class, so that tensors of two copies of this package stay one type.
const disposed = new WeakSet<object>();

/** Data, its shape and its element type. The data is held, not copied. */
export class Tensor implements TensorLike, Disposable {
  /** Empty once the tensor has been disposed of. A Float16Array is held as the Uint16Array of its bits. */
  readonly data: Data;
  readonly shape: readonly number[];
  readonly dtype: DType;

  constructor(data: TensorLike['data'], shape: readonly number[], dtype?: DType) {
    this.dtype = checkTensor('Tensor', { data, shape, dtype });
    this.data = bitsOf(data);
    this.shape = Object.freeze([...shape]);
  }

  /**
   * Zeros: f32, f16, bf16 or i32, f32 by default. Large ones lie in the large pages that results of ops lie in, which suits
   * inputs that are filled once, and `out`: a scan of 16,384 tokens by 1,024 channels takes 1.25 times as long over arrays that
   * JavaScript made, because their pages of 4 KB are looked up one by one.
   */
  static zeros(shape: readonly number[], dtype: DType = 'f32'): Tensor {
    const size = sizeOf('Tensor.zeros', shape);
    if (isQuantized(dtype) || !Object.hasOwn(arrayOf, dtype))
      throw mismatch('ERR_DTYPE', 'Tensor.zeros', 'f32, f16, bf16 or i32', show(dtype));
    const bytes = byteLength(dtype, size);
    return new Tensor(
      allocated('Tensor.zeros', () => zerosOf(dtype, bytes)),
      shape,
      dtype,
    );
  }

  /**
   * A converted copy, also to the type that it has. Halves are rounded to nearest even; quantised types group 32 values of
   * the last axis (ggml block layout).
   */
  to(dtype: DType): Tensor {
    checkConversion('Tensor.to', this, dtype);
    if (dtype === this.dtype) return new Tensor(copyOf(this.data), this.shape, dtype);
    if (dtype === 'f32') return new Tensor(this.toFloat32Array(), this.shape, dtype);
    const values = this.dtype === 'f32' ? (this.data as Float32Array) : this.toFloat32Array();
    const data = memoryFor(dtype, values.length);
    if (isQuantized(dtype)) {
      const blocks = data as Uint8Array;
      call((n) =>
        n.encodeBlocks(dtype, values, 1, values.length, blocks, undefined, new Int32Array(1), undefined, true),
      );
    } else call((n) => n.convert(values, 'f32', data, dtype, true));
    return new Tensor(data, this.shape, dtype);
  }

  /** {@link to} off the event loop: for large tensors. */
  async convert(dtype: DType): Promise<Tensor> {
    checkConversion('Tensor.convert', this, dtype);
    const { shape } = this;
    return new Tensor(await converted(pinned(this.data), this.dtype, dtype, sizeOf('Tensor', shape)), shape, dtype);
  }

  /** Values as f32, whatever the dtype; always a copy. */
  toFloat32Array(): Float32Array {
    checkAlive('Tensor.toFloat32Array', this);
    const { data, dtype } = this;
    if (dtype === 'i32') return new Float32Array(data);
    const values = floats(sizeOf('Tensor', this.shape));
    if (dtype === 'f32' || isHalf(dtype)) call((n) => n.convert(data, dtype, values, 'f32', true));
    else {
      const blocks = data as Uint8Array;
      call((n) =>
        n.decodeBlocks(dtype, blocks, 1, values.length, values, undefined, new Int32Array(1), undefined, true),
      );
    }
    return values;
  }

  /**
   * Gives the memory of its data back at once: `data` becomes empty, and with it every other view of that buffer. Data that
   * is part of a larger buffer, or shared, is only let go of. Later use in an op is ERR_DISPOSED; twice is nothing.
   */
  dispose(): void {
    if (disposed.has(this)) return;
    disposed.add(this);
    const { data } = this;
    (this as { data: Data }).data = emptyOf(data);
    giveBack(data);
  }

  /** As dispose(), for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

function checkConversion(where: string, tensor: Tensor, dtype: DType): void {
  if (!Object.hasOwn(arrayOf, dtype)) throw mismatch('ERR_DTYPE', where, 'f32, f16, bf16, q8_0 or q4_0', show(dtype));
  checkAlive(where, tensor);
  if (dtype === 'i32' && tensor.dtype !== 'i32')
    throw new StatespaceError('ERR_DTYPE', `${where}: ${tensor.dtype} has no conversion to i32; build an Int32Array`);
  checkBlocks(where, tensor.shape, dtype);
}

async function converted(data: Data, from: DType, to: DType, count: number): Promise<Data> {
  if (from !== to && from !== 'f32' && to !== 'f32')
    return converted(await converted(data, from, 'f32', count), 'f32', to, count);
  if (from === 'i32' && to === 'f32') return new Float32Array(data);
  const result = memoryFor(to, count);
  const never = new Int32Array(1);
  if (from !== to && isQuantized(from))
    await call((n) =>
      n.decodeBlocks(from, data as Uint8Array, 1, count, result as Float32Array, undefined, never, undefined),
    );
  else if (from !== to && isQuantized(to))
    await call((n) =>
      n.encodeBlocks(to, data as Float32Array, 1, count, result as Uint8Array, undefined, never, undefined),
    );
  else await call((n) => n.convert(data, from, result, to, false));
  return result;
}

/** Memory of whatever content. */
function memoryFor(dtype: DType, count: number): Data {
  if (dtype === 'f32') return floats(count);
  if (dtype === 'i32') return new Int32Array(floats(count).buffer, 0, count);
  return isQuantized(dtype) ? bytesOf(byteLength(dtype, count)) : halves(count);
}

function checkAlive(where: string, tensor: object): void {
  if (disposed.has(tensor)) throw new StatespaceError('ERR_DISPOSED', `${where}: the tensor has been disposed of`);
}

/** What a call writes to, checked: f32, f16 or bf16, of this shape where it is known, in memory that stays. */
export function outTensor(where: string, value: unknown, shape?: readonly number[]): Tensor {
  const tensor = value as TensorLike;
  const dtype = checkTensor(where, tensor);
  if (dtype !== 'f32' && dtype !== 'f16' && dtype !== 'bf16')
    throw mismatch('ERR_DTYPE', where, 'f32, f16, bf16', dtype);
  if (shape && !same(tensor.shape, shape))
    throw mismatch('ERR_SHAPE', where, `shape (${shape.join(', ')})`, `(${tensor.shape.join(', ')})`);
  if (isResizable(tensor.data as Data))
    throw new StatespaceError('ERR_ARGUMENT', `${where}: a resizable buffer may shrink while it is written to`);
  return tensor instanceof Tensor ? tensor : new Tensor(tensor.data, tensor.shape, dtype);
}

/** Whether two shapes are one. */
export function same(a: readonly number[], b: readonly number[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
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
  if (ArrayBuffer.isView(tensor) || Array.isArray(tensor))
    throw mismatch('ERR_SHAPE', where, 'a tensor { data, shape, dtype? }', `a bare ${tagOf(tensor) ?? 'array'}`);
  checkAlive(where, tensor);
  const { data, shape } = tensor;
  // What an op gives in place of one of its tensors, or before it is there.
  if (data === undefined && shape === undefined) {
    const within = Object.keys(tensor).filter(
      (key) => (tensor as object as Record<string, unknown>)[key] instanceof Tensor,
    );
    const received = within.length > 0 ? `what has it as its ${within.join(' or ')}` : show(tensor);
    throw mismatch('ERR_ARGUMENT', where, 'a tensor { data, shape, dtype? }', received);
  }
  const size = sizeOf(where, shape);
  const dtype = tensor.dtype ?? defaultDType(where, data);
  const array = arrayOf[dtype];
  if (!Object.hasOwn(arrayOf, dtype))
    throw mismatch('ERR_DTYPE', where, 'f32, f16, bf16, i32, q8_0 or q4_0', show(dtype));
  if (tagOf(data) !== array && !(dtype === 'f16' && tagOf(data) === 'Float16Array')) {
    throw mismatch('ERR_DTYPE', where, `data of dtype ${dtype} in a ${array}`, `a ${tagOf(data) ?? show(data)}`);
  }
  checkBlocks(where, shape, dtype);
  checkOrder(where, tensor, shape);
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

/** Tensors of other libraries (ndarray) may lie in another order, which would be read as if they did not. */
function checkOrder(where: string, tensor: TensorLike, shape: readonly number[]): void {
  const { stride, strides = stride, offset = 0 } = tensor as { stride?: unknown; strides?: unknown; offset?: unknown };
  if (offset !== 0)
    throw mismatch('ERR_SHAPE', where, 'data that begins with the first value', `offset ${show(offset)}`);
  if (!Array.isArray(strides)) return;
  let step = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && strides[axis] !== step)
      throw mismatch(
        'ERR_SHAPE',
        where,
        'values in the order of the axes, the last one fastest',
        `strides ${show(strides)}`,
      );
    step *= shape[axis]!;
  }
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
    case 'Float16Array':
      return 'f16';
    case 'Uint16Array':
      throw mismatch('ERR_DTYPE', where, "dtype 'f16' or 'bf16' with a Uint16Array", 'none');
    case 'Uint8Array':
      throw mismatch('ERR_DTYPE', where, "dtype 'q8_0' or 'q4_0' with a Uint8Array", 'none');
    default:
      throw mismatch('ERR_DTYPE', where, 'data as Float32Array, Int32Array, Uint16Array or Uint8Array', show(data));
  }
}

function isHalf(dtype: DType): dtype is 'f16' | 'bf16' {
  return dtype === 'f16' || dtype === 'bf16';
}

/** A Float16Array's bits; any other array itself. */
export function bitsOf(data: TensorLike['data']): Data {
  return tagOf(data) === 'Float16Array'
    ? new Uint16Array(data.buffer as ArrayBuffer, data.byteOffset, data.length)
    : (data as Data);
}

function emptyOf(data: Data): Data {
  switch (tagOf(data)) {
    case 'Float32Array':
      return new Float32Array(0);
    case 'Int32Array':
      return new Int32Array(0);
    case 'Uint16Array':
      return new Uint16Array(0);
    default:
      return new Uint8Array(0);
  }
}

function zerosOf(dtype: DType, bytes: number): Data {
  const buffer = zeroedMemory(bytes);
  return dtype === 'f32'
    ? new Float32Array(buffer)
    : dtype === 'i32'
      ? new Int32Array(buffer)
      : new Uint16Array(buffer);
}

/** The same values in memory of their own, whatever the array's class: a Buffer's slice() would be a view. */
export function copyOf<T extends Data>(data: T): T {
  switch (tagOf(data)) {
    case 'Float32Array':
      return new Float32Array(data) as T;
    case 'Int32Array':
      return new Int32Array(data) as T;
    case 'Uint16Array':
      return new Uint16Array(data) as T;
    default:
      return new Uint8Array(data) as T;
  }
}

const isResizable = (data: Data): boolean => (data.buffer as { resizable?: boolean }).resizable === true;

/** For native code that reads beside JavaScript: a resizable buffer may shrink meanwhile, so its values are copied now. */
export function pinned<T extends Data>(data: T): T {
  return isResizable(data) ? copyOf(data) : data;
}

/** The typed array's own name, true across realms and for subclasses (a Buffer is a Uint8Array). */
export function tagOf(data: unknown): string | undefined {
  return ArrayBuffer.isView(data) && !(data instanceof DataView)
    ? (data as Float32Array)[Symbol.toStringTag]
    : undefined;
}
