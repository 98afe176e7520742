import { mismatch, StatespaceError, show } from '../errors.js';
import { withBuffer } from '../memory.js';
import { tagOf } from '../tensor.js';
import type { Input, Rule } from './check.js';

const mostTokens = 2 ** 31 - 1;
const mostSequences = 2 ** 26;

/**
 * Bounds of the sequences of a call: the caller's cuSeqlens (packed, B = 1), or B times length L. Binds S, their number.
 * The values are copied: kernels use them as addresses, so nobody may change them during an asynchronous call.
 */
export const sequences: Rule<Input> = (value, where, sizes) => {
  const [batch, length] = sizes.all('B', 'L');
  const bounds =
    value === undefined || value === null ? equal(sizes.op, batch, length) : packed(value, where, batch, length);
  sizes.bind('S', bounds.length - 1);
  return vector(bounds);
};

/** Of whatever realm. */
function isInt32(value: unknown): value is Int32Array {
  return tagOf(value) === 'Int32Array';
}

/** i32 values as a native tensor. */
export function vector(data: Int32Array): Input {
  return { data: withBuffer(data), shape: [data.length], dtype: 'i32' };
}

/** 0, length, 2·length … for `batch` sequences. */
export function equal(op: string, batch: number, length: number): Int32Array {
  if (batch * length > mostTokens || batch > mostSequences)
    throw mismatch(
      'ERR_SHAPE',
      op,
      `at most ${mostTokens} tokens of ${mostSequences} sequences`,
      `${batch} × ${length}`,
    );
  return Int32Array.from({ length: batch + 1 }, (_, s) => s * length);
}

function packed(value: unknown, where: string, batch: number, length: number): Int32Array {
  if (!isInt32(value)) throw mismatch('ERR_ARGUMENT', where, 'an Int32Array', show(value));
  if (batch !== 1) throw mismatch('ERR_SHAPE', where, 'packed sequences in a batch of 1', `a batch of ${batch}`);
  if (length > mostTokens) throw mismatch('ERR_SHAPE', where, `at most ${mostTokens} tokens`, String(length));
  const bounds = Int32Array.from(value);
  const wanted = `at least two offsets that start at 0, never fall and end at L=${length}`;
  const falls = bounds.some((b, i) => i > 0 && b < bounds[i - 1]!);
  if (bounds.length < 2 || bounds[0] !== 0 || bounds.at(-1) !== length || falls)
    throw mismatch('ERR_ARGUMENT', where, wanted, show([...bounds.subarray(0, 9)]));
  return bounds;
}

/** Positions of rope, (B·L) or (L), as one per token; 0 … L-1 in every sequence when absent. Copied. */
export const positions: Rule<Input> = (value, where, sizes) => {
  const [batch, length] = sizes.all('B', 'L');
  equal(sizes.op, batch, length);
  if (value === undefined || value === null) return vector(new Int32Array(batch * length).map((_, t) => t % length));
  if (!isInt32(value)) throw mismatch('ERR_ARGUMENT', where, 'an Int32Array', show(value));
  if (value.length === batch * length) return vector(Int32Array.from(value));
  if (value.length !== length)
    throw mismatch('ERR_SHAPE', where, `${length} or ${batch * length} positions`, String(value.length));
  return vector(new Int32Array(batch * length).map((_, t) => value[t % length]!));
};

/** For counts that share in groups: `count` must be a multiple of `groups`. */
export function requireMultiple(op: string, name: string, count: number, groupsName: string, groups: number): void {
  if (count % groups !== 0)
    throw new StatespaceError('ERR_SHAPE', `${op}: ${name}=${count} is no multiple of ${groupsName}=${groups}`);
}
