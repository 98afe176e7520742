/** Trains every contender on every task, from the start each time, and asks it what it has learnt. */
import { library, type Model } from '../library.js';
import type { Machine } from '../machine.js';
import { type Contender, type Size, sized } from './models.js';
import { NONE, sequences, type Task } from './tasks.js';

export interface RecallSettings extends Size {
  parameters: number;
  steps: number;
  /** Sequences in a step. */
  batch: number;
  learningRate: number;
  seed: number;
  /** Sequences that it is asked afterwards. */
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
  /** By the names of the tasks: of the last step. */
  losses: Record<string, number>;
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
/** Between the first steps of two seeds. */
const SEEDS = 1_000_003;

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
  const { config, parameters, name, label } = sized(library(), contender, s, s.parameters);
  const accuracy: Record<string, number> = {};
  const losses: Record<string, number> = {};
  const spent = { training: 0, forward: 0 };
  let stateBytes = 0;
  for (const [i, task] of tasks.entries()) {
    await using model = await library().createModel(config, { seed: s.seed, device: 'cpu' });
    const told = (done: number, text: string) => note((i + done) / tasks.length, `${task.label}, ${text}`);
    const { loss, seconds } = await train(model, task, s, signal, told);
    const answers = await ask(model, task, s, signal);
    losses[task.name] = loss;
    accuracy[task.name] = answers.accuracy;
    spent.training += seconds;
    spent.forward += answers.seconds;
    stateBytes = model.sessionBytes(s.length).total;
  }
  const tokens = tasks.length * s.length;
  return {
    ...{ name, label, parameters, accuracy, losses, stateBytes },
    trainingTokensPerSecond: (tokens * s.steps * s.batch) / spent.training,
    forwardTokensPerSecond: (tokens * s.asked) / spent.forward,
  };
}

async function train(
  model: Model,
  task: Task,
  s: RecallSettings,
  signal: AbortSignal,
  note: (done: number, text: string) => void,
) {
  await using trainer = library().createTrainer(model, {
    learningRate: s.learningRate,
    warmupSteps: Math.floor(s.steps / 10),
    totalSteps: s.steps,
    weightDecay: 0.01,
  });
  let [loss, seconds] = [Number.NaN, 0];
  for (let step = 0; step < s.steps; step++) {
    const batch = sequences(task, s.batch, s.length, s.vocabulary, s.seed * SEEDS + step);
    const begin = performance.now();
    ({ loss } = await trainer.step(batch, { signal }));
    seconds += (performance.now() - begin) / 1000;
    note(step / s.steps, `step ${step + 1} of ${s.steps}, loss ${loss.toFixed(3)}`);
  }
  await model.setParameters(await trainer.parameters());
  return { loss, seconds };
}

/** The share of answers that are the likeliest token. */
async function ask(model: Model, task: Task, s: RecallSettings, signal: AbortSignal) {
  const { ids, labels } = sequences(task, s.asked, s.length, s.vocabulary, ASKED + s.seed);
  let [right, all, seconds] = [0, 0, 0];
  for (let r = 0; r < s.asked; r++) {
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
      all++;
      if (before.indexOf(Math.max(...before)) === answer) right++;
    }
  }
  return { accuracy: right / Math.max(1, all), seconds };
}
