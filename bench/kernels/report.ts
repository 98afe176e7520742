/** The result of a kernel benchmark as data: what --json writes. The version changes with the meaning of any field. */
import type { DType } from '../library.js';
import type { Limits } from '../limits.js';
import type { Machine } from '../machine.js';
import type { Sample } from '../statistics.js';
import type { GradientMeasurement } from './gradient.js';
import type { Kernel, Sizes, Work } from './kernel.js';

export const SCHEMA = 'statespace.bench.kernels';
export const SCHEMA_VERSION = 1;

export type Bound = 'multiply-adds' | 'bf16 products' | 'scan operations' | 'reads';

export interface KernelMeasurement {
  kernel: string;
  sizes: Sizes;
  dtype: DType;
  work: Work;
  /** Seconds of the kernel alone, on memory that is there. */
  time: Sample;
  /** Seconds of the public call: arguments checked, outputs allocated. */
  call: Sample;
  /** Multiply-adds of all threads, operations a second, right after the samples. */
  multiplyAdd: number;
  /** The least seconds that the machine could take, and what sets them. */
  limit: { by: Bound; seconds: number };
  /** limit.seconds / time.median. */
  ofLimit: number;
  check: { error: number; bound: number };
  /** Of f32 kernels that have one. */
  gradient?: GradientMeasurement;
}

export interface KernelReport {
  schema: typeof SCHEMA;
  schemaVersion: typeof SCHEMA_VERSION;
  created: string;
  command: string;
  machine: Machine;
  limits: Limits;
  settings: { reps: number };
  kernels: Pick<Kernel, 'name' | 'title' | 'unit'>[];
  measurements: KernelMeasurement[];
  seconds: number;
}

/**
 * Vector operations of one update of the selective scan, with the exponential as AVX-512 can have it: dt·A, reduce, six
 * multiply-adds, scale (two), dt·u·B, decay and sum. They share ports with multiply-adds, of which each counts two.
 */
export const SCAN_OPERATIONS = 13;

/** The least time that work can take: its operations at the rate of the moment, or its bytes at that of reads. */
export function limitOf(work: Work, dtype: DType, limits: Limits, multiplyAdd: number): KernelMeasurement['limit'] {
  const halves = dtype !== 'f32' && limits.dotBf16 !== null;
  const compute: KernelMeasurement['limit'] =
    work.updates !== undefined
      ? { by: 'scan operations', seconds: (work.updates * SCAN_OPERATIONS * 2) / multiplyAdd }
      : halves
        ? { by: 'bf16 products', seconds: work.flops / ((limits.dotBf16!.all * multiplyAdd) / limits.multiplyAdd.all) }
        : { by: 'multiply-adds', seconds: work.flops / multiplyAdd };
  const reads: KernelMeasurement['limit'] = { by: 'reads', seconds: work.bytes / limits.read.all };
  return compute.seconds >= reads.seconds ? compute : reads;
}
