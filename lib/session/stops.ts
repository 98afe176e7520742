import { mismatch, StatespaceError, show } from '../errors.js';
import type { FinishReason } from './generation.js';
import type { Network } from './network.js';

/** What ends a text. */
export interface Stops {
  /** Token ids, which reason that is, and which of `stop` (or which eos token) each is. */
  readonly ids: ReadonlyMap<number, { reason: FinishReason; by: string | number }>;
  readonly texts: readonly string[];
  /** Special tokens that a stop text spells beside other characters: no part of any text, though they lead to its end. */
  readonly spelled: ReadonlyMap<number, string>;
}

/** Characters of the longest special token that is looked for in a stop text, and of the longest text that is searched. */
const LONGEST = 100;
const SEARCHED = 256;

/** ERR_ARGUMENT for a `stop` that is no list of the vocabulary's ids and of texts, and for texts where there is no tokenizer. */
export function readStops({ tokenizer, eosTokens, vocabSize }: Network, stop: unknown): Stops {
  if (!Array.isArray(stop) || !stop.every((s) => typeof s === 'string' || Number.isInteger(s)))
    throw mismatch('ERR_ARGUMENT', 'generate: stop', 'an array of token ids and texts', show(stop));
  if (stop.includes('')) throw mismatch('ERR_ARGUMENT', 'generate: stop', 'texts of at least one character', show(''));
  const strange = stop.find((s) => typeof s === 'number' && !(s >= 0 && s < vocabSize));
  if (strange !== undefined)
    throw mismatch('ERR_ARGUMENT', 'generate: stop', `ids from 0 to ${vocabSize - 1}`, show(strange));
  const texts = (stop as (string | number)[]).filter((s) => typeof s === 'string');
  if (texts.length > 0 && !tokenizer)
    throw new StatespaceError(
      'ERR_ARGUMENT',
      'generate: stop: texts need a tokenizer in the model folder; give token ids',
    );
  const special = (text: string) => tokenizer?.specialToken?.(text);
  const ids = new Map<number, { reason: FinishReason; by: string | number }>();
  for (const id of eosTokens) ids.set(id, { reason: 'eos', by: id });
  for (const by of stop as (string | number)[]) {
    const id = typeof by === 'number' ? by : special(by);
    if (id !== undefined) ids.set(id, { reason: 'stop', by });
  }
  const spelled = new Map<number, string>();
  for (const text of texts.filter(({ length }) => length <= SEARCHED))
    for (let from = 0; from < text.length; from++)
      for (let to = Math.min(text.length, from + LONGEST); to > from; to--) {
        const part = text.slice(from, to);
        const id = special(part);
        if (id !== undefined && !ids.has(id)) spelled.set(id, part);
      }
  return { ids, texts, spelled };
}
