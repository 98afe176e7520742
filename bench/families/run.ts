/** How near every family's prefill and decode come to what the machine can do, measured in the same run. */
import { promptFlops, stepBytes } from '../../lib/graph/cost.js';
import { seconds } from '../calls/case.js';
import { library, type Model } from '../library.js';
import { type AgainstLimits, type Meter, multiplyAddNow } from '../limits.js';
import { collectGarbage, type Machine } from '../machine.js';
import { Random } from '../random.js';
import { breathe } from '../sampling.js';
import { relativeError } from '../scaling/preset.js';
import { median } from '../statistics.js';
import type { FamilyShape } from './configs.js';

export interface FamiliesSettings {
  /** Tokens of the prompt, steps after it, and how often both. */
  tokens: number;
  steps: number;
  reps: number;
  dtype: 'bf16' | 'f32';
}

export interface FamilyMeasurement {
  name: string;
  like: string;
  parameters: { total: number; active: number };
  /** Median over the tokens of the distance of a prompt's logits from those of single steps. */
  checkError: number;
  prefill: { tokensPerSecond: number; flops: number; machine: number; share: number };
  decode: { tokensPerSecond: number; bytes: number; machine: number; share: number };
}

export interface FamiliesReport {
  schema: 'statespace.bench.families';
  schemaVersion: 1;
  command: string;
  machine: Machine;
  settings: FamiliesSettings;
  bounds: { prefill: number; decode: number };
  families: FamilyMeasurement[];
}

/** Shares of the machine's rates that are asked for. */
export const BOUNDS = { prefill: 0.45, decode: 0.75 };

const CHECKED_TOKENS = 24;
// Rounding to halves moves the choice of experts here and there: half of the tokens must agree, not each of them.
const CHECK_BOUND = { f32: 1e-4, bf16: 2e-2 };
const READ_BUFFER = 2 ** 28;

export async function runFamilies(
  shapes: readonly FamilyShape[],
  settings: FamiliesSettings,
  { command, machine, meter, signal, onProgress }: AgainstLimits,
): Promise<FamiliesReport> {
  const families: FamilyMeasurement[] = [];
  for (const [i, shape] of shapes.entries()) {
    onProgress(i / shapes.length, shape.name);
    signal.throwIfAborted();
    families.push(await measure(shape, settings, meter, signal));
    collectGarbage();
  }
  return {
    schema: 'statespace.bench.families',
    schemaVersion: 1,
    command,
    machine,
    settings,
    bounds: BOUNDS,
    families,
  };
}

async function measure(
  { name, like, config }: FamilyShape,
  { tokens, steps, reps, dtype }: FamiliesSettings,
  meter: Meter,
  signal: AbortSignal,
): Promise<FamilyMeasurement> {
  const model = await library().createModel({ ...config }, { seed: 1, dtype });
  try {
    const random = new Random(5);
    const ids = (count: number) =>
      Int32Array.from({ length: count }, () => Math.floor(random.next(0, model.vocabSize)));
    const checkError = await promptAgainstSteps(model, ids(CHECKED_TOKENS));
    if (!(checkError <= CHECK_BOUND[dtype]))
      throw new Error(`check failed: ${name}: prompt and single steps differ by ${checkError.toExponential(2)}`);
    const prompt = ids(tokens);
    const { graph } = model.blueprint;
    const flops = promptFlops(graph, tokens);
    const bytes = stepBytes(graph, tokens + steps / 2);
    const [prefill, decode] = [new Rated(flops), new Rated(bytes)];
    for (let rep = 0; rep < reps; rep++) {
      await breathe();
      signal.throwIfAborted();
      const session = model.createSession();
      const products = () => productRate(meter, dtype);
      await prefill.sample(products, () => seconds(() => session.forward(prompt, { logits: 'last' })));
      await decode.sample(
        () => median(meter.memoryRates(READ_BUFFER, 3).read.all),
        async () => {
          const times: number[] = [];
          for (const id of ids(steps)) times.push(await seconds(() => session.forward([id])));
          return median(times);
        },
      );
      await session.dispose();
    }
    return {
      name,
      like,
      parameters: { total: model.parameters.total, active: model.parameters.active },
      checkError,
      prefill: { tokensPerSecond: tokens / median(prefill.times), flops, ...prefill.shares() },
      decode: { tokensPerSecond: 1 / median(decode.times), bytes, ...decode.shares() },
    };
  } finally {
    await model.dispose();
  }
}

/** Samples beside the machine's rate just before and after each of them: a slow minute slows down both. */
class Rated {
  readonly times: number[] = [];
  readonly #rates: number[] = [];

  constructor(readonly amount: number) {}

  async sample(rate: () => number, run: () => Promise<number>): Promise<void> {
    const before = rate();
    this.times.push(await run());
    this.#rates.push((before + rate()) / 2);
  }

  shares(): { machine: number; share: number } {
    const shares = this.times.map((time, i) => this.amount / time / this.#rates[i]!);
    return { machine: median(this.#rates), share: median(shares) };
  }
}

/** The rate of products of this type at this moment; where halves have no instruction, that of f32. */
function productRate(meter: Meter, dtype: 'bf16' | 'f32'): number {
  const pairs = dtype === 'bf16' ? meter.computeRates('dotBf16', 'all', 0.01, 3) : [];
  return pairs.length > 0 ? median(pairs) : multiplyAddNow(meter);
}

async function promptAgainstSteps(model: Model, ids: Int32Array): Promise<number> {
  const [one, other] = [model.createSession(), model.createSession()];
  const whole = await one.forward(ids, { logits: 'all' });
  const rows = whole.toFloat32Array();
  const width = rows.length / ids.length;
  const errors: number[] = [];
  for (const [i, id] of ids.entries()) {
    const row = (await other.forward([id])).toFloat32Array();
    errors.push(relativeError(rows.subarray(i * width, (i + 1) * width), row));
  }
  await Promise.all([one.dispose(), other.dispose()]);
  return median(errors);
}
