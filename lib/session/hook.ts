import { mismatch } from '../errors.js';
import { call, type NativeHandle } from '../native.js';
import type { GenerateOptions } from './generation.js';
import { highest, logSumExp } from './likeliest.js';
import type { Chosen, Sampler } from './sampler.js';

// Loaded at its first use.
const lazyMasks = (): typeof import('../grammar/mask.js') => require('../grammar/mask.js');

/** What a hook's choice is made of: the row of logits, which is changed, and what it follows. */
export interface HookedRow {
  row: Float32Array;
  /** Ids below it can be chosen. */
  vocabSize: number;
  /** All of the sequence so far. */
  tokens: Int32Array;
  /** Of the ids that may come next. */
  mask?: Int32Array;
  choose(row: Float32Array): number;
}

/** The token that is chosen of a row which the caller's processLogits has changed. */
export function chooseByHook(
  { processLogits, logprobs }: Pick<GenerateOptions, 'processLogits' | 'logprobs'>,
  { row, vocabSize, tokens, mask, choose }: HookedRow,
): Chosen {
  const raw = row.slice(0, vocabSize);
  checkReturned(processLogits!(row, Array.from(tokens)));
  if (mask) lazyMasks().applyMask(row, mask);
  const token = choose(row);
  const sum = logSumExp(raw);
  const chosen: Chosen = { token, logprob: raw[token]! - sum };
  if (logprobs) chosen.alternatives = highest(raw, logprobs).map((id) => ({ token: id, logprob: raw[id]! - sum }));
  return chosen;
}

/** The row is read as soon as the hook returns: what it does later would be lost without a word. */
function checkReturned(returned: unknown): void {
  if (typeof (returned as Promise<void> | undefined)?.then !== 'function') return;
  Promise.resolve(returned).catch(() => {}); // this call fails already
  throw mismatch(
    'ERR_ARGUMENT',
    'generate: processLogits',
    'a function that has changed the row when it returns',
    'a promise',
  );
}

/** The same of a session that has just read all of its sequence. */
export function chooseOfSession(
  chooser: { options: Pick<GenerateOptions, 'processLogits' | 'logprobs'>; sampler: Sampler; vocabSize: number },
  row: Float32Array,
  session: NativeHandle,
  mask: Int32Array | undefined,
): Chosen {
  const { options, sampler, vocabSize } = chooser;
  const tokens = call((n) => n.sessionTokens(session, 0));
  const choose = (changed: Float32Array) => call((n) => n.sampleRow(sampler.handle, session, changed));
  return chooseByHook(options, { row, vocabSize, tokens, ...(mask && { mask }), choose });
}
