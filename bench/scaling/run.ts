/**
 * The scaling benchmark: every length is checked, then the contenders are timed in turn, in passes over all lengths and within
 * the budget: a slow minute of the machine slows all lengths, not one of them.
 */
import { formatBytes } from '../format.js';
import { availableMemory, collectGarbage, type Machine, peakGrowth } from '../machine.js';
import { type Entrant, sampleInTurn, type Timing, time } from '../sampling.js';
import { allowance, leastSeconds, planRuns } from '../schedule.js';
import { median, summarise } from '../statistics.js';
import type { Check, Contender, Prepared, Preset } from './preset.js';
import {
  crossovers,
  growth,
  type Measurement,
  SCHEMA,
  SCHEMA_VERSION,
  type ScalingReport,
  type Skipped,
} from './report.js';

export interface ScalingSettings {
  lengths: number[];
  reps: number;
  budgetSeconds: number;
  /** Seconds that a sample lasts at least; default 0.05. */
  sampleSeconds?: number;
  command: string;
  machine: Machine;
  signal: AbortSignal;
  onProgress: (fraction: number, note: string) => void;
}

/** A result was wrong: nothing is printed, because the time of a wrong result means nothing. */
export class CheckFailed extends Error {
  override readonly name = 'CheckFailed';
  constructor(length: number, { name, error, bound }: Check) {
    super(`check failed at ${length} tokens: ${name}: relative error ${error.toExponential(2)}, allowed ${bound}`);
  }
}

// The checked run, before the samples.
const CHECKED_RUN = 1;
// Of the public call, beside the samples of its kernel.
const CALLS = 3;
// Over all lengths. Only the first checks; each makes its inputs again, so that one length lies in memory at a time.
const PASSES = 3;
// Long enough that the cost per token, not the cost per call, predicts what follows.
const PROBE_LENGTH = 1024;
// Of what is free: the rest is for outputs, inputs of the next length and everybody else.
const MEMORY_SHARE = 0.8;

export async function runScaling(preset: Preset, settings: ScalingSettings): Promise<ScalingReport> {
  const { lengths, reps, budgetSeconds, command, machine, signal, onProgress } = settings;
  const started = performance.now();
  const elapsed = () => (performance.now() - started) / 1000;
  const run = new Run(preset, reps, signal, settings.sampleSeconds);

  await run.probe(Math.min(PROBE_LENGTH, lengths[0]!));
  for (const [i, length] of lengths.entries()) {
    const later = lengths.slice(i + 1).map((longer) => run.leastSeconds(longer));
    const seconds = allowance(
      budgetSeconds - elapsed() - run.owedSeconds(),
      later.reduce((sum, s) => sum + s, 0),
    );
    await run.measure(length, seconds, (note) => onProgress(elapsed() / budgetSeconds, note));
    collectGarbage();
  }
  for (let pass = 2; pass <= PASSES; pass++) {
    for (const length of lengths) {
      await run.goOn(length, pass, (note) => onProgress(elapsed() / budgetSeconds, note));
      collectGarbage();
    }
  }
  const { contenders } = preset;
  const measurements = withRatios(run.measurements(), contenders);
  return {
    schema: SCHEMA,
    schemaVersion: SCHEMA_VERSION,
    created: new Date().toISOString(),
    command,
    machine,
    preset: preset.name,
    title: preset.title,
    shape: preset.shape,
    settings: { lengths, reps, budgetSeconds },
    contenders: contenders.map(({ id, label, family, counted }) => ({ id, label, family, counted })),
    checks: run.checks,
    measurements,
    skipped: run.skipped,
    growth: growth(contenders, measurements),
    crossovers: crossovers(contenders, measurements),
    seconds: elapsed(),
  };
}

/** What is known of a contender at a length. */
interface Entry {
  length: number;
  id: string;
  /** Seconds of one run, from the checked one. */
  cost: number;
  /** Samples that later passes take. */
  owed: number;
  peakBytes: number | null;
  samples: Timing[];
  calls: Timing[];
}

