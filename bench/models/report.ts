/** The result of a model benchmark as data: what --json writes. The version changes with the meaning of any field. */
import type { DType } from '../library.js';
import type { Machine } from '../machine.js';
import { type Crossover, crossover, fitPower, type PowerFit, type Sample } from '../statistics.js';
import type { Sized } from './families.js';

export const SCHEMA = 'statespace.bench.models';
export const SCHEMA_VERSION = 1;

export interface ModelSettings {
  contexts: number[];
  decodeTokens: number;
  reps: number;
  dtype: DType;
  threads: number | null;
  budgetSeconds: number;
}

export interface ModelMeasurement {
  family: string;
  context: number;
  prefill: Sample; // seconds for the whole prompt
  decode: Sample; // seconds per token after it
  prefillTokensPerSecond: number;
  decodeTokensPerSecond: number;
  sessionBytes: number;
  modelBytes: number;
  peakBytes: number;
}

export interface ModelReport {
  schema: typeof SCHEMA;
  schemaVersion: typeof SCHEMA_VERSION;
  created: string;
  command: string;
  machine: Machine;
  settings: ModelSettings;
  models: {
    name: string;
    label: string;
    kind: string;
    layers: number;
    parameters: number;
    checkError: number | null;
  }[];
  checkBound: number;
  measurements: ModelMeasurement[];
  skipped: { family: string; context: number; reason: string }[];
  growth: { family: string; prefill: PowerFit | null; decode: PowerFit | null; sessionBytes: PowerFit | null }[];
  /** From which context the first model costs more than the other. */
  crossovers: { costlier: string; other: string; prefill: Crossover; decode: Crossover; sessionBytes: Crossover }[];
  seconds: number;
}

export function growth(models: readonly Sized[], measurements: readonly ModelMeasurement[]): ModelReport['growth'] {
  return models.map(({ family: { name } }) => {
    const own = measurements.filter((m) => m.family === name);
    const fit = (value: (m: ModelMeasurement) => number) =>
      fitPower(
        own.map((m) => m.context),
        own.map(value),
      );
    return {
      family: name,
      prefill: fit((m) => m.prefill.median),
      decode: fit((m) => m.decode.median),
      sessionBytes: fit((m) => m.sessionBytes),
    };
  });
}

export function crossovers(
  models: readonly Sized[],
  measurements: readonly ModelMeasurement[],
): ModelReport['crossovers'] {
  const attention = models.find(({ family }) => family.kind === 'attention')?.family.name;
  if (attention === undefined) return [];
  return models
    .filter(({ family }) => family.kind !== 'attention')
    .flatMap(({ family: { name } }) => {
      const pairs = measurements
        .filter((m) => m.family === attention)
        .flatMap((a) =>
          measurements.filter((b) => b.family === name && b.context === a.context).map((b) => ({ a, b })),
        );
      if (pairs.length === 0) return [];
      const cross = (value: (m: ModelMeasurement) => number) =>
        crossover(
          pairs.map(({ a }) => a.context),
          pairs.map(({ a }) => value(a)),
          pairs.map(({ b }) => value(b)),
        );
      return [
        {
          costlier: attention,
          other: name,
          prefill: cross((m) => m.prefill.median),
          decode: cross((m) => m.decode.median),
          sessionBytes: cross((m) => m.sessionBytes),
        },
      ];
    });
}
