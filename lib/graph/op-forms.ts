// Ops as training has them: over whole sequences, and by their names.
import { StatespaceError } from '../errors.js';
import { type OpDescription, type OpField, opCatalog } from './catalog.js';

/** The op that gives the same of whole sequences and needs no state or cache, where there is one. */
export const overWhole = (op: OpDescription): OpDescription => (op.whole ? describe(op.whole) : op);

/** Recurrences go by chunks, which keep what their gradients take: the same bits whether they do or not. */
export function inChunks(op: OpDescription): Record<string, number> {
  const mode = op.attrs.find((a) => a.name === 'mode')?.choices.indexOf('chunked') ?? -1;
  return mode >= 0 && op.gradient ? { mode } : {};
}

export const isRead = (f: OpField): boolean => f.kind === 'in' || f.kind === 'optional';

export function describe(name: string): OpDescription {
  const op = opCatalog().get(name);
  if (!op) throw new StatespaceError('ERR_ARGUMENT', `graph: unknown op '${name}'`);
  return op;
}

export const defaults = (name: string): Record<string, number> =>
  Object.fromEntries(describe(name).attrs.map((a) => [a.name, a.default]));
