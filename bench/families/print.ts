import { formatCount, group, percent } from '../format.js';
import { renderTable } from '../table.js';
import type { FamiliesReport, FamilyMeasurement } from './run.js';

/** Whether a family keeps both bounds. */
export const keepsBounds = ({ prefill, decode }: FamilyMeasurement, bounds: FamiliesReport['bounds']): boolean =>
  prefill.share >= bounds.prefill && decode.share >= bounds.decode;

/** A line for each family: its speeds, and what share of the machine's rates they are. */
export function printFamilies({ families, settings, bounds }: FamiliesReport): string {
  const table = renderTable(
    [
      { title: 'family', align: 'left' },
      { title: 'sizes of', align: 'left' },
      { title: 'parameters' },
      { title: 'active' },
      { title: 'prefill, tokens/s' },
      { title: 'of products' },
      { title: 'decode, tokens/s' },
      { title: 'of reads' },
      { title: '', align: 'left' },
    ],
    families.map((f) => [
      f.name,
      f.like,
      formatCount(f.parameters.total),
      formatCount(f.parameters.active),
      group(f.prefill.tokensPerSecond),
      percent(f.prefill.share),
      group(f.decode.tokensPerSecond),
      percent(f.decode.share),
      keepsBounds(f, bounds) ? '' : 'missed',
    ]),
  );
  return (
    `${table}\n\n${settings.tokens} tokens, then ${settings.steps} steps, ${settings.dtype}; bounds ` +
    `${percent(bounds.prefill)} of products and ${percent(bounds.decode)} of reads.\n` +
    `Operations are counted by definition, a multiply-add as two; bytes are the weights, states and keys of a step, once.`
  );
}
