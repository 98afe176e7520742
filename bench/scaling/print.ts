/** A scaling report as text: what was measured, how it grows, where the curves cross. */
import type { createColors } from 'picocolors';
import { chart } from '../chart.js';
import { formatBytes, formatCount, formatSeconds, group, significant } from '../format.js';
import type { Crossover, PowerFit, Sample } from '../statistics.js';
import { rendered, type Table, wrap } from '../table.js';
import type { Measurement, ScalingReport } from './report.js';

type Colours = ReturnType<typeof createColors>;

const WIDTH = 100;

export function printScaling(
  report: ScalingReport,
  { colours, charts }: { colours: Colours; charts: boolean },
): string {
  const { bold, dim } = colours;
  const label = (id: string) => report.contenders.find((contender) => contender.id === id)?.label ?? id;
  const { machine } = report;
  return [
    bold(`Scaling of attention and scan with the number of tokens N, preset ${report.preset}`),
    wrap(report.title, WIDTH),
    dim(
      wrap(
        `statespace ${machine.statespace}${machine.commit ? ` (${machine.commit})` : ''}, ${machine.cpu}, ${machine.isa}, ` +
          `${machine.threads} threads, Node ${machine.node}, ${machine.platform}`,
        WIDTH,
      ),
    ),
    '',
    rendered(measurementTable(report, label)),
    '',
    ...disturbedLines(report),
    dim(notes(report, label)),
    ...skippedLines(report, label),
    '',
    bold('Growth: cost = a · N^b, least squares over the lengths above; b with its 95 % confidence interval'),
    dim(
      wrap(
        'Time: of the lower quartile of processor time over all threads: neighbours on the machine only add to it.',
        WIDTH,
      ),
    ),
    '',
    rendered(growthTable(report, label)),
    '',
    bold('Crossover'),
    ...crossoverLines(report, label),
    ...(charts
      ? [
          '',
          bold('Time of one run over N, both axes logarithmic'),
          '',
          timeChart(report, label, colours.isColorSupported),
        ]
      : []),
  ].join('\n');
}

export function measurementTable(report: ScalingReport, label: (id: string) => string): Table {
  const rows: (string[] | null)[] = [];
  for (const length of report.settings.lengths) {
    const measured = report.measurements.filter((m) => m.length === length);
    const skipped = report.skipped.filter((s) => s.length === length);
    if (rows.length > 0 && measured.length + skipped.length > 0) rows.push(null);
    report.contenders.forEach(({ id }) => {
      const first = report.contenders[0]!.id === id ? group(length) : '';
      const m = measured.find((candidate) => candidate.contender === id);
      if (m) rows.push([first, label(id), ...cells(m)]);
      else if (skipped.some((s) => s.contender === id)) rows.push([first, label(id), 'skipped']);
    });
  }
  return {
    columns: [
      { title: 'N' },
      { title: 'contender', align: 'left' },
      { title: 'median' },
      { title: 'spread' },
      { title: 'call' },
      { title: 'tokens/s' },
      { title: '× scan' },
      { title: 'working' },
      { title: 'kept' },
      { title: 'peak RSS' },
    ],
    rows,
  };
}

function cells(m: Measurement): string[] {
  return [
    formatSeconds(m.time.median),
    formatSpread(m.time),
    m.call === null ? '–' : formatSeconds(m.call.median),
    formatCount(m.tokensPerSecond),
    m.timesScan === null ? '1.00' : significant(m.timesScan),
    formatBytes(m.workingBytes),
    formatBytes(m.keptBytes),
    m.peakBytes === null ? '–' : formatBytes(m.peakBytes),
  ];
}

/** "1.02–1.10 ms" where both ends share a unit. */
export function formatSpread({ samples, spread: { low, high } }: Sample): string {
  if (samples.length === 1) return '1 sample';
  const [lowText, lowUnit] = formatSeconds(low).split(' ');
  const [highText, highUnit] = formatSeconds(high).split(' ');
  return lowUnit === highUnit ? `${lowText}–${highText} ${highUnit}` : `${lowText} ${lowUnit}–${highText} ${highUnit}`;
}

function notes(report: ScalingReport, label: (id: string) => string): string {
  const worst = Math.max(...report.checks.map((check) => check.error));
  const reps = report.measurements.map((m) => m.time.samples.length);
  return [
    wrap(
      `Median of ${samples(reps)} samples, contenders in turn; spread: quartiles from 5 samples on, ` +
        `else smallest to largest. Every contender was checked before it was timed: ${report.checks.length} checks, largest ` +
        `relative error ${worst.toExponential(1)}.`,
      WIDTH,
    ),
    ...(report.measurements.some((m) => m.call)
      ? [
          wrap(
            'Call: the public call, which also finds memory for its result; the median is of the kernel on memory that is kept.',
            WIDTH,
          ),
        ]
      : []),
    'Working (by formula, besides input and output):',
    ...report.contenders.map((c) => wrap(`  ${label(c.id)}: ${c.counted.working}`, WIDTH, '    ')),
    'Kept for the next token (by formula):',
    ...keptLines(report, label),
    wrap(
      'Peak RSS (measured): growth of the resident memory of this process during one run, output included; small values are ' +
        'rounded by the allocator, 0 means that memory of an earlier run was used again.',
      WIDTH,
    ),
  ].join('\n');
}

