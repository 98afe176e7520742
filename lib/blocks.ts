import { Cancellation, watched } from './cancellation.js';
import { byteLength, type StoredType } from './dtype.js';
import { bytesOf, floats, LARGE } from './memory.js';
import { call } from './native.js';

/** Stops the work, and hears how many values are done. */
export interface BlocksOptions {
  signal?: AbortSignal | undefined;
  onProgress?: ((values: number) => void) | undefined;
}

/**
 * Rows (rows, columns) of any stored type as f32, off the event loop, exactly as ggml decodes them. `from` must not
 * change meanwhile. ERR_SHAPE where its length does not fit or columns are no whole blocks.
 */
export async function decodeRows(
  type: StoredType,
  from: Uint8Array,
  rows: number,
  columns: number,
  options: BlocksOptions = {},
): Promise<Float32Array> {
  const to = floats(rows * columns);
  await cancellable(options, (flag, report) =>
    call((n) => n.decodeBlocks(type, from, rows, columns, to, undefined, flag, report)),
  );
  return to;
}

/**
 * f32 rows in a type that can be held (or tq1_0, tq2_0), off the event loop. q8_0, q4_0, q4_1, q5_0, q5_1, mxfp4 and
 * the ternary types are ggml's bytes; the others minimise the squared error, each column's weighted by `importance`
 * (at least 0; default 1).
 */
export async function encodeRows(
  type: StoredType,
  from: Float32Array,
  rows: number,
  columns: number,
  options: BlocksOptions & { importance?: Float32Array } = {},
): Promise<Uint8Array> {
  const to = bytesOf(byteLength(type, rows * columns));
  await cancellable(options, (flag, report) =>
    call((n) => n.encodeBlocks(type, from, rows, columns, to, options.importance, flag, report)),
  );
  return to;
}

/** Values of `from` in memory of their own, off the event loop; in `to` from `at` on, where that is given. */
export async function copied(
  from: Float32Array,
  to: Float32Array = floats(from.length),
  at = 0,
): Promise<Float32Array> {
  if (from.byteLength < LARGE) to.set(from, at);
  else await call((n) => n.convert(from, 'f32', to.subarray(at, at + from.length), 'f32', false));
  return to;
}

async function cancellable(
  options: BlocksOptions,
  start: (flag: Int32Array, report: ((values: number) => void) | undefined) => Promise<void>,
): Promise<void> {
  const watch = watched(options);
  const cancellation = new Cancellation(watch.signal);
  try {
    await cancellation.run(() => start(cancellation.flag, watch.report));
    watch.check();
  } finally {
    watch.end();
  }
}
