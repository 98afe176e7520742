/** A kernel report as text. */
import type { createColors } from 'picocolors';
import { formatBytes, formatSeconds, significant } from '../format.js';
import type { Limits, Rates } from '../limits.js';
import { formatSpread } from '../scaling/print.js';
import { rendered, type Table, wrap } from '../table.js';
import { formatSizes } from './parse.js';
import { type KernelMeasurement, type KernelReport, SCAN_OPERATIONS } from './report.js';

type Colours = ReturnType<typeof createColors>;

const WIDTH = 110;

export function printKernels(report: KernelReport, { colours }: { colours: Colours }): string {
  const { bold, dim } = colours;
  const { machine, limits } = report;
  return [
    bold('Kernels against the limits of this machine'),
    dim(
      wrap(
        `statespace ${machine.statespace}${machine.commit ? ` (${machine.commit})` : ''}, ${machine.cpu}, ${machine.isa}, ` +
          `${machine.threads} threads, Node ${machine.node}, ${machine.platform}`,
        WIDTH,
      ),
    ),
    '',
    rendered(limitsTable(limits, machine.threads)),
    '',
    rendered(kernelTable(report)),
    '',
    ...(report.measurements.some((m) => m.gradient) ? [rendered(gradientTable(report)), ''] : []),
    dim(notes(report)),
  ].join('\n');
}

export function limitsTable(limits: Limits, threads: number): Table {
  const row = (name: string, rates: Rates, unit: string) => [
    name,
    `${significant(rates.one / 1e9)} ${unit}`,
    `${significant(rates.all / 1e9)} ${unit}`,
  ];
  return {
    columns: [
      { title: 'limit, measured now', align: 'left' },
      { title: '1 thread' },
      { title: `${threads} ${threads === 1 ? 'thread' : 'threads'}` },
    ],
    rows: [
      row('multiply-adds in registers, f32', limits.multiplyAdd, 'GFLOP/s'),
      ...(limits.dotBf16 ? [row('products of bf16 pairs in registers', limits.dotBf16, 'GFLOP/s')] : []),
      row(`reading ${formatBytes(limits.bufferBytes)}`, limits.read, 'GB/s'),
      row(`copying ${formatBytes(limits.bufferBytes)} (bytes copied)`, limits.copy, 'GB/s'),
    ],
  };
}

const UNITS = { flops: 'GFLOP/s', bytes: 'GB/s', updates: 'G updates/s' } as const;

/** The unit in which a measurement is told: of what limits it, where that is reads. */
function told(report: KernelReport, m: KernelMeasurement): { amount: number; unit: string } {
  const own = report.kernels.find((kernel) => kernel.name === m.kernel)!.unit;
  const unit = m.limit.by === 'reads' ? 'bytes' : own === 'bytes' ? 'flops' : own;
  return { amount: m.work[unit]!, unit: UNITS[unit] };
}

export function kernelTable(report: KernelReport): Table {
  const rows: (string[] | null)[] = [];
  for (const { name } of report.kernels) {
    if (rows.length > 0) rows.push(null);
    report.measurements
      .filter((m) => m.kernel === name)
      .forEach((m, i) => {
        const { amount, unit } = told(report, m);
        rows.push([
          i === 0 ? name : '',
          formatSizes(m),
          formatSeconds(m.time.median),
          formatSpread(m.time),
          `${significant(amount / m.time.median / 1e9)} ${unit}`,
          significant(amount / m.limit.seconds / 1e9),
          m.limit.by,
          `${Math.round(m.ofLimit * 100)} %`,
          formatSeconds(m.call.median),
          m.check.error.toExponential(1),
        ]);
      });
  }
  return {
    columns: [
      { title: 'kernel', align: 'left' },
      { title: 'shape', align: 'left' },
      { title: 'median' },
      { title: 'spread' },
      { title: 'speed' },
      { title: 'limit' },
      { title: 'set by', align: 'left' },
      { title: 'of it' },
      { title: 'public call' },
      { title: 'error' },
    ],
    rows,
  };
}

/** Gradients beside their forwards. */
export function gradientTable(report: KernelReport): Table {
  return {
    columns: [
      { title: 'gradient of', align: 'left' },
      { title: 'shape', align: 'left' },
      { title: 'median' },
      { title: 'spread' },
      { title: 'of forward' },
      { title: 'limit' },
      { title: 'error' },
    ],
    rows: report.measurements.flatMap((m) =>
      m.gradient
        ? [
            [
              m.kernel,
              formatSizes(m),
              formatSeconds(m.gradient.time.median),
              formatSpread(m.gradient.time),
              significant(m.gradient.ratio),
              String(m.gradient.limit),
              m.gradient.check.error.toExponential(1),
            ],
          ]
        : [],
    ),
  };
}

function notes(report: KernelReport): string {
  return [
    wrap(
      `Median of ${report.settings.reps} samples of the kernel alone, on memory that is there; spread: quartiles from 5 ` +
        'samples on. The public call also checks its arguments and allocates its outputs, in a loop that drops them; its ' +
        'first calls, in memory that no result had before, take longer. Every result was compared with its definition in ' +
        'double precision (sampled) before it was timed; error: relative L2.',
      WIDTH,
    ),
    wrap(
      'Limit: the operations of the definition at the rate of multiply-adds measured right after each sample, or the bytes ' +
        'of inputs and outputs at the rate of reads, whichever takes longer. Data that stays in caches between samples can ' +
        `pass a limit set by reads, and a chunked form may need fewer operations than its definition. Scan operations: ${SCAN_OPERATIONS} vector operations an update, one multiply-add's time each.`,
      WIDTH,
    ),
    wrap(
      "A gradient is of all the op's arguments, its time divided by the forward's, sampled in turns. Error: its slope along a " +
        'random direction of one argument against a difference of two forwards.',
      WIDTH,
    ),
    ...report.kernels.map(({ name, title }) => wrap(`  ${name}: ${title}`, WIDTH, '    ')),
  ].join('\n');
}
