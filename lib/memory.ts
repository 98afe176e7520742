import { constants } from 'node:buffer';
import { StatespaceError } from './errors.js';
import { call } from './native.js';

/** Bytes from which on an array is worth memory that was used before: V8's own is cleared, and costs twice as much. */
export const LARGE = 1 << 16;

/**
 * Has V8 collect results that were dropped, where its young buffers hold 32 MB (128 in Node 24): it looks only when it
 * allocates one itself. And tells it of memory that waits for the next result.
 * To be called before a call's results are made. One that exists survives, a second time for as long as the heap is not
 * marked whole; and what is dropped and what is made may together be more than V8 lets grow without that (64 MB).
 */
export function collectDropped(): void {
  call((n) => n.collectDropped());
}

/**
 * The same array, small, with its buffer: V8 makes one when native code asks for it, and may collect just then. For arrays of
 * a call, before its results are made.
 */
export function withBuffer<T extends ArrayBufferView>(data: T): T {
  collectDropped();
  void data.buffer;
  return data;
}

/**
 * Bytes of whatever content, for arrays that are written whole: in large pages, used before where there are such. Fresh
 * pages cost a result of 32 MB more than a scan does.
 */
export function memoryOf(bytes: number): ArrayBufferLike {
  const recycled = call((n) => n.outputMemory(bytes));
  if (recycled) return recycled;
  return bytes <= constants.MAX_LENGTH ? Buffer.allocUnsafeSlow(bytes).buffer : new ArrayBuffer(bytes);
}

/** The same for what is made by itself. */
export function largeMemory(bytes: number): ArrayBuffer {
  collectDropped();
  return memoryOf(bytes) as ArrayBuffer;
}

/** Zeros. Memory that was never used is not touched: whoever writes it first waits for its pages. */
export function zeroedMemory(bytes: number): ArrayBuffer {
  if (bytes < LARGE) return new ArrayBuffer(bytes);
  collectDropped();
  return call((n) => n.outputMemory(bytes, true)) ?? new ArrayBuffer(bytes);
}

/** Floats of whatever content. */
export function floats(count: number): Float32Array {
  return 4 * count < LARGE ? new Float32Array(count) : new Float32Array(largeMemory(4 * count));
}

/** Halves of whatever content. */
export function halves(count: number): Uint16Array {
  return 2 * count < LARGE ? new Uint16Array(count) : new Uint16Array(largeMemory(2 * count));
}

/** Bytes of whatever content. */
export function bytesOf(count: number): Uint8Array {
  return count < LARGE ? new Uint8Array(count) : new Uint8Array(largeMemory(count), 0, count);
}

/**
 * Gives the memory of a whole buffer back at once, which leaves it and all that looks into it empty; of a part, or of one that
 * is shared, nothing. Without that it waits for V8, which does not collect while nothing happens.
 */
export function giveBack({ buffer, byteOffset, byteLength }: ArrayBufferView): void {
  if (byteOffset === 0 && byteLength > 0 && byteLength === buffer.byteLength) call((n) => n.detach(buffer));
}

/** What `make` allocates; too much of it is a typed error. */
export function allocated<T>(where: string, make: () => T): T {
  try {
    return make();
  } catch (cause) {
    if ((cause as Error)?.name !== 'RangeError') throw cause;
    throw new StatespaceError('ERR_OUT_OF_MEMORY', `${where}: no memory for its output`, { cause });
  }
}

/** Memory for a result of so many floats that the addon's own could not be handed over: it would be copied, 1 s a GiB. */
export function hugeFloats(count: number): Float32Array | undefined {
  return 4 * count > constants.MAX_LENGTH ? allocated('forward', () => floats(count)) : undefined;
}
