/** Plain text tables: columns aligned by display width, escape sequences not counted. */
import stringWidth from 'string-width';

export interface Column {
  title: string;
  align?: 'left' | 'right';
}

/** Columns that a terminal gives the text: two for wide characters, none for marks and escape sequences. */
export const displayWidth = stringWidth;

export interface Table {
  columns: readonly Column[];
  /** A row of null is a rule. */
  rows: readonly (readonly string[] | null)[];
}

/** Columns that what is printed may take: the terminal's, or what COLUMNS says; a file or a pipe takes any. */
export function outputWidth(): number {
  const asked = Number(process.env.COLUMNS);
  return process.stdout.columns ?? (asked > 0 ? asked : Number.POSITIVE_INFINITY);
}

const GAP = 2;
/** Narrower than this no text is wrapped. */
const NARROW = 10;

/**
 * Right-aligned unless a column says left. A row of null draws a rule. What is wider than the output goes below: its
 * columns in several tables, each with those that tell the rows apart; text columns that are still too wide are wrapped.
 */
export function renderTable(columns: readonly Column[], rows: Table['rows'], width = outputWidth()): string {
  const widths = columns.map((column, i) =>
    Math.max(displayWidth(column.title), ...rows.map((row) => displayWidth(row?.[i] ?? ''))),
  );
  const text = columns.findIndex((column) => column.align === 'left');
  const keys = Array.from({ length: text === 1 ? 2 : 1 }, (_, i) => i);
  return partition(keys, widths, width)
    .map((part) => lines(columns, rows, part, fitted(columns, widths, part, width)))
    .join('\n\n');
}

/** The columns of each table. */
function partition(keys: number[], widths: readonly number[], width: number): number[][] {
  const taken = (part: number[]) => part.reduce((n, i) => n + widths[i]! + GAP, -GAP);
  const parts: number[][] = [[...keys]];
  for (let i = keys.length; i < widths.length; i++) {
    const part = parts.at(-1)!;
    if (part.length === keys.length || taken([...part, i]) <= width) part.push(i);
    else parts.push([...keys, i]);
  }
  return parts;
}

/** Widths of a table's columns, those of text made narrower as far as it takes. */
function fitted(columns: readonly Column[], widths: readonly number[], part: number[], width: number): number[] {
  const own = part.map((i) => widths[i]!);
  for (let over = sum(own) + GAP * (own.length - 1) - width; over > 0; over--) {
    const widest = own.reduce((best, w, k) => (isText(k) && w > (own[best] ?? NARROW) ? k : best), -1);
    if (widest < 0) break;
    own[widest]!--;
  }
  return own;

  function isText(k: number): boolean {
    return columns[part[k]!]!.align === 'left' && own[k]! > NARROW;
  }
}

const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);

function lines(columns: readonly Column[], rows: Table['rows'], part: number[], widths: number[]): string {
  const line = (cells: readonly string[]) => {
    const wrapped = part.map((i, k) =>
      displayWidth(cells[i] ?? '') > widths[k]! ? wrap(cells[i]!, widths[k]).split('\n') : [cells[i] ?? ''],
    );
    const height = Math.max(...wrapped.map((cell) => cell.length));
    return Array.from({ length: height }, (_, y) =>
      part
        .map((i, k) => {
          const cell = wrapped[k]![y] ?? '';
          const padding = ' '.repeat(Math.max(0, widths[k]! - displayWidth(cell)));
          return columns[i]!.align === 'left' ? cell + padding : padding + cell;
        })
        .join(' '.repeat(GAP))
        .trimEnd(),
    ).join('\n');
  };
  const rule = widths.map((w) => '─'.repeat(w)).join(' '.repeat(GAP));
  const head = line(columns.map((column) => column.title));
  return [head, rule, ...rows.map((row) => (row === null ? rule : line(row)))].join('\n');
}

export function rendered({ columns, rows }: Table): string {
  return renderTable(columns, rows);
}

/** Text wrapped at spaces to the width, or the output's; its own indentation stays, lines that follow get `hang`. */
export function wrap(text: string, most = 100, hang = ''): string {
  const width = Math.min(most, outputWidth());
  const lines: string[] = [];
  let line = /^\s*/.exec(text)![0];
  let empty = true;
  for (const word of text.trim().split(/\s+/)) {
    if (!empty && displayWidth(line) + 1 + displayWidth(word) > width) {
      lines.push(line);
      line = hang + word;
    } else {
      line += empty ? word : ` ${word}`;
    }
    empty = false;
  }
  return [...lines, line].join('\n');
}

/** `name` in a column of its own beside the value, which is wrapped to what is left of the width. */
export function labelled(name: string, value: string, indent: number, most = Number.POSITIVE_INFINITY): string {
  const room = Math.max(NARROW, Math.min(most, outputWidth()) - indent);
  return name.padEnd(indent) + wrap(value, room).replaceAll('\n', `\n${' '.repeat(indent)}`);
}