class Run {
  readonly #entries: Entry[] = [];
  readonly skipped: Skipped[] = [];
  readonly checks: ScalingReport['checks'] = [];
  /** Seconds of one run at the length where a contender ran last. */
  readonly #known = new Map<string, { length: number; seconds: number }>();

  constructor(
    readonly preset: Preset,
    readonly reps: number,
    readonly signal: AbortSignal,
    readonly sampleSeconds?: number,
  ) {}

  /** A first run of everything at a short length: compiles, fills caches, and tells what longer ones will cost. */
  async probe(length: number): Promise<void> {
    const prepared = this.preset.prepare(length);
    const outputs = new Map<string, Float32Array>();
    for (const { id } of this.preset.contenders) {
      outputs.set(id, await prepared.run[id]!());
      this.#known.set(id, { length, seconds: await time(prepared.run[id]!) });
      this.signal.throwIfAborted();
    }
    this.#judge(length, prepared.check(outputs));
  }

  async measure(length: number, seconds: number, note: (text: string) => void): Promise<void> {
    const started = performance.now();
    const running = this.#select(length, seconds);
    if (running.size === 0) return;
    note(`${length} tokens: checking`);
    const prepared = this.preset.prepare(length);
    const outputs = new Map<string, Float32Array>();
    const peaks = new Map<string, number | null>();
    for (const { id } of this.preset.contenders.filter((contender) => running.has(contender.id))) {
      const before = performance.now();
      peaks.set(id, await peakGrowth(async () => outputs.set(id, await prepared.run[id]!())));
      this.#known.set(id, { length, seconds: (performance.now() - before) / 1000 });
      this.signal.throwIfAborted();
    }
    this.#judge(length, prepared.check(outputs));
    outputs.clear();
    collectGarbage();

    // What the checked run really took decides how many samples fit into what it left.
    const costs = new Map([...running].map((id) => [id, this.#known.get(id)!.seconds]));
    const left = seconds - (performance.now() - started) / 1000;
    const plans = planRuns(costs, { wanted: this.reps, seconds: left });
    for (const id of running) {
      const { reps, reason } = plans.get(id)!;
      if (reps === 0) this.skipped.push({ length, contender: id, reason });
      else
        this.#entries.push({
          length,
          id,
          cost: costs.get(id)!,
          owed: reps,
          peakBytes: peaks.get(id) ?? null,
          samples: [],
          calls: [],
        });
    }
    await this.#sample(length, prepared, 1, note);
    for (const { id, samples } of this.#at(length))
      this.#known.set(id, { length, seconds: median(undisturbed(samples)) });
  }

  /** A later pass over a length, where samples are owed. */
  async goOn(length: number, pass: number, note: (text: string) => void): Promise<void> {
    if (this.#at(length).some(({ owed }) => owed > 0))
      await this.#sample(length, this.preset.prepare(length), pass, note);
  }

  /** Of the samples that later passes take. */
  owedSeconds(): number {
    return this.#entries.reduce((sum, { cost, owed }) => sum + owed * cost, 0);
  }

  measurements(): Measurement[] {
    return this.#entries.map((entry) => this.#measured(entry));
  }

  #at(length: number): Entry[] {
    return this.#entries.filter((entry) => entry.length === length);
  }

  /** This pass's share of what is owed, contenders in turn. */
  async #sample(length: number, prepared: Prepared, pass: number, note: (text: string) => void): Promise<void> {
    const entries = this.#at(length);
    const entrants: Entrant[] = entries.flatMap(({ id, cost, owed }) =>
      owed > 0 ? [{ id, run: prepared.run[id]!, cost, reps: Math.ceil(owed / (PASSES + 1 - pass)) }] : [],
    );
    const calls: Entrant[] = entrants.flatMap(({ id, cost }) => {
      const call = prepared.call?.[id];
      return call ? [{ id, run: call, cost, reps: Math.ceil(CALLS / PASSES) }] : [];
    });
    const place = `${length} tokens, pass ${pass} of ${PASSES}`;
    const samples = await sampleInTurn(
      entrants,
      this.signal,
      (done, of, id) => note(`${place}: sample ${done + 1} of ${of}, ${this.#contender(id).label}`),
      this.sampleSeconds,
    );
    const called = await sampleInTurn(calls, this.signal, undefined, this.sampleSeconds);
    for (const entry of entries) {
      const taken = samples.get(entry.id) ?? [];
      entry.samples.push(...taken);
      entry.calls.push(...(called.get(entry.id) ?? []));
      entry.owed -= taken.length;
    }
  }

  /** Of the checked run and the least samples of every contender, by prediction. */
  leastSeconds(length: number): number {
    const costs = this.preset.contenders.map(({ id, order }) => this.#predict(id, order, length));
    return leastSeconds(costs, this.reps, CHECKED_RUN);
  }

  #predict(id: string, order: number, length: number): number {
    const known = this.#known.get(id)!;
    return known.seconds * (length / known.length) ** order;
  }

  /** Those for which memory and time suffice by prediction; the others are written down with the reason. */
  #select(length: number, seconds: number): Set<string> {
    const costs = new Map<string, number>();
    for (const { id, order, needs } of this.preset.contenders) {
      const bytes = needs?.(length) ?? 0;
      const free = availableMemory() * MEMORY_SHARE;
      if (bytes > free) {
        const reason = `memory: needs ${formatBytes(bytes)} at once, ${formatBytes(Math.round(free))} may be used`;
        this.skipped.push({ length, contender: id, reason });
        continue;
      }
      costs.set(id, this.#predict(id, order, length));
    }
    const plans = planRuns(costs, { wanted: this.reps, seconds, besides: CHECKED_RUN });
    for (const [id, { reps, reason }] of plans) {
      if (reps === 0) this.skipped.push({ length, contender: id, reason });
    }
    return new Set([...costs.keys()].filter((id) => plans.get(id)!.reps > 0));
  }

  #judge(length: number, checks: readonly Check[]): void {
    for (const check of checks) {
      if (!(check.error <= check.bound)) throw new CheckFailed(length, check);
      this.checks.push({ ...check, length });
    }
  }

