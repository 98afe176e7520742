import { constants } from 'node:buffer';
import { StatespaceError } from './errors.js';
import { call } from './native.js';

/** Bytes from which on an array is worth memory that was used before: V8's own is cleared, and costs twice as much. */
export const LARGE = 1 << 16;

/**
 * Bytes of whatever content, for large arrays that are written whole: in large pages, used before where there are such.
 * Fresh pages cost a result of 32 MB more than a scan does.
 */
export function memoryOf(bytes: number): ArrayBufferLike {
  // V8 looks only when it allocates itself how much its young buffers hold; it then collects the dropped ones. Before this
  // one is made: the two together may be more than it lets grow without marking the whole heap (64 MB).
  void new ArrayBuffer(1);
  const recycled = call((n) => n.outputMemory(bytes));
  if (recycled) return recycled;
  return bytes <= constants.MAX_LENGTH ? Buffer.allocUnsafeSlow(bytes).buffer : new ArrayBuffer(bytes);
}

/** Floats of whatever content. */
export function floats(count: number): Float32Array {
  return 4 * count < LARGE ? new Float32Array(count) : new Float32Array(memoryOf(4 * count) as ArrayBuffer);
}

/** Halves of whatever content. */
export function halves(count: number): Uint16Array {
  return 2 * count < LARGE ? new Uint16Array(count) : new Uint16Array(memoryOf(2 * count) as ArrayBuffer);
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
