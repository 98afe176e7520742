/** The result of a scaling run as data: what --json writes. The version changes with the meaning of any field. */
import type { Machine } from '../machine.js';
import {
  type Crossover,
  crossover,
  fitPower,
  fitRobustly,
  type PowerFit,
  quantile,
  type Sample,
} from '../statistics.js';
import type { Check, Contender, Shape } from './preset.js';

export const SCHEMA = 'statespace.bench.scaling';
export const SCHEMA_VERSION = 2;

export interface Measurement {
  length: number;
  contender: string;
  /** Seconds per run over the whole batch. */
  time: Sample;
  /** Seconds of this process' processor time per run, over all its threads. */
  processor: Sample;
  /** Samples during which others took more than a tenth of the machine; the median leaves them out where it can. */
  disturbed: number;
  /** Seconds of the public call, which also finds memory for its result; null where the run is of calls already. */
  call: Sample | null;
  tokensPerSecond: number;
  /** Bytes by formula; see the contender's `counted`. */
  workingBytes: number;
  keptBytes: number;
  /** Growth of the process' resident memory during one run, its output included; null where the system cannot say. */
  peakBytes: number | null;
  /** This median divided by the scan's; null for the scan itself. */
  timesScan: number | null;
}

export interface Skipped {
  length: number;
  contender: string;
  reason: string;
}

export interface Growth {
  contender: string;
  /** Of the lower quartile of processor time, whose growth neighbours hardly change. */
  time: PowerFit | null;
  /** Lengths left out of it, as they lie far from the others' line. */
  outliers: number[];
  workingMemory: PowerFit | null;
  keptMemory: PowerFit | null;
}

export interface ScalingReport {
  schema: typeof SCHEMA;
  schemaVersion: typeof SCHEMA_VERSION;
  created: string;
  command: string;
  machine: Machine;
  preset: string;
  title: string;
  shape: Shape;
  settings: { lengths: number[]; reps: number; budgetSeconds: number };
  contenders: Pick<Contender, 'id' | 'label' | 'family' | 'counted'>[];
  checks: (Check & { length: number })[];
  measurements: Measurement[];
  skipped: Skipped[];
  growth: Growth[];
  /** From which length attention costs more than the scan. */
  crossovers: { attention: string; scan: string; time: Crossover; keptMemory: Crossover }[];
  seconds: number;
}

export function growth(contenders: readonly Contender[], measurements: readonly Measurement[]): Growth[] {
  return contenders.map(({ id }) => {
    const own = measurements.filter((m) => m.contender === id);
    const lengths = own.map((m) => m.length);
    const fit = (value: (m: Measurement) => number) => fitPower(lengths, own.map(value));
    const time = fitRobustly(
      lengths,
      own.map((m) => leastDisturbed(m.processor)),
    );
    return {
      contender: id,
      time: time.fit,
      outliers: time.outliers,
      workingMemory: fit((m) => m.workingBytes),
      keptMemory: fit((m) => m.keptBytes),
    };
  });
}

/** What a computation costs: neighbours on the machine only ever add to it. */
function leastDisturbed({ samples }: Sample): number {
  return quantile(samples, 0.25);
}

export function crossovers(
  contenders: readonly Contender[],
  measurements: readonly Measurement[],
): ScalingReport['crossovers'] {
  const of = (family: Contender['family']) => contenders.filter((contender) => contender.family === family);
  return of('attention').flatMap((attention) =>
    of('scan').flatMap((scan) => {
      if (attention.group !== undefined && attention.group !== scan.group) return [];
      const pairs = measurements
        .filter((m) => m.contender === attention.id)
        .map((m) => ({ a: m, b: measurements.find((n) => n.contender === scan.id && n.length === m.length) }))
        .filter((pair): pair is { a: Measurement; b: Measurement } => pair.b !== undefined);
      if (pairs.length === 0) return [];
      const cross = (value: (m: Measurement) => number) =>
        crossover(
          pairs.map(({ a }) => a.length),
          pairs.map(({ a }) => value(a)),
          pairs.map(({ b }) => value(b)),
        );
      return [
        {
          attention: attention.id,
          scan: scan.id,
          time: cross((m) => m.time.median),
          keptMemory: cross((m) => m.keptBytes),
        },
      ];
    }),
  );
}
