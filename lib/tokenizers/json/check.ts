import { show } from '../../errors.js';
import type { Turns } from '../../turns.js';
import { idsOf } from './part.js';
import type { Definition } from './tokenizer.js';

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const isId = (value: unknown): boolean => Number.isInteger(value) && Number(value) >= 0 && Number(value) < 2 ** 31;

const wrong = (what: string, expected: string, received: unknown): Error =>
  new Error(`${what}: expected ${expected}, received ${show(received)}`);

/** Throws Errors that name what is no part of a tokenizer.json. */
export async function checkDefinition(json: object, turns: Turns): Promise<Definition> {
  const { model, added_tokens = [] } = json as Definition;
  if (!isObject(model)) throw wrong('model', 'an object', model);
  if (model.type === 'Unigram' && !Array.isArray(model.vocab)) throw wrong('model.vocab', 'a list', model.vocab);
  if ('vocab' in model) await checkVocabulary(model.vocab, turns);
  const { merges } = model;
  const isPair = (pair: unknown) =>
    (typeof pair === 'string' && pair.includes(' ')) ||
    (Array.isArray(pair) && pair.length === 2 && pair.every((t) => typeof t === 'string'));
  if (merges !== undefined && !Array.isArray(merges)) throw wrong('model.merges', 'a list', merges);
  for (const [i, pair] of (merges ?? []).entries()) {
    if (!isPair(pair)) throw wrong(`model.merges[${i}]`, 'two tokens', pair);
    const pause = turns.due();
    if (pause) await pause;
  }
  if (!Array.isArray(added_tokens)) throw wrong('added_tokens', 'a list', added_tokens);
  for (const [i, token] of added_tokens.entries())
    if (!isObject(token) || typeof token.content !== 'string' || !isId(token.id))
      throw wrong(`added_tokens[${i}]`, 'an object with id and content', token);
  return json as Definition;
}

/** Ids by tokens, or tokens with their scores. */
async function checkVocabulary(vocab: unknown, turns: Turns): Promise<void> {
  if (Array.isArray(vocab)) {
    for (const [i, entry] of vocab.entries()) {
      if (!Array.isArray(entry) || typeof entry[0] !== 'string' || typeof entry[1] !== 'number')
        throw wrong(`model.vocab[${i}]`, 'a token and its score', entry);
      const pause = turns.due();
      if (pause) await pause;
    }
    return;
  }
  if (!isObject(vocab)) throw wrong('model.vocab', 'an object or a list', vocab);
  for (const [token, id] of idsOf(vocab)) {
    if (!isId(id)) throw new Error(`model.vocab: ${show(token)}: expected an id from 0 on, received ${show(id)}`);
    const pause = turns.due();
    if (pause) await pause;
  }
}
