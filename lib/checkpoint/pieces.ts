import { Turns } from '../turns.js';

/** Values between looks at the clock. */
const PIECE = 1 << 14;

/**
 * Work on [0, count), in pieces between which other work has its turn. each: values that one step stands for.
 */
export async function inPieces(count: number, work: (from: number, to: number) => void, each = 1): Promise<void> {
  const piece = Math.max(1, Math.floor(PIECE / each));
  const turns = new Turns();
  for (let from = 0; from < count; from += piece) {
    work(from, Math.min(count, from + piece));
    const pause = turns.due();
    if (pause) await pause;
  }
}

/** Changes values [from, to) where they stand: a loop, as a call for each value left one or two numbers to the collector. */
export type Change = (values: Float32Array, from: number, to: number) => void;

export const multiplied =
  (by: number): Change =>
  (values, from, to) => {
    for (let i = from; i < to; i++) values[i] = values[i]! * by;
  };

/** The values, each changed where it stands. */
export async function changed(values: Float32Array, change: Change): Promise<Float32Array> {
  await inPieces(values.length, (from, to) => change(values, from, to));
  return values;
}

/** Matrices of (rows, columns), one after the other, as (columns, rows), times a factor. */
export async function turned(values: Float32Array, rows: number, columns: number, factor = 1): Promise<Float32Array> {
  const out = new Float32Array(values.length);
  const turn = (from: number, to: number) => {
    for (let row = from; row < to; row++) {
      const at = Math.floor(row / rows) * rows * columns;
      const i = row % rows;
      for (let j = 0; j < columns; j++) out[at + j * rows + i] = factor * values[row * columns + j]!;
    }
  };
  await inPieces(values.length / columns, turn, columns);
  return out;
}
