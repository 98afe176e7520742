/**
 * What tests that a clock would decide do instead. A machine may halt any thread for seconds at any moment: that lengthens
 * whatever is timed and brings about nothing.
 */
import { readFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';

/** Waits, however long it takes, for what must come about: where it never does, the runner ends the test. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await setTimeout(5);
}

/**
 * The least of what is measured in up to `tries` tries, the last being the first below `enough`: a stall delays some of
 * them, and what is slow of itself is slow in all.
 */
export async function least(enough: number, measure: () => number | Promise<number>, tries = 20): Promise<number> {
  let found = Number.POSITIVE_INFINITY;
  for (let i = 0; i < tries && !(found < enough); i++) found = Math.min(found, await measure());
  return found;
}

/** Milliseconds that `work` takes. */
export async function took(work: () => unknown): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

/** Milliseconds of processor time that this process's main thread has had; where the system does not say, all its threads. */
export function processorMs(): number {
  try {
    return Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'latin1').split(' ')[0]) / 1e6;
  } catch {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1000;
  }
}

/** Processor time of the event loop's thread while `work` goes on: all of it, and the most between two turns of others. */
export async function loopTime(work: () => Promise<unknown>): Promise<{ all: number; longest: number }> {
  const started = processorMs();
  let [last, longest] = [started, 0];
  const turn = () => {
    const now = processorMs();
    longest = Math.max(longest, now - last);
    last = now;
  };
  const timer = setInterval(turn, 1);
  try {
    await work();
    turn();
  } finally {
    clearInterval(timer);
  }
  return { all: last - started, longest };
}

/**
 * The first of some results that is as wanted, or the last: for what is right either way where another thread or process is
 * halted for longer than the package waits for it, and wrong if it never is as wanted.
 */
export async function wanted<T>(is: (result: T) => boolean, attempt: () => Promise<T>, tries = 10): Promise<T> {
  let result = await attempt();
  for (let i = 1; i < tries && !is(result); i++) result = await attempt();
  return result;
}
