/**
 * One model at one context length in a process of its own, so that the peak memory is that model's: receives a Job,
 * answers with an Outcome or an error, and ends.
 */
import { type DType, library, type Model, type Session, type TensorLike } from '../library.js';
import { collectGarbage, peakResidentBytes } from '../machine.js';
import { Random } from '../random.js';
import { relativeError } from '../scaling/preset.js';

export interface Job {
  config: Record<string, unknown>;
  /** Float rows of this width instead of tokens. */
  features: number | null;
  context: number;
  decodeTokens: number;
  reps: number;
  dtype: DType;
  threads: number | null;
}

export interface Outcome {
  parameters: { total: number; active: number };
  /** Relative distance of the logits of one forward from those of single steps. */
  checkError: number;
  /** Seconds per prompt, and seconds per token after it, one of each per repetition. */
  prefill: number[];
  decode: number[];
  /** What the session held at the end, by its own account and by formula. */
  sessionBytes: number;
  /** Resident memory of this process: with the model alone, and at its highest. */
  modelBytes: number;
  peakBytes: number;
}

const CHECKED_TOKENS = 24;

async function measure(job: Job): Promise<Outcome> {
  const { createModel, setThreads } = library();
  if (job.threads !== null) setThreads(job.threads);
  const model = await createModel(job.config, { seed: 1, dtype: job.dtype });
  const input = inputs(job);
  const checkError = await prefillAgainstSteps(
    model,
    Array.from({ length: CHECKED_TOKENS }, () => input(1)),
  );
  collectGarbage();
  const modelBytes = process.memoryUsage().rss;

  const prompt = input(job.context);
  const prefill: number[] = [];
  const decode: number[] = [];
  let sessionBytes = 0;
  for (let rep = 0; rep < job.reps; rep++) {
    const session = model.createSession();
    prefill.push(await seconds(() => session.forward(prompt, { logits: 'last' })));
    const steps = await seconds(async () => {
      for (let i = 0; i < job.decodeTokens; i++) await session.forward(input(1), { logits: 'last' });
    });
    decode.push(steps / job.decodeTokens);
    sessionBytes = session.bytes;
    await session.dispose();
  }
  const { parameters } = model;
  await model.dispose();
  return { parameters, checkError, prefill, decode, sessionBytes, modelBytes, peakBytes: peakResidentBytes() };
}

type Input = Int32Array | TensorLike;

/** Random tokens, or float rows, as many as asked for. */
function inputs({ config, features }: Job): (count: number) => Input {
  const random = new Random(5);
  if (features !== null) return (count) => ({ data: random.array(count * features), shape: [count, features] });
  const vocabulary = Number(config.vocab_size);
  return (count) => Int32Array.from({ length: count }, () => Math.floor(random.next(0, vocabulary)));
}

/** One forward of all the steps' inputs against the steps: their logits, or the answer after the last. */
async function prefillAgainstSteps(model: Model, steps: readonly Input[]): Promise<number> {
  const using = async <T>(run: (session: Session) => Promise<T>) => {
    const session = model.createSession();
    try {
      return await run(session);
    } finally {
      await session.dispose();
    }
  };
  const whole = await using(async (session) =>
    (await session.forward(joined(steps), { logits: 'all' })).toFloat32Array(),
  );
  const single = await using(async (session) => {
    const rows: number[] = [];
    for (const step of steps) rows.push(...(await session.forward(step, { logits: 'last' })).toFloat32Array());
    return rows;
  });
  return relativeError(whole, single.slice(-whole.length));
}

function joined(steps: readonly Input[]): Input {
  const first = steps[0]!;
  if (first instanceof Int32Array) return Int32Array.from((steps as Int32Array[]).flatMap((step) => [...step]));
  const data = Float32Array.from((steps as TensorLike[]).flatMap((step) => [...(step.data as Float32Array)]));
  return { data, shape: [steps.length, first.shape[1]!] };
}

async function seconds(run: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await run();
  return (performance.now() - started) / 1000;
}

process.once('message', (job: Job) => {
  measure(job).then(
    (outcome) => process.send!({ outcome }, () => process.exit(0)),
    (error: Error) => process.send!({ error: error.message }, () => process.exit(1)),
  );
});
