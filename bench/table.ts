/** Plain text tables: columns aligned by display width, escape sequences not counted. */

export interface Column {
  title: string;
  align?: 'left' | 'right';
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: the escape character is what it looks for
const ESCAPE = /\u001b\[[0-9;]*m/g;

export function displayWidth(text: string): number {
  return [...text.replace(ESCAPE, '')].length;
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

/** Text wrapped at spaces to the width, continuation lines indented. */
export function wrap(text: string, width = 100, indent = ''): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(/\s+/)) {
    if (line !== '' && displayWidth(line) + 1 + displayWidth(word) > width) {
      lines.push(line);
      line = indent + word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  if (line !== '') lines.push(line);
  return lines.join('\n');
}
