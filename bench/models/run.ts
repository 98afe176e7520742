/** The model benchmark: every family at every context length, one child process each, within the budget. */
import { formatBytes } from '../format.js';
import type { DType } from '../library.js';
import { availableMemory, type Machine } from '../machine.js';
import { planRuns, shareOfBudget } from '../schedule.js';
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
const LEAST_REPS = 2;
// Before anything is known: a short probe tells the cost per token.
const PROBE = { context: 64, decodeTokens: 4, reps: 1 };
const MEMORY_SHARE = 0.8;
const BYTES: Partial<Record<DType, number>> = { f32: 4, f16: 2, bf16: 2, q8_0: 34 / 32, q4_0: 18 / 32 };

export async function runModels(
  models: readonly Sized[],
  settings: ModelSettings,
  context: {
    command: string;
    machine: Machine;
    signal: AbortSignal;
    onProgress: (fraction: number, note: string) => void;
    runJob?: RunJob;
  },
): Promise<ModelReport> {
  const { signal, onProgress, runJob = runInChild } = context;
  const started = performance.now();
  const elapsed = () => (performance.now() - started) / 1000;
  const note = (text: string) => onProgress(elapsed() / settings.budgetSeconds, text);
  const checkBound = CHECK_BOUND[settings.dtype] ?? 1e-4;
  const measurements: ModelMeasurement[] = [];
  const skipped: ModelReport['skipped'] = [];
  const checkErrors = new Map<string, number>();
  /** Seconds of one repetition and of everything around it (process, weights, check), by family. */
  const known = new Map<string, { context: number; prefill: number; decode: number; overhead: number }>();

  const measure = async ({ family, config }: Sized, job: Pick<Job, 'context' | 'decodeTokens' | 'reps'>) => {
    const before = elapsed();
    const { dtype, threads } = settings;
    const outcome = await runJob({ config, dtype, threads, ...job }, signal);
    signal.throwIfAborted();
    if (!(outcome.checkError <= checkBound)) {
      throw new Error(
        `check failed: ${family.label}: prefill and single steps differ by ${outcome.checkError.toExponential(2)}, ` +
          `allowed ${checkBound}`,
      );
    }
    checkErrors.set(family.name, Math.max(outcome.checkError, checkErrors.get(family.name) ?? 0));
    const [prefill, decode] = [summarise(outcome.prefill), summarise(outcome.decode)];
    const timed = outcome.prefill.reduce((sum, s) => sum + s, 0) + decode.median * job.decodeTokens * job.reps;
    const overhead = Math.max(0, elapsed() - before - timed);
    known.set(family.name, { context: job.context, prefill: prefill.median, decode: decode.median, overhead });
    return { outcome, prefill, decode };
  };

  for (const model of models) {
    if (!fits(model, settings.dtype)) continue;
    note(`${model.family.label}: probing`);
    await measure(model, PROBE);
  }
  for (const [i, length] of settings.contexts.entries()) {
    const seconds = shareOfBudget(settings.budgetSeconds - elapsed(), settings.contexts.slice(i));
    const costs = new Map<string, number>();
    for (const model of models) {
      const name = model.family.name;
      const last = known.get(name);
      if (last === undefined) {
        skipped.push({ family: name, context: length, reason: `memory: ${needed(model, settings.dtype)}` });
        continue;
      }
      const order = model.family.kind === 'scan' ? 1 : 2;
      const scale = length / last.context;
      // Projections grow with the length, only attention with its square: the last length says little about the mix.
      const prefill = last.prefill * (last.context === PROBE.context ? scale : scale ** order);
      costs.set(name, prefill + last.decode * settings.decodeTokens + last.overhead / settings.reps);
    }
    const least = Math.min(LEAST_REPS, settings.reps);
    const plans = planRuns(costs, { wanted: settings.reps, least, seconds });
    for (const model of models) {
      const plan = plans.get(model.family.name);
      if (plan === undefined) continue;
      if (plan.reps === 0) {
        skipped.push({ family: model.family.name, context: length, reason: plan.reason });
        continue;
      }
      note(`${model.family.label}: ${length} tokens, ${plan.reps} runs`);
      const job = { context: length, decodeTokens: settings.decodeTokens, reps: plan.reps };
      const { outcome, prefill, decode } = await measure(model, job);
      measurements.push({
        family: model.family.name,
        context: length,
        prefill,
        decode,
        prefillTokensPerSecond: length / prefill.median,
        decodeTokensPerSecond: 1 / decode.median,
        sessionBytes: outcome.sessionBytes,
        modelBytes: outcome.modelBytes,
        peakBytes: outcome.peakBytes,
      });
    }
  }
  return {
    schema: SCHEMA,
    schemaVersion: SCHEMA_VERSION,
    created: new Date().toISOString(),
    command: context.command,
    machine: context.machine,
    settings,
    models: models.map(({ family, layers, parameters }) => ({
      name: family.name,
      label: family.label,
      kind: family.kind,
      layers,
      parameters,
      checkError: checkErrors.get(family.name) ?? null,
    })),
    checkBound,
    measurements,
    skipped,
    growth: growth(models, measurements),
    crossovers: crossovers(models, measurements),
    seconds: elapsed(),
  };
}

function weightBytes({ parameters }: Sized, dtype: DType): number {
  return parameters * (BYTES[dtype] ?? 4);
}

// Twice the weights: as they are made and as they are packed.
function fits(model: Sized, dtype: DType): boolean {
  return 2 * weightBytes(model, dtype) <= availableMemory() * MEMORY_SHARE;
}

function needed(model: Sized, dtype: DType): string {
  return `needs ${formatBytes(2 * weightBytes(model, dtype))} while loading, more than may be used`;
}
