// Tensors made of others without moving a byte: other shapes, rows in another order, parts of several tensors.
import { type Change, changed, multiplied, turned } from './pieces.js';
import { pickRows } from './read.js';
import { type StoredTensor, storedBytes, typeBlock } from './stored.js';

type Shape = readonly number[];
const count = (shape: Shape): number => shape.reduce((a, b) => a * b, 1);
const columnsOf = (shape: Shape): number => shape[shape.length - 1] ?? 1;
/** Whether the values lie one after the other. */
const isPlain = (t: StoredTensor): boolean => !t.strides && !t.rows && !t.parts && !t.derived;

export function renamed(t: StoredTensor, name: string): StoredTensor {
  return { ...t, name };
}

/** The same values, in the same order, under another shape. */
export function reshaped(t: StoredTensor, shape: Shape): StoredTensor {
  if (count(shape) !== count(t.shape)) throw new Error(`${t.name}: (${t.shape.join(', ')}) as (${shape.join(', ')})`);
  // Rows and strides count by the axes of the shape that they were made for.
  if (t.strides || (t.rows && columnsOf(shape) !== columnsOf(t.shape))) return computed(t, shape, (values) => values);
  return { ...t, shape };
}

/** Of computed values. */
export function computed(
  t: StoredTensor,
  shape: Shape,
  apply: (values: Float32Array) => Float32Array | Promise<Float32Array>,
): StoredTensor {
  const { name, file, offset, byteLength } = t;
  return { name, dtype: 'f32', shape, file, offset, byteLength, derived: { from: t, apply } };
}

/** Rows times a factor: of all, or of each. Ranges of values must be whole rows. */
export function scaled(t: StoredTensor, by: number | readonly number[]): StoredTensor {
  if (by === 1) return t;
  const columns = t.shape.length > 1 ? columnsOf(t.shape) : 1;
  const change = typeof by === 'number' ? multiplied(by) : rowsMultiplied(by, columns);
  const product = computed(t, t.shape, (values) => changed(values, change));
  const range = (first: number, wanted: number): StoredTensor => {
    const rows = typeof by === 'number' ? by : by.slice(first / columns, (first + wanted) / columns);
    return scaled(valueRange(t, first, wanted), rows);
  };
  return { ...product, derived: { ...product.derived!, range } };
}

const rowsMultiplied =
  (by: readonly number[], columns: number): Change =>
  (values, from, to) => {
    for (let i = from; i < to; i++) values[i] = values[i]! * by[Math.floor(i / columns)]!;
  };

/** Row i is row order[i] of `t`, where a row is one step of all axes but the last. */
export function inRowOrder(t: StoredTensor, order: Int32Array, shape: Shape): StoredTensor {
  const columns = columnsOf(t.shape);
  if (t.rows) return narrowed({ ...t, rows: order.map((row) => t.rows![row]!) }, shape);
  if (isPlain(t)) return isRun(order) ? run(t, order, shape) : narrowed({ ...t, rows: order }, shape);
  return computed(t, shape, (values) => pickRows(values, order, columns));
}

/** Rows from `first` on, as many as `shape` has. */
export function rowRange(t: StoredTensor, first: number, shape: Shape): StoredTensor {
  const rows = count(shape) / columnsOf(t.shape);
  return inRowOrder(
    t,
    Int32Array.from({ length: rows }, (_, i) => first + i),
    shape,
  );
}

/** Values [first, first + count) as a tensor of one axis, or of two where they are whole rows. */
export function valueRange(t: StoredTensor, first: number, wanted: number): StoredTensor {
  if (t.derived?.range) return t.derived.range(first, wanted);
  if (t.parts) return partsRange(t, t.parts, first, wanted);
  const columns = columnsOf(t.shape);
  const block = typeBlock(t.dtype);
  if (first % columns === 0 && wanted % columns === 0) {
    if (isPlain(t) || t.rows) return rowRange(t, first / columns, [wanted / columns, columns]);
  } else if (isPlain(t) && first % block === 0 && wanted % block === 0) {
    const offset = t.offset + storedBytes(t.dtype, first);
    return { ...t, shape: [wanted], offset, byteLength: storedBytes(t.dtype, wanted) };
  }
  return computed(t, [wanted], (values) => values.subarray(first, first + wanted));
}

function partsRange(t: StoredTensor, parts: readonly StoredTensor[], first: number, wanted: number): StoredTensor {
  const found: StoredTensor[] = [];
  let at = 0;
  for (const part of parts) {
    const size = count(part.shape);
    const [begin, end] = [Math.max(first, at), Math.min(first + wanted, at + size)];
    if (begin < end) found.push(end - begin === size ? part : valueRange(part, begin - at, end - begin));
    at += size;
  }
  return joined(t.name, found, [wanted]);
}

/** Rows in an order, and no more of the file than lies between the first and the last of them. */
function narrowed(t: StoredTensor & { rows: Int32Array }, shape: Shape): StoredTensor {
  const { rows } = t;
  if (rows.length === 0) return { ...t, shape };
  const first = rows.reduce((a, b) => Math.min(a, b));
  const last = rows.reduce((a, b) => Math.max(a, b));
  const rowBytes = storedBytes(t.dtype, columnsOf(t.shape));
  const span = { offset: t.offset + first * rowBytes, byteLength: (last - first + 1) * rowBytes };
  return { ...t, ...span, shape, rows: rows.map((row) => row - first) };
}

const isRun = (order: Int32Array): boolean => order.every((row, i) => row === order[0]! + i);

function run(t: StoredTensor, order: Int32Array, shape: Shape): StoredTensor {
  const rowBytes = storedBytes(t.dtype, columnsOf(t.shape));
  return { ...t, shape, offset: t.offset + (order[0] ?? 0) * rowBytes, byteLength: order.length * rowBytes };
}

/** Several tensors, one after the other. */
export function joined(name: string, parts: readonly StoredTensor[], shape: Shape): StoredTensor {
  if (parts.length === 1) return { ...reshaped(parts[0]!, shape), name };
  const { file, offset, dtype } = parts[0]!;
  const byteLength = parts.reduce((n, part) => n + part.byteLength, 0);
  return { name, dtype, shape, file, offset, byteLength, parts };
}

/** The last two axes exchanged. */
export function transposed(t: StoredTensor): StoredTensor {
  const [rows, columns] = t.shape.slice(-2) as [number, number];
  const outer = t.shape.slice(0, -2);
  return computed(t, [...outer, columns, rows], (values) => turned(values, rows, columns));
}
