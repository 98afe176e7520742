import { significant } from '../format.js';
import { renderTable } from '../table.js';
import type { CallResult } from './case.js';

/** A line for each ratio beside its bound. */
export function boundsTable(results: readonly CallResult[]): string {
  return renderTable(
    [
      { title: 'call', align: 'left' },
      { title: 'what', align: 'left' },
      { title: 'seen' },
      { title: 'bound' },
      { title: '', align: 'left' },
    ],
    results.map(({ name, what, seen, bound, kept }) => [
      name,
      what,
      significant(seen),
      'atMost' in bound ? `≤ ${bound.atMost}` : `≥ ${bound.atLeast}`,
      kept ? '' : 'missed',
    ]),
  );
}
