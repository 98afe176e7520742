/** Timing of competing computations, one sample of each in turn: a slow minute of the machine hits all alike. */

// A sample shorter than this would measure the clock and the scheduler: short computations run several times in one.
const SHORTEST_SAMPLE = 0.01;

export interface Entrant {
  id: string;
  run: () => Promise<unknown>;
  /** Seconds that one run takes, roughly. */
  cost: number;
  reps: number;
}

/** Seconds per run, by id, in the order in which they were taken. */
export async function sampleInTurn(
  entrants: readonly Entrant[],
  signal: AbortSignal,
  onSample: (done: number, of: number, id: string) => void = () => {},
): Promise<Map<string, number[]>> {
  const samples = new Map(entrants.map(({ id }) => [id, [] as number[]]));
  const total = entrants.reduce((sum, entrant) => sum + entrant.reps, 0);
  const rounds = Math.max(0, ...entrants.map((entrant) => entrant.reps));
  let done = 0;
  for (let round = 0; round < rounds; round++) {
    for (const { id, run, cost, reps } of entrants) {
      if (round >= reps) continue;
      onSample(done++, total, id);
      const times = Math.max(1, Math.ceil(SHORTEST_SAMPLE / Math.max(cost, 1e-7)));
      samples.get(id)!.push((await time(run, times)) / times);
      await breathe();
      signal.throwIfAborted();
    }
  }
  return samples;
}

export async function time(run: () => Promise<unknown>, times = 1): Promise<number> {
  const started = performance.now();
  for (let i = 0; i < times; i++) await run();
  return (performance.now() - started) / 1000;
}

/** Lets a pending Ctrl-C in: the event loop stands still inside of synchronous ops. */
export function breathe(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
