/** The kernel benchmark: the machine's limits, then every case checked and timed. */

import { type AgainstLimits, type Limits, measureLimits, multiplyAddNow } from '../limits.js';
import { collectGarbage } from '../machine.js';
import { breathe } from '../sampling.js';
import { median, summarise } from '../statistics.js';
import { measureGradient } from './gradient.js';
import type { KernelCase } from './kernel.js';
import { formatVariant } from './parse.js';
import { runPlan } from './plans.js';
import { type KernelMeasurement, type KernelReport, limitOf, SCHEMA, SCHEMA_VERSION } from './report.js';

export interface KernelSettings extends AgainstLimits {
  reps: number;
}

/** A result was wrong: nothing is printed, because the time of a wrong result means nothing. */
export class WrongResult extends Error {
  override readonly name = 'WrongResult';
}

// A sample shorter than this would measure the clock and the scheduler.
const SHORTEST_SAMPLE = 0.01;
const CALLS = 5;
// A loop's results lie in memory of dropped ones once so many bytes have been made: the collector looks at 32 MB.
const UNTIL_RECYCLED = 2 ** 26;
const MOST_UNTIMED = 40;

export async function runKernels(cases: readonly KernelCase[], settings: KernelSettings): Promise<KernelReport> {
  const { reps, command, machine, meter, signal, onProgress } = settings;
  const started = performance.now();
  onProgress(0, "the machine's limits");
  const limits = measureLimits(meter);
  const measurements: KernelMeasurement[] = [];
  for (const [i, one] of cases.entries()) {
    onProgress((i + 1) / (cases.length + 1), formatVariant(one.kernel, one.variant));
    await breathe();
    signal.throwIfAborted();
    measurements.push(await measure(one, limits, settings));
    collectGarbage();
  }
  const used = new Set(cases.map(({ kernel }) => kernel));
  return {
    schema: SCHEMA,
    schemaVersion: SCHEMA_VERSION,
    created: new Date().toISOString(),
    command,
    machine,
    limits,
    settings: { reps },
    kernels: [...used].map(({ name, title, unit }) => ({ name, title, unit })),
    measurements,
    seconds: (performance.now() - started) / 1000,
  };
}

async function measure(
  { kernel, variant }: KernelCase,
  limits: Limits,
  { reps, meter, signal }: KernelSettings,
): Promise<KernelMeasurement> {
  const prepared = kernel.prepare(variant);
  const { plan, work, check, bound } = prepared;
  const call = plan();
  runPlan(call);
  const error = check(call.result.y.data as Float32Array);
  if (!(error <= bound)) {
    throw new WrongResult(
      `check failed: ${formatVariant(kernel, variant)}: relative error ${error.toExponential(2)}, allowed ${bound}`,
    );
  }
  const once = seconds(() => runPlan(call));
  const times = Math.max(1, Math.ceil(SHORTEST_SAMPLE / Math.max(once, 1e-7)));
  const [samples, rates, calls]: [number[], number[], number[]] = [[], [], []];
  for (let i = 0; i < reps; i++) {
    samples.push(seconds(() => runPlan(call), times));
    rates.push(multiplyAddNow(meter));
    await breathe();
    signal.throwIfAborted();
  }
  const untimed = Math.min(MOST_UNTIMED, Math.ceil(UNTIL_RECYCLED / bytesIn(call.result)));
  for (let i = 0; i < untimed; i++) runPlan(plan());
  for (let i = 0; i < CALLS; i++) {
    calls.push(seconds(() => runPlan(plan()), Math.min(times, 10)));
    await breathe();
  }
  const time = summarise(samples);
  const multiplyAdd = median(rates);
  const gradient =
    kernel.gradient && variant.dtype === 'f32'
      ? await measureGradient(kernel.gradient, prepared, reps, (run) => seconds(run, Math.ceil(times / 4)))
      : undefined;
  if (gradient && !(gradient.check.error <= gradient.check.bound)) {
    throw new WrongResult(
      `check failed: the gradient of ${formatVariant(kernel, variant)}: error ${gradient.check.error.toExponential(2)}, ` +
        `allowed ${gradient.check.bound}`,
    );
  }
  const limit = limitOf(work, variant.dtype, limits, multiplyAdd);
  return {
    kernel: kernel.name,
    ...variant,
    work,
    time,
    call: summarise(calls),
    multiplyAdd,
    limit,
    ofLimit: limit.seconds / time.median,
    check: { error, bound },
    ...(gradient && { gradient }),
  };
}

function bytesIn(result: object): number {
  return Object.values(result as Record<string, { data?: ArrayBufferView }>).reduce(
    (sum, tensor) => sum + (tensor?.data?.byteLength ?? 0),
    1,
  );
}

function seconds(run: () => unknown, times = 1): number {
  const started = performance.now();
  for (let i = 0; i < times; i++) run();
  return (performance.now() - started) / 1000 / times;
}
