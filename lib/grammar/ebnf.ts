/** The notation that the grammar engine reads: literals, classes of code points, and rules by name. */

/** Code points from … to, in order, none of them touching the next. */
export type CodePoints = readonly (readonly [from: number, to: number])[];

const LAST = 0x10ffff;

export function union(...sets: CodePoints[]): CodePoints {
  const sorted = sets.flat().sort((a, b) => a[0] - b[0]);
  const out: [number, number][] = [];
  for (const [from, to] of sorted) {
    const last = out.at(-1);
    if (last && from <= last[1] + 1) last[1] = Math.max(last[1], to);
    else out.push([from, to]);
  }
  return out;
}

export function complement(set: CodePoints): CodePoints {
  const out: [number, number][] = [];
  let next = 0;
  for (const [from, to] of [...union(set), [LAST + 1, LAST + 1] as const]) {
    if (from > next) out.push([next, from - 1]);
    next = to + 1;
  }
  return out;
}

export const without = (set: CodePoints, those: CodePoints): CodePoints => complement(union(complement(set), those));
export const intersection = (a: CodePoints, b: CodePoints): CodePoints => without(a, complement(b));
export const one = (char: string): CodePoints => [[char.codePointAt(0)!, char.codePointAt(0)!]];

const hex = (point: number): string =>
  point > 0xffff ? `\\U${point.toString(16).padStart(8, '0')}` : `\\u${point.toString(16).padStart(4, '0')}`;

export const ASCII: CodePoints = [[0, 127]];
const BEYOND: CodePoints = [[128, LAST]];
/** White space and line ends beyond ASCII: `.` and \S let them through. */
export const RARE_SPACES = union(
  [[0x2000, 0x200a]],
  [[0x2028, 0x2029]],
  ...[...'\u00a0\u1680\u202f\u205f\u3000\ufeff'].map(one),
);
const MOST_LISTED = 2048;

/**
 * One of a set of characters; never of an empty one. web-xgrammar 0.1.27 knows classes of ASCII, and those that all other
 * characters belong to: some others are listed one by one. Throws a RangeError where that is not possible.
 */
export function classOf(set: CodePoints): string {
  const [ascii, beyond] = [intersection(set, ASCII), intersection(set, BEYOND)];
  if (beyond.length === 0) return written('', ascii);
  if (without(without(BEYOND, beyond), RARE_SPACES).length === 0)
    return written('^', union([[0, 0]], without(ASCII, ascii)));
  const count = beyond.reduce((n, [from, to]) => n + to - from + 1, 0);
  if (count > MOST_LISTED)
    throw new RangeError(
      `a class with ${count} characters beyond ASCII: supported are all of them, or at most ${MOST_LISTED}`,
    );
  const listed = beyond.flatMap(([from, to]) =>
    Array.from({ length: to - from + 1 }, (_, i) => literal(String.fromCodePoint(from + i))),
  );
  return choice([...(ascii.length > 0 ? [written('', ascii)] : []), ...listed]);
}

function written(sign: string, set: CodePoints): string {
  const show = (point: number) => {
    const char = String.fromCodePoint(point);
    return /[0-9A-Za-z]/.test(char) ? char : hex(point);
  };
  return `[${sign}${set.map(([a, b]) => (a === b ? show(a) : `${show(a)}-${show(b)}`)).join('')}]`;
}

export function literal(text: string): string {
  const show = (char: string) => (/[ !#-[\]-~]/.test(char) ? char : hex(char.codePointAt(0)!));
  return `"${[...text].map(show).join('')}"`;
}

export const sequence = (parts: readonly string[]): string => parts.filter((p) => p !== '""').join(' ') || '""';
export const choice = (parts: readonly string[]): string =>
  parts.length === 1 ? parts[0]! : `(${[...new Set(parts)].join(' | ')})`;

export function repeated(part: string, least: number, most: number): string {
  if (most === 0) return '""';
  if (least === 1 && most === 1) return part;
  if (most === Infinity) return least === 0 ? `(${part})*` : `(${part}){${least},}`;
  return `(${part}){${least},${most}}`;
}

/** Rules that a grammar is made of, `root` among them at the end. */
export class Rules {
  private readonly lines: string[] = [];
  private readonly names = new Map<string, string>();

  /** The name of a rule with this body; equal bodies are one rule. */
  define(body: string): string {
    const known = this.names.get(body);
    if (known) return known;
    const name = `r${this.names.size}`;
    this.names.set(body, name);
    this.lines.push(`${name} ::= ${body}`);
    return name;
  }

  /** A rule whose body may name it. */
  recursive(name: string, body: string): void {
    this.lines.push(`${name} ::= ${body}`);
  }

  grammar(root: string): string {
    return `${this.lines.join('\n')}\nroot ::= ${root}\n`;
  }
}
