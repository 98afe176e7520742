/** The model benchmark: every family at every context length, one child process each, within the budget. */
import { formatBytes } from '../format.js';
import type { DType } from '../library.js';
import { availableMemory, type Machine } from '../machine.js';
import { allowance, leastSeconds, planRuns } from '../schedule.js';
import { summarise } from '../statistics.js';
import type { Job } from './child.js';
import type { Sized } from './families.js';
import { type RunJob, runInChild } from './process.js';
import {
  crossovers,
  growth,
  type ModelMeasurement,
  type ModelReport,
  type ModelSettings,
  SCHEMA,
  SCHEMA_VERSION,
} from './report.js';

/** Prefill = steps, relative L2 of the logits, by the type that matrices are held in. */
const CHECK_BOUND: Partial<Record<DType, number>> = { f32: 1e-4, f16: 1e-2, bf16: 1e-2, q8_0: 1e-2, q4_0: 1e-1 };
// Before anything is known: a short job tells the cost per token.
const PROBE = { context: 64, decodeTokens: 4, reps: 1 };
const MEMORY_SHARE = 0.8;
const BYTES: Partial<Record<DType, number>> = { f32: 4, f16: 2, bf16: 2, q8_0: 34 / 32, q4_0: 18 / 32 };

export interface ModelRun {
  command: string;
  machine: Machine;
  signal: AbortSignal;
  onProgress: (fraction: number, note: string) => void;
  runJob?: RunJob;
}

export async function runModels(
  models: readonly Sized[],
  settings: ModelSettings,
  { command, machine, signal, onProgress, runJob = runInChild }: ModelRun,
): Promise<ModelReport> {
  const started = performance.now();
  const elapsed = () => (performance.now() - started) / 1000;
  const run = new Run(settings, runJob, signal, (note) => onProgress(elapsed() / settings.budgetSeconds, note));
  const fitting = models.filter((model) => run.fits(model));
  for (const model of fitting) await run.probe(model);
  for (const [i, context] of settings.contexts.entries()) {
    const later = settings.contexts.slice(i + 1).map((longer) => run.leastSeconds(fitting, longer));
    const remaining = settings.budgetSeconds - elapsed();
    await run.measureAll(
      fitting,
      context,
      allowance(
        remaining,
        later.reduce((sum, s) => sum + s, 0),
      ),
    );
  }
  const { measurements, skipped, checkErrors } = run;
  return {
    schema: SCHEMA,
    schemaVersion: SCHEMA_VERSION,
    created: new Date().toISOString(),
    command,
    machine,
    settings,
    models: models.map(({ family, layers, parameters }) => ({
      name: family.name,
      label: family.label,
      kind: family.kind,
      layers,
      parameters,
      checkError: checkErrors.get(family.name) ?? null,
    })),
    checkBound: run.checkBound,
    measurements,
    skipped,
    growth: growth(models, measurements),
    crossovers: crossovers(models, measurements),
    seconds: elapsed(),
  };
}

class Run {
  readonly measurements: ModelMeasurement[] = [];
  readonly skipped: ModelReport['skipped'] = [];
  readonly checkErrors = new Map<string, number>();
  readonly checkBound: number;
  /** Seconds of a job's parts where a family ran last; overhead: process, weights, check. */
  readonly #known = new Map<string, { context: number; prefill: number; decode: number; overhead: number }>();

  constructor(
    readonly settings: ModelSettings,
    readonly runJob: RunJob,
    readonly signal: AbortSignal,
    readonly note: (text: string) => void,
  ) {
    this.checkBound = CHECK_BOUND[settings.dtype] ?? 1e-4;
  }

  /** Twice the weights, as they are made and as they are packed, must be free; what is too large is written down. */
  fits({ family, parameters }: Sized): boolean {
    const bytes = 2 * parameters * (BYTES[this.settings.dtype] ?? 4);
    const free = Math.round(availableMemory() * MEMORY_SHARE);
    if (bytes <= free) return true;
    const reason = `memory: needs ${formatBytes(bytes)} while loading, ${formatBytes(free)} may be used`;
    for (const context of this.settings.contexts) this.skipped.push({ family: family.name, context, reason });
    return false;
  }

  async probe(model: Sized): Promise<void> {
    this.note(`${model.family.label}: probing`);
    await this.#run(model, PROBE);
  }

  async measureAll(models: readonly Sized[], context: number, seconds: number): Promise<void> {
    const { reps: wanted, decodeTokens } = this.settings;
    const plans = planRuns(this.#costs(models, context), { wanted, seconds });
    for (const model of models) {
      const { name, label } = model.family;
      const { reps, reason } = plans.get(name)!;
      if (reps === 0) {
        this.skipped.push({ family: name, context, reason });
        continue;
      }
      this.note(`${label}: ${context} tokens, ${reps} ${reps === 1 ? 'run' : 'runs'}`);
      const { outcome, prefill, decode } = await this.#run(model, { context, decodeTokens, reps });
      const { sessionBytes, modelBytes, peakBytes } = outcome;
      this.measurements.push({
        family: name,
        context,
        prefill,
        decode,
        prefillTokensPerSecond: context / prefill.median,
        decodeTokensPerSecond: 1 / decode.median,
        sessionBytes,
        modelBytes,
        peakBytes,
      });
    }
  }

  leastSeconds(models: readonly Sized[], context: number): number {
    return leastSeconds(this.#costs(models, context).values(), this.settings.reps);
  }

  /** Seconds of one repetition with its part of the overhead; prefill grows as the FLOPs of the configuration do. */
  #costs(models: readonly Sized[], context: number): Map<string, number> {
    const { reps, decodeTokens } = this.settings;
    return new Map(
      models.map(({ family, flopsPerToken }) => {
        const last = this.#known.get(family.name)!;
        const flops = (n: number) => n * flopsPerToken(n / 2);
        const prefill = last.prefill * (flops(context) / flops(last.context));
        return [family.name, prefill + last.decode * decodeTokens + last.overhead / reps];
      }),
    );
  }

  async #run({ family, config }: Sized, part: Pick<Job, 'context' | 'decodeTokens' | 'reps'>) {
    const { dtype, threads } = this.settings;
    const started = performance.now();
    const outcome = await this.runJob(
      { config, features: family.features ?? null, dtype, threads, ...part },
      this.signal,
    );
    const took = (performance.now() - started) / 1000;
    this.signal.throwIfAborted();
    const error = outcome.checkError;
    if (!(error <= this.checkBound)) {
      throw new Error(
        `check failed: ${family.label}: prefill and single steps differ by ${error.toExponential(2)}, ` +
          `allowed ${this.checkBound}`,
      );
    }
    this.checkErrors.set(family.name, Math.max(error, this.checkErrors.get(family.name) ?? 0));
    const [prefill, decode] = [summarise(outcome.prefill), summarise(outcome.decode)];
    const timed = part.reps * (prefill.median + decode.median * part.decodeTokens);
    this.#known.set(family.name, {
      context: part.context,
      prefill: prefill.median,
      decode: decode.median,
      overhead: Math.max(0, took - timed),
    });
    return { outcome, prefill, decode };
  }
}
