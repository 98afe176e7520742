import { mismatch, StatespaceError, show } from './errors.js';

/**
 * ERR_ARGUMENT for an option that a call does not know, with the one that was meant where that can be guessed: an option
 * that is ignored in silence is a wrong answer. `undefined` is as absent.
 */
export function checkKnown(op: string, options: object, known: readonly string[], kind = 'option'): void {
  for (const [key, value] of Object.entries(options)) {
    if (value === undefined || known.includes(key)) continue;
    const meant = closest(key, known);
    throw new StatespaceError(
      'ERR_ARGUMENT',
      `${op}: unknown ${kind} ${show(key)}; ${meant ? `did you mean '${meant}'?` : `known are ${known.join(', ')}`}`,
    );
  }
}

/** checkKnown() of what must be an object. */
export function checkOptions(op: string, options: unknown, known: readonly string[]): void {
  if (typeof options !== 'object' || options === null)
    throw mismatch('ERR_ARGUMENT', `${op}: options`, 'an object', show(options));
  checkKnown(op, options, known);
}

const plain = (name: string) => name.replace(/[_\-\s]/g, '').toLowerCase();

/** The known name that is written nearly so: in another case, with a letter wrong in four. */
function closest(key: string, known: readonly string[]): string | undefined {
  const ranked = known.map((name) => ({ name, distance: edits(plain(key), plain(name)) }));
  ranked.sort((a, b) => a.distance - b.distance);
  const best = ranked[0];
  if (!best) return undefined;
  // One letter wrong of one or two is another name.
  const allowed = best.name.length > 2 ? Math.max(1, Math.floor(best.name.length / 4)) : 0;
  return best.distance <= allowed ? best.name : undefined;
}

/** Letters to change, add or drop, and neighbours to swap (optimal string alignment). */
function edits(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const kept = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, kept, swapped ? before[j - 2]! + 1 : kept));
    }
    before = row;
    row = next;
  }
  return row[b.length]!;
}
