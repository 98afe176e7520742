import type { Model } from '../../models/model.js';

/** Tokens of a page of a KV cache. */
const PAGE_TOKENS = 64;

/** Some pages of a KV cache, held by every checkpoint that reads them. */
export interface PageRun<Holder = unknown> {
  readonly end: number;
  readonly bytes: number;
  readonly holders: Set<Holder>;
}

/**
 * What the checkpoints of a model hold, each page once: forks share the pages that both have read, so the bytes of two
 * checkpoints of one sequence are less than the sum.
 */
export class PageLedger<Holder> {
  bytes = 0;
  private readonly stateBytes: number;
  private readonly pageBytes: number;
  /** Tokens that stay readable behind a sliding window; Infinity without one. */
  private readonly window: number;

  constructor(model: Model) {
    this.stateBytes = model.sessionBytes(0).state;
    this.pageBytes = model.sessionBytes(1).kvCache;
    const far = 2 ** 30;
    const most = model.sessionBytes(far).kvCache;
    this.window =
      this.pageBytes && most < (far / PAGE_TOKENS) * this.pageBytes ? (most / this.pageBytes) * PAGE_TOKENS : Infinity;
  }

  /** Bytes of a checkpoint at `position` that shares nothing. */
  whole(position: number): number {
    const first = this.window === Infinity ? 0 : Math.floor(Math.max(0, position - this.window) / PAGE_TOKENS);
    return this.stateBytes + this.pageBytes * (Math.ceil(position / PAGE_TOKENS) - first);
  }

  /** The runs of a checkpoint at `position` whose session went on from `earlier`; it holds them from now on. */
  hold(holder: Holder, position: number, earlier: readonly PageRun<Holder>[]): PageRun<Holder>[] {
    const runs = earlier.filter((run) => run.end > position - this.window);
    const from = runs.at(-1)?.end ?? Math.max(0, position - this.window);
    // The page that was not full when the earlier one was made is copied by whoever writes to it.
    const pages = Math.ceil(position / PAGE_TOKENS) - Math.floor(from / PAGE_TOKENS);
    if (this.pageBytes) runs.push({ end: position, bytes: pages * this.pageBytes, holders: new Set() });
    for (const run of runs) {
      if (run.holders.size === 0) this.bytes += run.bytes;
      run.holders.add(holder);
    }
    this.bytes += this.stateBytes;
    return runs;
  }

  release(holder: Holder, runs: readonly PageRun<Holder>[]): void {
    for (const run of runs) if (run.holders.delete(holder) && run.holders.size === 0) this.bytes -= run.bytes;
    this.bytes -= this.stateBytes;
  }

  /** What releasing these would give back now. */
  own(runs: readonly PageRun<Holder>[]): number {
    return runs.reduce((n, run) => n + (run.holders.size === 1 ? run.bytes : 0), this.stateBytes);
  }
}
