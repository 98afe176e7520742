import type { Network, StepEntry, StepResult } from './network.js';

interface Waiting {
  entry: StepEntry;
  signal: AbortSignal | undefined;
  resolve(result: StepResult): void;
  reject(error: unknown): void;
}

/**
 * Steps of texts that are generated side by side, each by its own loop, in one call of the network: those that come while
 * a step runs, or before all promises of now are settled, go into the next one together. Weights are then read once for all.
 */
class JointSteps {
  private waiting: Waiting[] = [];
  private running = false;

  constructor(private readonly network: Network) {}

  step(entry: StepEntry, signal: AbortSignal | undefined): Promise<StepResult> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ entry, signal, resolve, reject });
      if (!this.running) void this.run();
    });
  }

  private async run(): Promise<void> {
    this.running = true;
    while (this.waiting.length > 0) {
      await ticked(); // who was answered by the step before is back with the next token
      const batch = this.waiting;
      this.waiting = [];
      const left = batch.filter(({ signal, reject }) => {
        if (signal?.aborted) reject(signal.reason);
        return !signal?.aborted;
      });
      if (left.length > 0) await this.together(left);
    }
    this.running = false;
  }

  /** All in one call; where that fails each by itself, so that one that cannot go on takes no other with it. */
  private async together(batch: readonly Waiting[]): Promise<void> {
    // An abort stops a step of one text; a step of many takes no longer than that of the slowest, and is then thrown away.
    const options = batch.length === 1 ? { signal: batch[0]!.signal } : {};
    try {
      const results = await this.network.step(
        batch.map(({ entry }) => entry),
        options,
      );
      for (const [i, { signal, resolve, reject }] of batch.entries()) {
        if (signal?.aborted) reject(signal.reason);
        else resolve(results[i]!);
      }
    } catch (error) {
      if (batch.length === 1) batch[0]!.reject(error);
      else for (const one of batch) await this.together([one]);
    }
  }
}

/** When all that is settled now has been answered, promises that follow from it included; no turn of the event loop. */
const ticked = (): Promise<void> => new Promise((resolve) => process.nextTick(resolve));

const joint = new WeakMap<Network, JointSteps>();

/** One step of a text that goes on from its last token, together with those of the network's other texts. */
export function jointStep(network: Network, entry: StepEntry, signal: AbortSignal | undefined): Promise<StepResult> {
  let steps = joint.get(network);
  if (!steps) {
    steps = new JointSteps(network);
    joint.set(network, steps);
  }
  return steps.step(entry, signal);
}
