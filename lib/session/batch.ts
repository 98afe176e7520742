import { checkCall } from '../cancellation.js';
import { StatespaceError, show } from '../errors.js';
import type { NativeHandle } from '../native.js';
import { checkKnown } from '../options.js';
import { Tensor, type TensorLike } from '../tensor.js';
import type { Network } from './network.js';
import { type ForwardOptions, Session } from './session.js';

/** One sequence of a batch. */
export interface BatchEntry {
  session: Session;
  /** As for Session.forward(): token ids, or rows of a network's features. */
  tokens: ArrayLike<number> | TensorLike;
  /** Rows of logits to return for it: of its last token (default), of all, or none. */
  logits?: 'last' | 'all' | 'none' | undefined;
}

/** Checks a batch whole before anything runs, then feeds it in one native call; see Model.forwardBatch(). */
export async function forwardBatch(
  model: Network,
  entries: readonly BatchEntry[],
  options: Pick<ForwardOptions, 'signal' | 'onProgress'>,
): Promise<Tensor[]> {
  if (!Array.isArray(entries)) {
    throw new StatespaceError(
      'ERR_ARGUMENT',
      `forwardBatch: expected an array of { session, tokens }, received ${show(entries)}`,
    );
  }
  checkCall('forwardBatch', options);
  checkKnown('forwardBatch', options, ['signal', 'onProgress']);
  const seen = new Set<Session>();
  const parts = entries.map((entry, i) => {
    const at = `forwardBatch: [${i}]`;
    const { session, tokens, logits = 'last' } = entry ?? {};
    if (typeof entry === 'object' && entry !== null) checkKnown(at, entry, ['session', 'tokens', 'logits']);
    if (!(session instanceof Session) || session.model !== model)
      throw new StatespaceError(
        'ERR_ARGUMENT',
        `${at}: session: expected one of this model, received ${show(session)}`,
      );
    if (seen.has(session))
      throw new StatespaceError('ERR_ARGUMENT', `${at}: session: it is in this batch already; join its tokens`);
    if (!['last', 'all', 'none'].includes(logits))
      throw new StatespaceError('ERR_ARGUMENT', `${at}: logits: expected last, all or none, received ${show(logits)}`);
    seen.add(session);
    return { session, data: model.readInput(tokens), logits };
  });
  options.signal?.throwIfAborted();
  if (parts.length === 0) return [];
  const sessions = parts.map((p) => p.session);
  const run = async (handles: NativeHandle[]) => {
    const data = joined(parts.map((p) => p.data));
    const lengths = parts.map((p) => p.data.length / model.inputWidth);
    const logits = parts.map((p) => p.logits);
    const rows = await Session.restoring(sessions, handles, options, () =>
      model.forwardApart(handles, data, lengths, logits, options),
    );
    const width = model.outputFeatures;
    return rows.map((values) => new Tensor(values, [values.length / width, width]));
  };
  return Session.together(sessions, run, options.signal);
}

function joined(parts: (Int32Array | Float32Array)[]): Int32Array | Float32Array {
  const total = parts.reduce((n, p) => n + p.length, 0);
  const all = parts[0] instanceof Float32Array ? new Float32Array(total) : new Int32Array(total);
  let at = 0;
  for (const p of parts) {
    all.set(p, at);
    at += p.length;
  }
  return all;
}
