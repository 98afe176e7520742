import { StatespaceError } from '../errors.js';

/** Ends native work early: the caller's AbortSignal, or dispose(). The addon reads `flag` between ops. */
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
    const abort = () => Atomics.store(this.flag, 0, 1);
    this.signal?.addEventListener('abort', abort, { once: true });
    try {
      return await work();
    } catch (error) {
      if ((error as { code?: string }).code === ('ERR_ABORTED' as string)) {
        this.signal?.throwIfAborted();
        if (this.disposed) throw new StatespaceError('ERR_DISPOSED', 'model: it was disposed of during this call');
      }
      throw error;
    } finally {
      this.signal?.removeEventListener('abort', abort);
    }
  }
}
