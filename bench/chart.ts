/** A chart of cost over length for the terminal, both axes logarithmic: a power law is a straight line. */
import { plot } from 'asciichart';
import { displayWidth, outputWidth } from './table.js';

export interface Series {
  name: string;
  points: { length: number; value: number }[];
}

export interface ChartOptions {
  format: (value: number) => string;
  /** Columns of the plot itself and rows; default 64 × 16. */
  width?: number;
  height?: number;
  colour?: boolean;
}

const COLOURS = ['\u001b[31m', '\u001b[33m', '\u001b[36m', '\u001b[32m', '\u001b[35m', '\u001b[34m', '\u001b[37m'];
const RESET = '\u001b[0m';
// biome-ignore lint/suspicious/noControlCharactersInRegex: the escape character is what it looks for
const CELL = /(?:\u001b\[\d+m)*.(?:\u001b\[0m)?/gu;
const A = 'a'.charCodeAt(0);
// asciichart puts a whole label into one cell before the axis.
const OFFSET = 2;

/**
 * A letter marks where a series ends, which may be early; it must start at the shortest length (one that does not is left
 * out: the plot has no gaps). Empty where there is nothing to draw.
 */
export function chart(series: readonly Series[], options: ChartOptions): string {
  const { height = 16, colour = false, format } = options;
  // Beside the plot: the values, and a letter.
  const width = Math.max(16, Math.min(options.width ?? 64, outputWidth() - 14));
  const lengths = [...new Set(series.flatMap((s) => s.points.map((p) => p.length)))].sort((a, b) => a - b);
  const [first, last] = [lengths[0], lengths.at(-1)];
  if (first === undefined || last === undefined || first === last) return '';
  const drawn = series.filter((s) => s.points.length > 1 && s.points.some((p) => p.length === first));
  if (drawn.length === 0) return '';

  const column = (length: number) => Math.round((Math.log(length / first) / Math.log(last / first)) * (width - 1));
  const values = drawn.map((s) => resample(s, column));
  const logs = values.flat();
  const [low, high] = [Math.min(...logs), Math.max(...logs)];
  // asciichart scales rows by height/(max-min); a flat chart would have no rows.
  const flat = high - low < 1e-9;
  const labels = Array.from({ length: height + 2 }, (_, i) => format(10 ** (low + ((high - low) * i) / (height + 1))));
  const margin = Math.max(...labels.map(displayWidth)) + 1;
  const [bottom, top] = flat ? [low - 0.5, high + 0.5] : [low, high];
  const body = plot(values, {
    height,
    min: bottom,
    max: top,
    offset: OFFSET,
    colors: drawn.map((_, i) => (colour ? COLOURS[i % COLOURS.length] : undefined)),
    format: (value) => `${format(10 ** value).padStart(margin - 1)} `,
  });
  const lines = body.split('\n').map(cells);
  // The row that asciichart gives a value.
  const scale = height / (top - bottom);
  const row = (value: number) => lines.length - 1 - (Math.round(value * scale) - Math.round(bottom * scale));
  const legend = drawn.map((s, i) => {
    const paint = (text: string) => (colour ? `${COLOURS[i % COLOURS.length]}${text}${RESET}` : text);
    const letter = paint(String.fromCharCode(A + i));
    const points = values[i]!;
    const line = lines[row(points.at(-1)!)]!;
    let end = margin + points.length;
    while (line[end] !== undefined && line[end] !== ' ') end++;
    while (line.length <= end) line.push(' ');
    line[end] = letter;
    return `${' '.repeat(margin)}${letter} ${paint('──')} ${s.name}`;
  });
  const drawing = lines.map((line) => line.join('').trimEnd());
  return [...drawing, axis(lengths, column, margin, width), '', ...legend].join('\n');
}

/** Characters of a line with the escape sequences that colour them. */
function cells(line: string): string[] {
  return line.match(CELL) ?? [];
}

// log10 of the value in every column, straight between measured points.
function resample(series: Series, column: (length: number) => number): number[] {
  const points = [...series.points].sort((a, b) => a.length - b.length);
  const out: number[] = [];
  for (let i = 0; i + 1 < points.length; i++) {
    const [a, b] = [points[i]!, points[i + 1]!];
    const [from, to] = [column(a.length), column(b.length)];
    for (let x = out.length; x <= to; x++) {
      const t = to === from ? 1 : (x - from) / (to - from);
      out.push(Math.log10(a.value) * (1 - t) + Math.log10(b.value) * t);
    }
  }
  return out;
}

// Length labels under their columns, those that would touch a neighbour left out.
function axis(lengths: readonly number[], column: (length: number) => number, margin: number, width: number): string {
  const line = Array<string>(margin + width + 12).fill(' ');
  let free = 0;
  for (const length of lengths) {
    const label = String(length);
    const start = Math.max(0, margin + column(length) - Math.floor(label.length / 2));
    if (start < free) continue;
    [...label].forEach((character, i) => {
      line[start + i] = character;
    });
    free = start + label.length + 1;
  }
  return `${line.join('').trimEnd()}  tokens`;
}
