/** A model report as text. */
import type { createColors } from 'picocolors';
import { formatBytes, formatCount, formatSeconds, group, significant } from '../format.js';
import type { Machine } from '../machine.js';
import { about, formatFit, formatSpread } from '../scaling/print.js';
import type { Crossover } from '../statistics.js';
import { rendered, renderTable, type Table, wrap } from '../table.js';
import type { ModelReport } from './report.js';

const WIDTH = 100;

export function printModels(report: ModelReport, { bold, dim }: ReturnType<typeof createColors>): string {
  const label = (name: string) => report.models.find((model) => model.name === name)?.label ?? name;
  const { settings } = report;
  const errors = report.models.map((model) => model.checkError ?? 0);
  return [
    bold(`Models of about ${formatCount(report.models[0]!.parameters)} parameters over context length N`),
    dim(wrap(describe(report.machine, settings.dtype), WIDTH)),
    '',
    renderTable(
      [{ title: 'model', align: 'left' }, { title: 'layers' }, { title: 'parameters' }],
      report.models.map((model) => [model.label, String(model.layers), group(model.parameters)]),
    ),
    '',
    rendered(measurementTable(report, label)),
    '',
    dim(
      wrap(
        `Random weights; one sequence. Prefill: one forward of N random tokens into a new session, logits of the last. ` +
          `Decode: mean of ${settings.decodeTokens} tokens one by one after those N. Medians of up to ${settings.reps} runs; ` +
          `spread as in prefill. Session: what must be kept to go on. Peak: highest resident memory of a process that does ` +
          `nothing else; above model: without weights and runtime. Checked first: one forward = single steps, relative error ` +
          `up to ${Math.max(...errors).toExponential(1)} (allowed ${report.checkBound}).`,
        WIDTH,
      ),
    ),
    ...skippedLines(report, label),
    '',
    bold('Growth: cost = a · N^b; b with its 95 % confidence interval'),
    '',
    renderTable(
      [
        { title: 'model', align: 'left' },
        { title: 'prefill time' },
        { title: 'decode time per token' },
        { title: 'session bytes' },
      ],
      report.growth.map((g) => [label(g.family), formatFit(g.prefill), formatFit(g.decode), formatFit(g.sessionBytes)]),
    ),
    ...crossoverTables(report, label, bold),
  ].join('\n');
}

export function describe(machine: Machine, dtype: string): string {
  return (
    `statespace ${machine.statespace}${machine.commit ? ` (${machine.commit})` : ''}, ${machine.cpu}, ${machine.isa}, ` +
    `${machine.threads} threads, matrices in ${dtype}, Node ${machine.node}, ${machine.platform}`
  );
}

export function measurementTable(report: ModelReport, label: (name: string) => string): Table {
  const rows: (string[] | null)[] = [];
  for (const context of report.settings.contexts) {
    if (rows.length > 0) rows.push(null);
    report.models.forEach(({ name }, i) => {
      const first = i === 0 ? group(context) : '';
      const m = report.measurements.find((found) => found.family === name && found.context === context);
      rows.push(
        m === undefined
          ? [first, label(name), 'skipped']
          : [
              first,
              label(name),
              significant(m.prefillTokensPerSecond),
              formatSeconds(m.prefill.median),
              formatSpread(m.prefill),
              significant(m.decodeTokensPerSecond),
              formatBytes(m.sessionBytes),
              formatBytes(m.peakBytes),
              formatBytes(Math.max(0, m.peakBytes - m.modelBytes)),
            ],
      );
    });
  }
  return {
    columns: [
      { title: 'N' },
      { title: 'model', align: 'left' },
      { title: 'prefill tok/s' },
      { title: 'prefill' },
      { title: 'spread' },
      { title: 'decode tok/s' },
      { title: 'session' },
      { title: 'peak' },
      { title: 'above model' },
    ],
    rows,
  };
}

function skippedLines(report: ModelReport, label: (name: string) => string): string[] {
  if (report.skipped.length === 0) return [];
  const lines = report.skipped.map((s) => `  ${group(s.context)} tokens, ${label(s.family)}: ${s.reason}`);
  return ['', 'Skipped:', ...lines.map((line) => wrap(line, WIDTH, '    '))];
}

function crossoverTables(
  report: ModelReport,
  label: (name: string) => string,
  bold: (text: string) => string,
): string[] {
  const [first] = report.crossovers;
  if (first === undefined) return [];
  return [
    '',
    bold(`Crossover: the context from which ${label(first.costlier)} costs more`),
    '',
    renderTable(
      [
        { title: 'than', align: 'left' },
        { title: 'prefill time' },
        { title: 'decode time per token' },
        { title: 'session bytes' },
      ],
      report.crossovers.map((c) => [
        label(c.other),
        formatCrossover(c.prefill),
        formatCrossover(c.decode),
        formatCrossover(c.sessionBytes),
      ]),
    ),
  ];
}

/** "900", "19 (extrapolated)", "always" and "never" as far as was measured. */
export function formatCrossover(at: Crossover): string {
  if (at.kind === 'measured') return about(at.length);
  if (at.kind === 'extrapolated') return `${about(at.length)} (extrapolated)`;
  return { costlier: 'always', cheaper: 'never', equal: 'equal' }[at.always];
}
