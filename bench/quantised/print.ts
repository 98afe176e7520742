import { formatBytes, significant } from '../format.js';
import { renderTable } from '../table.js';
import type { QuantisedReport } from './run.js';

export function printQuantised({ settings, reference, types, machine }: QuantisedReport): string {
  const withText = settings.textTokens !== null;
  const columns = [
    'bits/weight',
    'file',
    'weights held',
    'logits error',
    'same argmax',
    ...(withText ? ['perplexity'] : []),
  ];
  const rows = types.map((t) => [
    t.type,
    t.bitsPerWeight.toFixed(2),
    formatBytes(t.fileBytes),
    formatBytes(t.heldBytes),
    significant(t.logitsError),
    `${(100 * t.sameArgmax).toFixed(1)} %`,
    ...(t.perplexity === null ? [] : [significant(t.perplexity)]),
    significant(t.prefillTokensPerSecond),
    significant(t.decodeTokensPerSecond),
  ]);
  const table = renderTable(
    [{ title: 'type', align: 'left' }, ...[...columns, 'prefill tok/s', 'decode tok/s'].map((title) => ({ title }))],
    rows,
  );
  return [
    `${settings.model} on ${machine.cpu}, ${machine.threads} threads, ${machine.isa}`,
    `Against f32${reference.perplexity === null ? '' : `, whose perplexity is ${significant(reference.perplexity)} over ${settings.textTokens} tokens`}; ` +
      `prefill of ${settings.tokens} tokens, then ${settings.decode} one by one, median of ${settings.reps}`,
    '',
    table,
  ].join('\n');
}
