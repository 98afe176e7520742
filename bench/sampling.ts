/** Timing of competing computations, one sample of each in turn: a slow minute of the machine hits all alike. */
import { processorTimes } from './machine.js';

// Seconds. A sample shorter than this would measure the clock, the scheduler and who else wants the cores just then:
// short computations run several times in one, so that neighbours slow down all lengths alike.
const SHORTEST_SAMPLE = 0.05;
// Of the machine's processor time during a sample: what others took of it, and its host.
const DISTURBED = 0.1;

export interface Entrant {
  id: string;
  run: () => Promise<unknown>;
  /** Seconds that one run takes, roughly. */
  cost: number;
  reps: number;
}

/** One sample, for one run. */
export interface Timing {
  seconds: number;
  /** Processor time of this process, over all its threads: what others do does not add to it. */
  processorSeconds: number;
  /** Whether others took more than a tenth of the machine meanwhile; false where the system cannot say. */
  disturbed: boolean;
}

/** Samples by id, in the order in which they were taken. */
export async function sampleInTurn(
  entrants: readonly Entrant[],
  signal: AbortSignal,
  onSample: (done: number, of: number, id: string) => void = () => {},
  shortest = SHORTEST_SAMPLE,
): Promise<Map<string, Timing[]>> {
  const samples = new Map(entrants.map(({ id }) => [id, [] as Timing[]]));
  const total = entrants.reduce((sum, entrant) => sum + entrant.reps, 0);
  const rounds = Math.max(0, ...entrants.map((entrant) => entrant.reps));
  let done = 0;
  for (let round = 0; round < rounds; round++) {
    for (const { id, run, cost, reps } of entrants) {
      if (round >= reps) continue;
      onSample(done++, total, id);
      samples.get(id)!.push(await sample(run, Math.max(1, Math.ceil(shortest / Math.max(cost, 1e-7)))));
      await breathe();
      signal.throwIfAborted();
    }
  }
  return samples;
}

async function sample(run: () => Promise<unknown>, times: number): Promise<Timing> {
  const [machine, own] = [processorTimes(), process.cpuUsage()];
  const seconds = await time(run, times);
  const { user, system } = process.cpuUsage(own);
  const used = (user + system) / 1e6;
  const now = processorTimes();
  const others = machine && now ? now.busy - machine.busy - used + (now.stolen - machine.stolen) : 0;
  return {
    seconds: seconds / times,
    processorSeconds: used / times,
    disturbed: machine !== null && others > DISTURBED * seconds * machine.cores,
  };
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
