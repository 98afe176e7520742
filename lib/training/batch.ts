import { mismatch, StatespaceError, show } from '../errors.js';
import type { TrainingPart } from '../native.js';
import { checkTensor, type TensorLike } from '../tensor.js';

/** What a step learns from. */
export interface TrainingBatch {
  /** (B, T) i32: sequences of token ids. */
  ids: TensorLike;
  /** (B, T) i32; default: ids. Position t predicts label t + 1; −100 is no target. The loss is the mean over all targets. */
  labels?: TensorLike;
  /** B = 1: the sequences lie end to end, [0, end of the first, …, T], and nothing flows across a border. */
  cuSeqlens?: Int32Array;
}

const IGNORED = -100;

function idsOf(op: string, name: string, t: TensorLike): { data: Int32Array; shape: readonly number[] } {
  const dtype = checkTensor(`${op}: ${name}`, t);
  if (dtype !== 'i32') throw mismatch('ERR_DTYPE', `${op}: ${name}`, 'i32', dtype);
  if (t.shape.length !== 2) throw mismatch('ERR_SHAPE', `${op}: ${name}`, 'shape (B, T)', `(${t.shape.join(', ')})`);
  return { data: t.data as Int32Array, shape: t.shape };
}

function boundsOf(op: string, given: Int32Array | undefined, batch: number, length: number): Int32Array {
  if (given === undefined) return Int32Array.from({ length: batch + 1 }, (_, s) => s * length);
  const where = `${op}: cuSeqlens`;
  if (!ArrayBuffer.isView(given) || given.length < 1)
    throw mismatch('ERR_ARGUMENT', where, 'an Int32Array', show(given));
  if (batch !== 1) throw mismatch('ERR_SHAPE', where, 'ids of one row', `${batch} rows`);
  const bounds = Int32Array.from(given);
  if (bounds[0] !== 0 || bounds.at(-1) !== length || bounds.some((b, i) => i > 0 && b < bounds[i - 1]!))
    throw mismatch('ERR_ARGUMENT', where, `bounds that rise from 0 to ${length}`, show([...bounds]));
  return bounds;
}

/**
 * A batch as native code takes it, in up to `parts` groups of neighbouring sequences. Everything is copied: the caller's arrays
 * may change afterwards.
 */
export function readBatch(
  op: string,
  batch: TrainingBatch,
  parts: number,
  vocab: number,
  rows: number,
): TrainingPart[] {
  if (typeof batch !== 'object' || batch === null)
    throw mismatch('ERR_ARGUMENT', `${op}: batch`, '{ ids, labels?, cuSeqlens? }', show(batch));
  const ids = idsOf(op, 'ids', batch.ids);
  const labels = batch.labels === undefined ? ids : idsOf(op, 'labels', batch.labels);
  if (labels.shape.join() !== ids.shape.join())
    throw mismatch('ERR_SHAPE', `${op}: labels`, `shape (${ids.shape.join(', ')})`, `(${labels.shape.join(', ')})`);
  const [count, length] = ids.shape as [number, number];
  for (let i = 0; i < ids.data.length; i++) {
    const [id, label] = [ids.data[i]!, labels.data[i]!];
    if (id < 0 || id >= rows)
      throw mismatch('ERR_ARGUMENT', `${op}: ids[${i}]`, `an id from 0 to ${rows - 1}`, String(id));
    if (label !== IGNORED && (label < 0 || label >= vocab))
      throw mismatch(
        'ERR_ARGUMENT',
        `${op}: labels[${i}]`,
        `an id from 0 to ${vocab - 1} or ${IGNORED}`,
        String(label),
      );
  }
  const bounds = boundsOf(op, batch.cuSeqlens, count, length);
  const sequences = bounds.length - 1;
  if (ids.data.length === 0) throw new StatespaceError('ERR_ARGUMENT', `${op}: ids: no tokens`);
  const groups = Math.min(parts, sequences);
  return Array.from({ length: groups }, (_, g) => {
    const [first, last] = [Math.floor((g * sequences) / groups), Math.floor(((g + 1) * sequences) / groups)];
    const cuSeqlens = bounds.slice(first, last + 1);
    const [from, to] = [cuSeqlens[0]!, cuSeqlens.at(-1)!];
    const targets = new Int32Array(to - from).fill(IGNORED);
    let counted = 0;
    for (let s = first; s < last; s++)
      for (let t = bounds[s]!; t + 1 < bounds[s + 1]!; t++) {
        targets[t - from] = labels.data[t + 1]!;
        if (labels.data[t + 1] !== IGNORED) counted++;
      }
    return { ids: ids.data.slice(from, to), targets, cuSeqlens: cuSeqlens.map((b) => b - from), counted };
  });
}
