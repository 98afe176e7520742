/** What this machine reaches at most, measured in the run that it is compared with. */
import type { limits } from '../lib/limits.js';
import { availableMemory, type Machine } from './machine.js';
import { median } from './statistics.js';

export type Meter = typeof limits;

/** What a benchmark is told that holds what it measures against the machine. */
export interface AgainstLimits {
  command: string;
  machine: Machine;
  meter: Meter;
  signal: AbortSignal;
  onProgress: (fraction: number, note: string) => void;
}

export interface Rates {
  one: number;
  all: number;
}

export interface Limits {
  /** Multiply-adds in registers, f32: operations a second on one thread and on all. */
  multiplyAdd: Rates;
  /** Products of bf16 pairs added in f32; null where the instruction set has none. */
  dotBf16: Rates | null;
  /** Bytes a second through buffers of `bufferBytes`. */
  read: Rates;
  copy: Rates;
  bufferBytes: number;
}

const SAMPLES = 5;
const SECONDS = 0.02;
// Well past the caches, where memory allows: a read of less would partly measure them.
const LARGEST_BUFFER = 2 ** 29;
const SMALLEST_BUFFER = 2 ** 26;

export function measureLimits(meter: Meter): Limits {
  const bufferBytes = Math.max(SMALLEST_BUFFER, Math.min(LARGEST_BUFFER, Math.floor(availableMemory() / 8)));
  const compute = (kind: 'multiplyAdd' | 'dotBf16'): Rates | null => {
    const [one, all] = (['one', 'all'] as const).map((threads) => meter.computeRates(kind, threads, SECONDS, SAMPLES));
    return one!.length === 0 ? null : { one: median(one!), all: median(all!) };
  };
  const { read, copy } = meter.memoryRates(bufferBytes, SAMPLES);
  const medians = ({ one, all }: typeof read): Rates => ({ one: median(one), all: median(all) });
  return {
    multiplyAdd: compute('multiplyAdd')!,
    dotBf16: compute('dotBf16'),
    read: medians(read),
    copy: medians(copy),
    bufferBytes,
  };
}

/** The rate of multiply-adds on all threads at this moment: the clock is another after every kind of load. */
export function multiplyAddNow(meter: Meter): number {
  return meter.computeRates('multiplyAdd', 'all', 0.004, 1)[0]!;
}
