/** What a user's call costs beside what it is made of, as ratios of one run, and the bounds that they keep. */

/** One ratio that is watched. */
export interface CallCase {
  group: string;
  name: string;
  /** What is divided by what. */
  what: string;
  /** Seen must be at most, or at least, so much. */
  bound: { atMost: number } | { atLeast: number };
  measure(): Promise<number>;
}

export interface CallResult {
  group: string;
  name: string;
  what: string;
  seen: number;
  bound: CallCase['bound'];
  kept: boolean;
}

export const keeps = (seen: number, bound: CallCase['bound']): boolean =>
  'atMost' in bound ? seen <= bound.atMost : seen >= bound.atLeast;

// A neighbour on the machine makes a ratio worse for a moment; what the code costs stays.
const ATTEMPTS = 3;

/** Measures the cases one after another; one that misses its bound is measured again, up to three times. */
export async function runCases(
  cases: readonly CallCase[],
  onCase: (done: number, name: string) => void,
  signal: AbortSignal,
): Promise<CallResult[]> {
  const results: CallResult[] = [];
  for (const [i, { group, name, what, bound, measure }] of cases.entries()) {
    let seen = Number.NaN;
    for (let attempt = 0; attempt < ATTEMPTS && !keeps(seen, bound); attempt++) {
      signal.throwIfAborted();
      onCase(i, `${group}: ${name}`);
      const now = await measure();
      const better = 'atMost' in bound ? !(now >= seen) : !(now <= seen);
      if (better) seen = now;
    }
    results.push({ group, name, what, seen, bound, kept: keeps(seen, bound) });
  }
  return results;
}

export async function seconds(run: () => unknown): Promise<number> {
  const start = performance.now();
  await run();
  return (performance.now() - start) / 1000;
}
