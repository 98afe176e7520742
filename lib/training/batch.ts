import { mismatch, StatespaceError, show } from '../errors.js';
import { atMost } from '../models/input.js';
import type { TrainingPart } from '../native.js';
import { checkKnown } from '../options.js';
import { tagOf } from '../tensor.js';
import type { Given, Reading } from './given.js';
import { IGNORED, NO_VALUE, rowTargets, shiftedTargets, tensorOf } from './targets.js';

const KNOWN = ['ids', 'inputs', 'labels', 'targets', 'cuSeqlens'];

function boundsOf(op: string, given: Int32Array | undefined, batch: number, length: number): Int32Array {
  if (given === undefined) return Int32Array.from({ length: batch + 1 }, (_, s) => s * length);
  const where = `${op}: cuSeqlens`;
  if (tagOf(given) !== 'Int32Array' || given.length < 1)
    throw mismatch('ERR_ARGUMENT', where, 'an Int32Array', show(given));
  if (batch !== 1) throw mismatch('ERR_SHAPE', where, 'a batch of one row', `${batch} rows`);
  const bounds = Int32Array.from(given);
  if (bounds[0] !== 0 || bounds.at(-1) !== length || bounds.some((b, i) => i > 0 && b < bounds[i - 1]!))
    throw mismatch('ERR_ARGUMENT', where, `bounds that rise from 0 to ${length}`, show([...bounds]));
  return bounds;
}

/** What the network reads: its two leading axes, and the values. */
function readSequences(op: string, batch: Given, of: Reading) {
  if (of.features > 0) {
    if (batch.ids !== undefined)
      throw new StatespaceError('ERR_ARGUMENT', `${op}: ids: this network reads rows; give it inputs`);
    const { data, shape } = tensorOf(op, 'inputs', batch.inputs, 'f32');
    if (shape.length !== 3 || shape[2] !== of.features)
      throw mismatch('ERR_SHAPE', `${op}: inputs`, `shape (B, T, ${of.features})`, `(${shape.join(', ')})`);
    return { input: data as Float32Array, count: shape[0]!, length: shape[1]! };
  }
  if (batch.inputs !== undefined)
    throw new StatespaceError('ERR_ARGUMENT', `${op}: inputs: this model reads token ids; give it ids`);
  const { data, shape } = tensorOf(op, 'ids', batch.ids, 'i32');
  if (shape.length !== 2) throw mismatch('ERR_SHAPE', `${op}: ids`, 'shape (B, T)', `(${shape.join(', ')})`);
  const ids = data as Int32Array;
  const wrong = ids.findIndex((id) => id < 0 || id >= of.idRows);
  if (wrong >= 0)
    throw mismatch('ERR_ARGUMENT', `${op}: ids[${wrong}]`, `an id from 0 to ${of.idRows - 1}`, String(ids[wrong]));
  return { ids, count: shape[0]!, length: shape[1]! };
}

/** Empty sequences have no row to answer from: neither they nor their targets count. */
function withoutEmpty(all: Int32Array, given: Int32Array, width: number) {
  const isFull = (s: number) => all[s + 1]! > all[s]!;
  const bounds = all.filter((_, i) => i === 0 || isFull(i - 1));
  return { bounds, targets: given.filter((_, i) => isFull(Math.floor(i / width))) };
}

/**
 * A batch as native code takes it, in up to `parts` groups of neighbouring sequences. Everything is copied: the caller's arrays
 * may change afterwards.
 */
export function readBatch(op: string, batch: Given, parts: number, of: Reading): TrainingPart[] {
  if (typeof batch !== 'object' || batch === null)
    throw mismatch('ERR_ARGUMENT', `${op}: batch`, 'an object of tensors', show(batch));
  checkKnown(`${op}: batch`, batch, KNOWN);
  const read = readSequences(op, batch, of);
  const all = boundsOf(op, batch.cuSeqlens, read.count, read.length);
  const length = all.reduce((most, b, i) => Math.max(most, b - (all[i - 1] ?? 0)), 0);
  if (of.longest && length > of.longest.tokens)
    throw mismatch('ERR_ARGUMENT', `${op}: batch: sequences of`, atMost(of.longest), String(length));
  if (read.count * read.length === 0) throw new StatespaceError('ERR_ARGUMENT', `${op}: the batch has no tokens`);
  const lead = [read.count, read.length] as const;
  const width = of.loss === 'mse' ? of.outputs : 1;
  const given =
    of.loss === 'nextToken' ? shiftedTargets(op, batch, lead, all, of) : rowTargets(op, batch, lead, all, of);
  const { bounds, targets } = of.bySequence ? withoutEmpty(all, given, width) : { bounds: all, targets: given };
  const sequences = bounds.length - 1;
  const none = of.loss === 'mse' ? NO_VALUE : IGNORED;
  const groups = Math.min(parts, sequences);
  return Array.from({ length: groups }, (_, g) => {
    const [first, last] = [Math.floor((g * sequences) / groups), Math.floor(((g + 1) * sequences) / groups)];
    const [from, to] = [bounds[first]!, bounds[last]!];
    const rows = of.bySequence ? [first, last] : [from, to];
    const own = targets.slice(width * rows[0]!, width * rows[1]!);
    return {
      ids: read.ids?.slice(from, to),
      input: read.input?.slice(from * of.features, to * of.features),
      targets: own,
      cuSeqlens: bounds.slice(first, last + 1).map((b) => b - from),
      counted: own.reduce((n, t) => n + (t === none ? 0 : 1), 0),
    };
  });
}