  #measured({ length, id, samples, calls, peakBytes }: Entry): Measurement {
    const summary = summarise(undisturbed(samples));
    const { working, kept } = this.#contender(id).memory(length);
    return {
      length,
      contender: id,
      time: summary,
      processor: summarise(samples.map((s) => s.processorSeconds)),
      disturbed: samples.filter((s) => s.disturbed).length,
      call: calls.length > 0 ? summarise(undisturbed(calls)) : null,
      tokensPerSecond: (this.preset.shape.batch * length) / summary.median,
      workingBytes: working,
      keptBytes: kept,
      peakBytes,
      timesScan: null,
    };
  }

  #contender(id: string): Contender {
    return this.preset.contenders.find((contender) => contender.id === id)!;
  }
}

/** Seconds of the samples that nobody disturbed, where that is enough of them to say something; else of all. */
function undisturbed(samples: readonly Timing[]): number[] {
  const quiet = samples.filter((s) => !s.disturbed);
  return (quiet.length >= Math.min(3, samples.length) ? quiet : samples).map((s) => s.seconds);
}

function withRatios(measurements: readonly Measurement[], contenders: readonly Contender[]): Measurement[] {
  const scan = contenders.find((contender) => contender.family === 'scan')?.id;
  return measurements.map((m) => {
    const own = measurements.find((other) => other.contender === scan && other.length === m.length);
    const timesScan = own === undefined || m.contender === scan ? null : m.time.median / own.time.median;
    return { ...m, timesScan };
  });
}
