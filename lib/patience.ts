const TICK_MS = 100;

/**
 * How long something is waited for, in ticks: what halts this whole process (its scheduler, a debugger, a machine that
 * sleeps) costs one, and is not taken for the silence of who is waited for.
 */
export class Patience {
  private left: number;
  private readonly timer: NodeJS.Timeout;
  /** Resolves when it has been long enough. */
  readonly over: Promise<void>;

  /** Until end(), which is the caller's; from the beginning again where `heard` gives something else. */
  constructor(ms: number, heard: () => unknown = () => undefined) {
    const ticks = Math.ceil(ms / TICK_MS);
    this.left = ticks;
    let last = heard();
    let ended: () => void;
    this.over = new Promise((resolve) => {
      ended = resolve;
    });
    this.timer = setInterval(() => {
      const before = last;
      last = heard();
      this.left = last === before ? this.left - 1 : ticks;
      if (this.left > 0) return;
      this.end();
      ended();
    }, TICK_MS);
  }

  get isOver(): boolean {
    return this.left <= 0;
  }

  /** What comes of `work`; rejects with `late` where that takes too long. */
  for<T>(work: Promise<T>, late = new Error('no answer')): Promise<T> {
    return Promise.race([work, this.over.then(() => Promise.reject(late))]);
  }

  end(): void {
    clearInterval(this.timer);
  }
}
