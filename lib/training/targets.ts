// What a network should have said, one entry for each row that it gives: ids, or the bits of f32 numbers.
import { mismatch, StatespaceError } from '../errors.js';
import { checkTensor, type TensorLike } from '../tensor.js';
import type { Given, Reading } from './given.js';

export const IGNORED = -100;
/** The bits of NaN, as every NaN is written here. */
export const NO_VALUE = 0x7fc00000;

type Lead = readonly [count: number, length: number];

/** A tensor of an i32 or f32 field, by name. */
export function tensorOf(op: string, name: string, t: TensorLike | undefined, dtype: 'i32' | 'f32'): TensorLike {
  if (t === undefined) throw new StatespaceError('ERR_ARGUMENT', `${op}: ${name} is missing`);
  const given = checkTensor(`${op}: ${name}`, t);
  if (given !== dtype) throw mismatch('ERR_DTYPE', `${op}: ${name}`, dtype, given);
  return t;
}

function checkClasses(where: string, labels: Int32Array, classes: number): void {
  const at = labels.findIndex((label) => label !== IGNORED && (label < 0 || label >= classes));
  if (at >= 0)
    throw mismatch(
      'ERR_ARGUMENT',
      `${where}[${at}]`,
      `an id from 0 to ${classes - 1} or ${IGNORED}`,
      String(labels[at]),
    );
}

/** Of next tokens: each position has its successor's label, the last of a sequence none. */
export function shiftedTargets(op: string, batch: Given, lead: Lead, bounds: Int32Array, of: Reading): Int32Array {
  if (batch.targets !== undefined)
    throw new StatespaceError(
      'ERR_ARGUMENT',
      `${op}: targets: of the losses crossEntropy and mse; next tokens take labels`,
    );
  const { data, shape } = tensorOf(op, 'labels', batch.labels ?? batch.ids, 'i32');
  if (shape.join() !== lead.join())
    throw mismatch('ERR_SHAPE', `${op}: labels`, `shape (${lead.join(', ')})`, `(${shape.join(', ')})`);
  const labels = data as Int32Array;
  checkClasses(`${op}: labels`, labels, of.outputs);
  const targets = new Int32Array(labels.length).fill(IGNORED);
  for (let s = 0; s + 1 < bounds.length; s++)
    if (bounds[s + 1]! > bounds[s]!) targets.set(labels.subarray(bounds[s]! + 1, bounds[s + 1]!), bounds[s]!);
  return targets;
}

/** Of rows: as given; where a sequence has one and the network answers for every row, its last row has it. */
export function rowTargets(op: string, batch: Given, lead: Lead, bounds: Int32Array, of: Reading): Int32Array {
  if (batch.labels !== undefined)
    throw new StatespaceError('ERR_ARGUMENT', `${op}: labels: of the loss of next tokens; ${of.loss} takes targets`);
  const numbers = of.loss === 'mse';
  const { data, shape } = tensorOf(op, 'targets', batch.targets, numbers ? 'f32' : 'i32');
  const [sequences, width] = [bounds.length - 1, numbers ? of.outputs : 1];
  const inner = numbers ? [of.outputs] : [];
  const fits = (...axes: number[]) => shape.join() === [...axes, ...inner].join();
  const bySequence = fits(sequences);
  if (!bySequence && (of.bySequence || !fits(...lead))) {
    const shapes = [...(of.bySequence ? [] : [[...lead, ...inner]]), [sequences, ...inner]];
    const wanted = shapes.map((s) => `shape (${s.join(', ')})`).join(' or ');
    throw mismatch('ERR_SHAPE', `${op}: targets`, wanted, `(${shape.join(', ')})`);
  }
  const given = numbers ? bitsOf(data as Float32Array) : Int32Array.from(data as Int32Array);
  if (!numbers) checkClasses(`${op}: targets`, given, of.outputs);
  if (of.bySequence || !bySequence) return given;
  const targets = new Int32Array(lead[0] * lead[1] * width).fill(numbers ? NO_VALUE : IGNORED);
  for (let s = 0; s < sequences; s++)
    if (bounds[s + 1]! > bounds[s]!)
      targets.set(given.subarray(s * width, (s + 1) * width), (bounds[s + 1]! - 1) * width);
  return targets;
}

function bitsOf(values: Float32Array): Int32Array {
  const bits = new Int32Array(Float32Array.from(values).buffer);
  for (let i = 0; i < bits.length; i++) if (Number.isNaN(values[i])) bits[i] = NO_VALUE;
  return bits;
}
