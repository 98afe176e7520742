/** Milliseconds for which long work keeps the event loop. */
const TURN = 4;

/** Long work in JavaScript, step by step: gives the event loop its turn where it was kept too long, and hears an abort. */
export class Turns {
  private since = performance.now();

  constructor(private readonly signal?: AbortSignal) {}

  /** Between two steps: `const pause = turns.due(); if (pause) await pause;`. */
  due(): Promise<void> | undefined {
    return performance.now() - this.since < TURN ? undefined : this.pause();
  }

  private async pause(): Promise<void> {
    this.signal?.throwIfAborted();
    await new Promise((resume) => setImmediate(resume));
    this.signal?.throwIfAborted();
    this.since = performance.now();
  }
}