/** That others worked on this machine meanwhile: the numbers are then no better than what it had to spare. */
function disturbedLines(report: ScalingReport): string[] {
  const of = report.measurements.reduce((sum, m) => sum + m.processor.samples.length, 0);
  const disturbed = report.measurements.reduce((sum, m) => sum + m.disturbed, 0);
  if (disturbed === 0) return [];
  return [
    wrap(
      `DISTURBED: during ${disturbed} of ${of} samples others took more than a tenth of this machine (its host by steal, other ` +
        'processes). They are left out where enough others remain; run it again when the machine is quiet.',
      WIDTH,
    ),
    '',
  ];
}

function samples(counts: readonly number[]): string {
  const [least, most] = [Math.min(...counts), Math.max(...counts)];
  return least === most ? String(least) : `${least} to ${most}`;
}

function keptLines(report: ScalingReport, label: (id: string) => string): string[] {
  const byText = new Map<string, string[]>();
  for (const c of report.contenders) byText.set(c.counted.kept, [...(byText.get(c.counted.kept) ?? []), label(c.id)]);
  return [...byText].map(([text, names]) => wrap(`  ${names.join('; ')}: ${text}`, WIDTH, '    '));
}

function skippedLines(report: ScalingReport, label: (id: string) => string): string[] {
  if (report.skipped.length === 0) return [];
  return [
    '',
    'Skipped:',
    ...report.skipped.map((s) =>
      wrap(`  ${group(s.length)} tokens, ${label(s.contender)}: ${s.reason}`, WIDTH, '    '),
    ),
  ];
}

export function growthTable(report: ScalingReport, label: (id: string) => string): Table {
  return {
    columns: [
      { title: 'contender', align: 'left' },
      { title: 'time' },
      { title: 'working memory' },
      { title: 'kept memory' },
      { title: 'lengths' },
      { title: 'outliers' },
    ],
    rows: report.growth.map((g) => [
      label(g.contender),
      formatFit(g.time),
      formatFit(g.workingMemory),
      formatFit(g.keptMemory),
      String(g.time?.points ?? 0),
      g.outliers.length > 0 ? g.outliers.map(group).join(', ') : 'none',
    ]),
  };
}

export function formatFit(fit: PowerFit | null): string {
  if (fit === null) return '–';
  const number = (value: number) => (Math.abs(value) < 0.005 ? '0.00' : value.toFixed(2));
  if (fit.interval === null) return `N^${number(fit.exponent)} (two points)`;
  const { low, high } = fit.interval;
  const exact = high - low < 1e-9;
  return exact ? `N^${number(fit.exponent)} (exact)` : `N^${number(fit.exponent)} (${number(low)} … ${number(high)})`;
}

export function crossoverLine(attention: string, scan: string, at: Crossover): string {
  if (at.kind === 'none') {
    const relation = { costlier: 'takes longer than', cheaper: 'takes less time than', equal: 'takes as long as' };
    return `${attention} ${relation[at.always]} ${scan} at every measured length, with no crossing in sight.`;
  }
  const from = `${attention} takes longer than ${scan} from about ${about(at.length)} tokens on`;
  if (at.kind === 'measured') return `${from} (measured between ${at.between.map(group).join(' and ')}).`;
  const side = at.length < at.beyond ? 'shortest' : 'longest';
  return `${from}: extrapolated, not measured (the ${side} length is ${group(at.beyond)}).`;
}

/** Two significant digits: interpolation between doublings gives no more. */
export function about(length: number): string {
  return group(Number(Math.max(1, length).toPrecision(2)));
}

function crossoverLines(report: ScalingReport, label: (id: string) => string): string[] {
  const lines = report.crossovers.map((c) => crossoverLine(label(c.attention), label(c.scan), c.time));
  const kept = report.crossovers[0]?.keptMemory;
  if (kept !== undefined && kept.kind !== 'none') {
    // Both are formulas: what continues them is as exact as they are.
    lines.push(`The KV cache outgrows the scan's state at ${group(Math.ceil(kept.length))} tokens (by formula).`);
  }
  return lines.map((line) => wrap(`  ${line}`, WIDTH, '    '));
}

function timeChart(report: ScalingReport, label: (id: string) => string, colour: boolean): string {
  const series = report.contenders.map(({ id }) => ({
    name: label(id),
    points: report.measurements
      .filter((m) => m.contender === id)
      .map((m) => ({ length: m.length, value: m.time.median })),
  }));
  return chart(series, { format: formatSeconds, colour });
}
