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

/** A class of code points; never an empty one. */
export function classOf(set: CodePoints): string {
  const show = (point: number) => {
    const char = String.fromCodePoint(point);
    return /[0-9A-Za-z]/.test(char) ? char : hex(point);
  };
  return `[${set.map(([a, b]) => (a === b ? show(a) : `${show(a)}-${show(b)}`)).join('')}]`;
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
