import { AsyncResource } from 'node:async_hooks';
import { mismatch, StatespaceError, show } from './errors.js';

/** ERR_ARGUMENT where a call's options are no object, or what stops and watches it is nothing of the kind. */
export function checkCall(op: string, options: unknown): void {
  if (typeof options !== 'object' || options === null)
    throw mismatch('ERR_ARGUMENT', `${op}: options`, 'an object', show(options));
  const { signal, onProgress } = options as { signal?: unknown; onProgress?: unknown };
  // By its looks: other realms have an AbortSignal of their own.
  if (signal !== undefined && typeof (signal as AbortSignal | null)?.throwIfAborted !== 'function')
    throw mismatch('ERR_ARGUMENT', `${op}: signal`, 'an AbortSignal', show(signal));
  if (onProgress !== undefined && typeof onProgress !== 'function')
    throw mismatch('ERR_ARGUMENT', `${op}: onProgress`, 'a function', show(onProgress));
}

/** A call with the progress callback that watches it. */
export interface Watched<A> {
  /** Aborts as the caller's does, and when the callback fails. */
  readonly signal: AbortSignal | undefined;
  /** Never throws. */
  readonly report: ((done: A) => void) | undefined;
  /** Throws what the callback failed of, in whatever way, or why the caller aborted: the work may be done all the same. */
  check(): void;
  end(): void;
}

/**
 * What a progress callback throws, or a promise of it rejects with, ends the call as an abort does: the call rejects with
 * that error, or, where it is no object, with an Error whose cause it is. After the call there is nobody to tell: a warning.
 */
export function watched<A>(options: {
  signal?: AbortSignal | undefined;
  onProgress?: ((done: A) => unknown) | undefined;
}): Watched<A> {
  const { signal, onProgress } = options;
  if (!onProgress) return { signal, report: undefined, check() {}, end() {} };
  const stop = new AbortController();
  const forget = signal && onAbort(signal, () => stop.abort(signal.reason));
  // Native threads call it, in nobody's context: an AsyncLocalStorage has the caller's.
  const report = AsyncResource.bind(onProgress);
  let failure: { error: unknown } | undefined;
  let ended = false;
  const fail = (thrown: unknown) => {
    const error = thrown instanceof Object ? thrown : new Error(String(thrown), { cause: thrown });
    if (ended) return process.emitWarning(`onProgress: ${String(error)}`, { code: 'STATESPACE_PROGRESS' });
    failure ??= { error };
    stop.abort(failure.error);
  };
  return {
    signal: stop.signal,
    report(done) {
      if (failure) return;
      try {
        const result = report(done) as PromiseLike<unknown> | undefined;
        if (typeof result?.then === 'function') result.then(undefined, fail);
      } catch (thrown) {
        fail(thrown);
      }
    },
    check() {
      if (failure) throw failure.error;
      signal?.throwIfAborted();
    },
    end() {
      ended = true;
      forget?.();
    },
  };
}

/** Ends native work early: the caller's AbortSignal, or dispose(). The addon reads `flag` between ops and pieces. */
export class Cancellation {
  readonly flag = new Int32Array(new SharedArrayBuffer(4));
  private disposed = false;

  constructor(private readonly signal?: AbortSignal) {}

  /** Because what it works on goes away. */
  dispose(): void {
    this.disposed = true;
    Atomics.store(this.flag, 0, 1);
  }

  /** Runs native work; a cancelled one rejects with the signal's reason, or ERR_DISPOSED. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    this.signal?.throwIfAborted();
    const forget = this.signal && onAbort(this.signal, () => Atomics.store(this.flag, 0, 1));
    try {
      return await work();
    } catch (error) {
      if ((error as { code?: string }).code === ('ERR_ABORTED' as string)) {
        this.signal?.throwIfAborted();
        if (this.disposed) throw new StatespaceError('ERR_DISPOSED', 'model: it was disposed of during this call');
      }
      throw error;
    } finally {
      forget?.();
    }
  }
}

/** What is waited for, or the signal's reason as soon as it aborts; the others that wait for the same go on. */
export async function unlessAborted<T>(signal: AbortSignal | undefined, work: Promise<T>): Promise<T> {
  if (!signal) return work;
  if (signal.aborted) work.catch(() => {}); // nobody waits for it
  signal.throwIfAborted();
  let forget: (() => void) | undefined;
  const aborted = new Promise<never>((_, fail) => {
    forget = onAbort(signal, () => fail(signal.reason));
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    forget?.();
  }
}

interface Watch {
  stops: Set<() => void>;
  end(): void;
}
const watches = new WeakMap<AbortSignal, Watch>();

/**
 * Calls `stop` when the signal aborts; returns what forgets it. However many calls share a signal it has one listener:
 * Node warns of a leak from the eleventh on.
 */
export function onAbort(signal: AbortSignal, stop: () => unknown): () => void {
  const watch = watches.get(signal) ?? startWatch(signal);
  const own = () => void stop();
  watch.stops.add(own);
  return () => {
    if (watch.stops.delete(own) && watch.stops.size === 0) watch.end();
  };
}

function startWatch(signal: AbortSignal): Watch {
  const stops = new Set<() => void>();
  const abort = () => {
    for (const stop of stops) stop();
  };
  signal.addEventListener('abort', abort);
  const end = () => {
    signal.removeEventListener('abort', abort);
    watches.delete(signal);
  };
  watches.set(signal, { stops, end });
  return { stops, end };
}
