/** What a training run looks like: a curve in the terminal, and a page. */
import { plot } from 'asciichart';
import { formatSeconds, group, significant } from '../../../bench/format.js';
import type { Page } from '../../../bench/html/page.js';

export interface History {
  /** Of every step: its loss. */
  losses: number[];
  /** Of held-out text: [step, loss]. */
  held: [number, number][];
  seconds: number;
  tokens: number;
  /** Of all held-out text, at the end. */
  final?: { loss: number; bitsPerByte: number };
}

const COLUMNS = 64;

/** Mean losses of some sixty groups of steps, drawn. Empty where there is nothing to see. */
export function curve({ losses }: History): string {
  const groups = Math.min(COLUMNS, losses.length);
  if (groups < 3) return '';
  const means = Array.from({ length: groups }, (_, i) => {
    const part = losses.slice(Math.floor((i * losses.length) / groups), Math.floor(((i + 1) * losses.length) / groups));
    return part.reduce((a, b) => a + b, 0) / part.length;
  });
  return `loss\n${plot([means], { height: 10, format: (v) => v.toFixed(3).padStart(8) })}\n${' '.repeat(9)}step 1 to ${group(losses.length)}`;
}

/** One line: where the run stands. */
export function summary(h: History): string {
  const last = h.held.at(-1);
  const whole = h.final
    ? `; all held-out text: loss ${h.final.loss.toFixed(4)}, ${h.final.bitsPerByte.toFixed(4)} bits a byte`
    : '';
  const held =
    last && !h.final ? `, held-out loss ${last[1].toFixed(4)} (${(last[1] / Math.LN2).toFixed(4)} bits a token)` : '';
  const speed = h.seconds > 0 ? `, ${significant(h.tokens / h.seconds)} tokens/s` : '';
  return `${group(h.losses.length)} steps in ${formatSeconds(h.seconds)}${speed}, loss ${(h.losses.at(-1) ?? Number.NaN).toFixed(4)}${held}${whole}`;
}

export function trainingPage(h: History, subtitle: string, command: string, machine: [string, string][]): Page {
  return {
    title: 'Training',
    subtitle,
    machine,
    commands: [command],
    charts: [
      {
        title: 'Loss (nats a token)',
        unit: 'loss',
        series: [
          { name: 'training', points: h.losses.map((y, i) => ({ x: i + 1, y })) },
          { name: 'held out', points: h.held.map(([x, y]) => ({ x, y })) },
        ],
      },
    ],
    tables: [
      {
        title: 'Held-out text',
        columns: [{ title: 'step' }, { title: 'loss' }, { title: 'bits a token' }],
        rows: h.held.map(([step, loss]) => [group(step), loss.toFixed(4), (loss / Math.LN2).toFixed(4)]),
      },
    ],
    text: `${summary(h)}\n\n${curve(h)}`,
  };
}
