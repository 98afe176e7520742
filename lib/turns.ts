/** Milliseconds for which long work keeps the event loop. */
const TURN = 4;

/** Short work of many callers: together it keeps the event loop no longer either. Others wait, in the order in which they came. */
export class SharedTurns {
  private kept = 0;
  private last: Promise<unknown> | undefined;

  /** At once where there is time left in this turn. */
  run<T>(work: () => T): T | Promise<T> {
    if (!this.last && this.kept < TURN) return this.timed(work);
    const mine = (this.last ?? Promise.resolve()).then(async () => {
      if (this.kept >= TURN) await new Promise((resume) => setImmediate(resume));
      return this.timed(work);
    });
    const last = mine
      .catch(() => {})
      .then(() => {
        if (this.last === last) this.last = undefined;
      });
    this.last = last;
    return mine;
  }

  private timed<T>(work: () => T): T {
    const since = performance.now();
    if (this.kept === 0)
      setImmediate(() => {
        this.kept = 0;
      });
    try {
      return work();
    } finally {
      this.kept += performance.now() - since;
    }
  }
}

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

const RUN = 4096;

/** A sorted copy, as toSorted() makes it: runs of a few thousand, merged two by two. */
export async function sorted<T>(items: readonly T[], compare: (a: T, b: T) => number, turns: Turns): Promise<T[]> {
  let runs: T[][] = [];
  for (let from = 0; from < items.length; from += RUN) {
    runs.push(items.slice(from, from + RUN).sort(compare));
    const pause = turns.due();
    if (pause) await pause;
  }
  while (runs.length > 1) {
    const merged: T[][] = [];
    for (let i = 0; i < runs.length; i += 2) merged.push(await mergedRuns(runs[i]!, runs[i + 1] ?? [], compare, turns));
    runs = merged;
  }
  return runs[0] ?? [];
}

async function mergedRuns<T>(a: T[], b: T[], compare: (a: T, b: T) => number, turns: Turns): Promise<T[]> {
  const merged: T[] = [];
  for (let i = 0, j = 0; i < a.length || j < b.length; ) {
    const isFirst = j === b.length || (i < a.length && compare(a[i]!, b[j]!) <= 0);
    merged.push(isFirst ? a[i++]! : b[j++]!);
    const pause = merged.length % RUN === 0 ? turns.due() : undefined;
    if (pause) await pause;
  }
  return merged;
}
