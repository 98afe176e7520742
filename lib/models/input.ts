/** What a forward is given, checked before native code reads it. */
import { mismatch, show } from '../errors.js';
import type { Graph } from '../graph/graph.js';
import { allocated } from '../memory.js';
import { call, type NativeHandle } from '../native.js';
import { Tensor, type TensorLike } from '../tensor.js';

const MOST_TOKENS = 2 ** 31 - 1;

/** Token ids, of a network with `rows` of them. `where`: what they were given as. */
export function readIds(tokens: ArrayLike<number> | TensorLike, rows: number, where: string): Int32Array {
  if (typeof tokens !== 'object' || tokens === null || typeof (tokens as ArrayLike<number>).length !== 'number')
    throw mismatch(
      'ERR_ARGUMENT',
      where,
      'an array of token ids',
      typeof tokens === 'string' ? `a text, ${show(tokens)} (model.tokenizer.encode() gives its ids)` : show(tokens),
    );
  const list = tokens as ArrayLike<number>;
  const { length } = list;
  if (!(Number.isInteger(length) && length >= 0 && length <= MOST_TOKENS))
    throw mismatch('ERR_ARGUMENT', where, `from 0 to ${MOST_TOKENS} ids`, `a length of ${length}`);
  const ids = allocated(where, () => new Int32Array(length));
  for (let i = 0; i < length; i++) {
    const given: unknown = list[i];
    const id = typeof given === 'bigint' ? Number(given) : given;
    if (!(typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < rows)) {
      throw mismatch('ERR_ARGUMENT', `${where}[${i}]`, `an id from 0 to ${rows - 1}`, show(list[i]));
    }
    ids[i] = id;
  }
  return ids;
}

/** Rows of so many features. */
export function readRows(x: ArrayLike<number> | TensorLike, features: number): Float32Array {
  const t = x as Partial<TensorLike>;
  const wanted = `rows of ${features} features, shape (L, ${features})`;
  if (!t?.data || !t.shape || t.shape[t.shape.length - 1] !== features) {
    throw mismatch('ERR_SHAPE', 'forward: x', wanted, t?.shape ? `(${t.shape.join(', ')})` : show(x));
  }
  return new Tensor(t.data, t.shape, t.dtype).toFloat32Array();
}

/** What is expected of sequences where rotations depend on their length. */
export const atMost = ({ tokens, of }: NonNullable<Graph['longest']>): string =>
  `at most ${tokens} tokens, for which ${of} turns as it does here (load the model with contextLength for longer ones)`;

/** ERR_ARGUMENT where a sequence would become longer than what the network's rotations hold for. */
export function checkLengths(
  longest: NonNullable<Graph['longest']>,
  sessions: readonly NativeHandle[],
  lengths: readonly number[],
): void {
  for (const [i, session] of sessions.entries()) {
    const { position } = call((n) => n.sessionInfo(session));
    const after = position + lengths[i]!;
    if (after <= longest.tokens) continue;
    throw mismatch('ERR_ARGUMENT', 'session', atMost(longest), `${lengths[i]} after ${position}`);
  }
}
