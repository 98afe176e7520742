/** Trains every contender on the tasks, all of them at once, and asks it what it has learnt. */
import { library, type Model } from '../library.js';
import type { Machine } from '../machine.js';
import { type Contender, type Size, sized } from './models.js';
import { NONE, sequences, type Task } from './tasks.js';

export interface RecallSettings extends Size {
  parameters: number;
  steps: number;
  /** Sequences of each task in a step. */
  batch: number;
  learningRate: number;
  seed: number;
  /** Sequences of each task that it is asked afterwards. */
  asked: number;
}

export interface RecallResult {
  name: string;
  label: string;
  parameters: number;
  /** By the names of the tasks: the share of answers that is right. */
  accuracy: Record<string, number>;
  /** Memory of one session after a sequence. */
  stateBytes: number;
  /** Of the last step. */
  loss: number;
  trainingTokensPerSecond: number;
  forwardTokensPerSecond: number;
}

export interface RecallReport {
  command: string;
  created: string;
  machine: Machine;
  settings: RecallSettings;
  tasks: { name: string; label: string; text: string }[];
  results: RecallResult[];
}

/** Of sequences that it is asked: drawn apart from all that it was trained on. */
const ASKED = 0x5eed;

export async function runRecall(
  contenders: readonly Contender[],
  tasks: readonly Task[],
  settings: RecallSettings,
  o: {
    command: string;
    machine: Machine;
    signal: AbortSignal;
    onProgress(fraction: number, note: string): void;
    onResult?(report: RecallReport): void;
  },
): Promise<RecallReport> {
  const report: RecallReport = {
    command: o.command,
    created: new Date().toISOString(),
    machine: o.machine,
    settings,
    tasks: tasks.map(({ name, label, text }) => ({ name, label, text })),
    results: [],
  };
  for (const [i, contender] of contenders.entries()) {
    const note = (done: number, text: string) =>
      o.onProgress((i + done) / contenders.length, `${contender.label}, ${text}`);
    report.results.push(await runOne(contender, tasks, settings, o.signal, note));
    o.onResult?.(report);
  }
  return report;
}

async function runOne(
  contender: Contender,
  tasks: readonly Task[],
  s: RecallSettings,
  signal: AbortSignal,
  note: (done: number, text: string) => void,
): Promise<RecallResult> {
  const lib = library();
  const { config, parameters, name, label } = sized(lib, contender, s, s.parameters);
  await using model = await lib.createModel(config, { seed: s.seed, device: 'cpu' });
  const trainer = lib.createTrainer(model, {
    learningRate: s.learningRate,
    warmupSteps: Math.floor(s.steps / 10),
    totalSteps: s.steps,
    weightDecay: 0.01,
  });
  try {
    let [loss, seconds] = [Number.NaN, 0];
    for (let step = 0; step < s.steps; step++) {
      const batch = sequences(tasks, s.batch, s.length, s.vocabulary, s.seed * 1_000_003 + step);
      const begin = performance.now();
      ({ loss } = await trainer.step(batch, { signal }));
      seconds += (performance.now() - begin) / 1000;
      note(step / s.steps, `step ${step + 1} of ${s.steps}, loss ${loss.toFixed(3)}`);
    }
    await model.setParameters(await trainer.parameters());
    const { accuracy, tokensPerSecond } = await ask(model, tasks, s, signal);
    return {
      ...{ name, label, parameters, accuracy, loss },
      stateBytes: model.sessionBytes(s.length).total,
      trainingTokensPerSecond: (s.steps * s.batch * tasks.length * s.length) / seconds,
      forwardTokensPerSecond: tokensPerSecond,
    };
  } finally {
    await trainer.dispose();
  }
}

/** The share of answers that are the likeliest token, by task. */
async function ask(model: Model, tasks: readonly Task[], s: RecallSettings, signal: AbortSignal) {
  const { ids, labels } = sequences(tasks, s.asked, s.length, s.vocabulary, ASKED + s.seed);
  const [right, all] = [tasks.map(() => 0), tasks.map(() => 0)];
  let seconds = 0;
  for (let r = 0; r < s.asked * tasks.length; r++) {
    const row = r * s.length;
    const session = model.createSession();
    const begin = performance.now();
    const logits = await session.forward(ids.data.subarray(row, row + s.length), { logits: 'all', signal });
    seconds += (performance.now() - begin) / 1000;
    await session.dispose();
    const values = logits.data as Float32Array;
    for (let t = 1; t < s.length; t++) {
      const answer = labels.data[row + t]!;
      if (answer === NONE) continue;
      const before = values.subarray((t - 1) * s.vocabulary, t * s.vocabulary);
      all[r % tasks.length]!++;
      if (before.indexOf(Math.max(...before)) === answer) right[r % tasks.length]!++;
    }
  }
  const accuracy = Object.fromEntries(tasks.map((task, i) => [task.name, right[i]! / Math.max(1, all[i]!)]));
  return { accuracy, tokensPerSecond: (s.asked * tasks.length * s.length) / seconds };
}
