/**
 * What tests that a clock would decide do instead. A machine may halt any thread for seconds at any moment: that lengthens
 * whatever is timed and brings about nothing.
 */
import { setTimeout } from 'node:timers/promises';

/** Waits, however long it takes, for what must come about: where it never does, the runner ends the test. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await setTimeout(5);
}
