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

/** Right-aligned unless a column says left. A row of null draws a rule. */
export function renderTable(columns: readonly Column[], rows: readonly (readonly string[] | null)[]): string {
  const widths = columns.map((column, i) =>
    Math.max(displayWidth(column.title), ...rows.map((row) => displayWidth(row?.[i] ?? ''))),
  );
  const line = (cells: readonly string[]) =>
    columns
      .map((column, i) => {
        const cell = cells[i] ?? '';
        const padding = ' '.repeat(widths[i]! - displayWidth(cell));
        return column.align === 'left' ? cell + padding : padding + cell;
      })
      .join('  ')
      .trimEnd();
  const rule = widths.map((width) => '─'.repeat(width)).join('  ');
  return [
    line(columns.map((column) => column.title)),
    rule,
    ...rows.map((row) => (row === null ? rule : line(row))),
  ].join('\n');
}

export function rendered({ columns, rows }: Table): string {
  return renderTable(columns, rows);
}

/** Text wrapped at spaces to the width; its own indentation stays, lines that follow get `hang`. */
export function wrap(text: string, width = 100, hang = ''): string {
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
