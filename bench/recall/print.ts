import { formatBytes, group, percent, significant } from '../format.js';
import { renderTable, type Table } from '../table.js';
import type { RecallReport } from './run.js';

export function recallTable({ tasks, results }: RecallReport): Table {
  return {
    columns: [
      { title: 'model', align: 'left' },
      { title: 'parameters' },
      ...tasks.map(({ label }) => ({ title: label })),
      { title: 'state' },
      { title: 'forward tok/s' },
      { title: 'training tok/s' },
    ],
    rows: results.map((r) => [
      r.label,
      group(r.parameters),
      ...tasks.map(({ name }) => percent(r.accuracy[name]!)),
      formatBytes(r.stateBytes),
      significant(r.forwardTokensPerSecond),
      significant(r.trainingTokensPerSecond),
    ]),
  };
}

/** Mean accuracy over the bytes of a session, as a bar each: the fewest bytes first. */
function chart({ results }: RecallReport): string {
  const width = Math.max(...results.map((r) => r.label.length));
  const mean = (r: (typeof results)[0]) => {
    const shares = Object.values(r.accuracy);
    return shares.reduce((a, b) => a + b, 0) / shares.length;
  };
  return [...results]
    .sort((a, b) => a.stateBytes - b.stateBytes)
    .map(
      (r) =>
        `${r.label.padEnd(width)}  ${formatBytes(r.stateBytes).padStart(9)}  ${'█'.repeat(Math.round(40 * mean(r)))} ${percent(mean(r))}`,
    )
    .join('\n');
}

export function printRecall(report: RecallReport): string {
  const { settings: s, machine, tasks } = report;
  const { columns, rows } = recallTable(report);
  return [
    `Recall of models of ${s.layers} layers and width ${s.dModel}, ${group(s.parameters)} parameters each, on ${machine.cpu}, ${machine.threads} threads`,
    `${group(s.steps)} steps of ${s.batch} sequences of ${s.length} tokens, each task by itself, vocabulary ${s.vocabulary}, learning rate ${s.learningRate}, seed ${s.seed};`,
    `then ${s.asked} new sequences: the share of answers that are the likeliest token (by chance ${percent(1 / s.vocabulary)})`,
    ...tasks.map(({ label, text }) => `  ${label}: ${text}`),
    '',
    renderTable(columns, rows),
    '',
    'Mean accuracy over the bytes of a session',
    chart(report),
  ].join('\n');
}
