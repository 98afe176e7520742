import { copied, decodeRows } from '../blocks.js';
import { floats } from '../memory.js';
import { InputFile } from './files.js';
import { inPieces } from './pieces.js';
import {
  checkpointError,
  isBlocks,
  isReadable,
  itemBytes,
  type ReadableDType,
  type StoredTensor,
  storedBytes,
  unreadableError,
} from './stored.js';

/** A tensor's values in row-major order as f32, whatever they are stored as. For tensors that fit memory twice. */
export async function readTensorF32(stored: StoredTensor): Promise<Float32Array> {
  const { dtype, shape, strides, offset, byteLength, rows, parts, derived } = stored;
  if (stored.unreadable) throw unreadableError(stored);
  if (derived) return derived.values?.() ?? derived.apply(await readTensorF32(derived.from));
  if (parts) return concatenated(await Promise.all(parts.map(readTensorF32)));
  if (isBlocks(dtype)) {
    const blocks = await InputFile.use(stored.file, (file) => file.read(offset, byteLength, `tensor "${stored.name}"`));
    const columns = shape[shape.length - 1]!;
    const found = byteLength / storedBytes(dtype, columns);
    const values = await decodeRows(dtype, blocks, found, columns);
    return rows ? pickRows(values, rows, columns) : values;
  }
  if (!isReadable(dtype)) {
    throw checkpointError(
      stored.file,
      `tensor ${stored.name}: values of type ${dtype} are not supported; expected one of ${Object.keys(itemBytes).join(', ')}`,
    );
  }
  const values = await InputFile.use(stored.file, async (file) => {
    const what = `tensor "${stored.name}"`;
    return dtype === 'f32'
      ? file.readFloats(offset, byteLength, what)
      : toF32(dtype, await file.read(offset, byteLength, what));
  });
  if (rows) return pickRows(values, rows, shape[shape.length - 1]!);
  return strides === undefined ? values : gather(values, shape, strides);
}

/**
 * 64-bit integers as four words of 16 bits each, lowest first: (…, 4); f32 would round large ones.
 * @public
 */
export async function readWords(stored: StoredTensor): Promise<Float32Array> {
  const { dtype, offset, byteLength, file, name } = stored;
  if (dtype !== 'i64') throw checkpointError(file, `tensor ${name}: expected values of type i64, received ${dtype}`);
  const bytes = await InputFile.use(file, (input) => input.read(offset, byteLength, `tensor "${name}"`));
  const words = floats(byteLength / 2);
  await inPieces(words.length, (from, to) => {
    for (let i = from; i < to; i++) words[i] = bytes.readUInt16LE(2 * i);
  });
  return words;
}

async function concatenated(arrays: readonly Float32Array[]): Promise<Float32Array> {
  const out = floats(arrays.reduce((n, a) => n + a.length, 0));
  let at = 0;
  for (const values of arrays) {
    await copied(values, out, at);
    at += values.length;
  }
  return out;
}

export async function pickRows(values: Float32Array, rows: Int32Array, columns: number): Promise<Float32Array> {
  const out = new Float32Array(rows.length * columns);
  const copy = (from: number, to: number) => {
    for (let i = from; i < to; i++) out.set(values.subarray(rows[i]! * columns, (rows[i]! + 1) * columns), i * columns);
  };
  await inPieces(rows.length, copy, columns);
  return out;
}

/** Floats in native code or as they are: what there are many of must not hold the event loop. */
async function toF32(dtype: Exclude<ReadableDType, 'f32'>, bytes: Buffer): Promise<Float32Array> {
  if (bytes.length === 0) return new Float32Array(0);
  if (dtype === 'f16' || dtype === 'bf16') return decodeRows(dtype, bytes, 1, bytes.length / 2);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const item = itemBytes[dtype];
  const read = reader(dtype, view);
  const values = new Float32Array(bytes.length / item);
  await inPieces(values.length, (from, to) => {
    for (let i = from; i < to; i++) values[i] = read(i * item);
  });
  return values;
}

function reader(dtype: Exclude<ReadableDType, 'f32' | 'f16' | 'bf16'>, view: DataView): (at: number) => number {
  switch (dtype) {
    case 'f64':
      return (at) => view.getFloat64(at, true);
    case 'i64':
      return (at) => Number(view.getBigInt64(at, true));
    case 'i32':
      return (at) => view.getInt32(at, true);
    case 'i16':
      return (at) => view.getInt16(at, true);
    case 'i8':
      return (at) => view.getInt8(at);
    case 'u8':
      return (at) => view.getUint8(at);
    case 'bool':
      return (at) => Number(view.getUint8(at) !== 0);
  }
}

/** The strided values in row-major order. */
async function gather(
  values: Float32Array,
  shape: readonly number[],
  strides: readonly number[],
): Promise<Float32Array> {
  const out = new Float32Array(shape.reduce((product, size) => product * size, 1));
  const index = shape.map(() => 0);
  let at = 0;
  await inPieces(out.length, (first, end) => {
    for (let to = first; to < end; to++) {
      out[to] = values[at]!;
      for (let axis = shape.length - 1; axis >= 0; axis--) {
        at += strides[axis]!;
        if (++index[axis]! < shape[axis]!) break;
        at -= strides[axis]! * shape[axis]!;
        index[axis] = 0;
      }
    }
  });
  return out;
}
