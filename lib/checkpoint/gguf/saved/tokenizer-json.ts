// tokenizer.json of a GGUF file's tokenizer, piece by piece: lists of 128k tokens take long, and the event loop turns meanwhile.
import { kinds } from '../../../tokenizers/vocabulary.js';
import type { Turns } from '../../../turns.js';
import type { TokenizerKeys } from '../tokenizer-keys.js';
import { byteLevel, type Definition, sentencePiece, unigram } from './definition.js';
import { mergesOf, scoredMerges, type Words } from './words.js';

export async function* tokenizerJson(keys: TokenizerKeys, words: Words, turns: Turns): AsyncGenerator<string> {
  const { model, ...parts } = definitionOf(keys, words);
  const added = addedTokens(keys, words);
  yield `{"version":"1.0","truncation":null,"padding":null,"added_tokens":[`;
  yield* listed(added.map(asJson), turns);
  const post_processor = markProcessor(keys, words);
  yield `],${asJson({ ...parts, post_processor }).slice(1, -1)},"model":{${asJson(model).slice(1, -1)},"vocab":`;
  if (keys.kind === 't5') {
    yield '[';
    yield* listed(scoredPieces(keys, words), turns);
    yield ']}}\n';
    return;
  }
  yield '{';
  yield* listed(vocabulary(words, added), turns);
  yield '},"merges":[';
  yield* listed(jsonOf(keys.kind === 'gpt2' ? mergesOf(keys, words, turns) : scoredMerges(keys, words, turns)), turns);
  yield ']}}\n';
}

const asJson = (value: unknown): string => JSON.stringify(value);

async function* jsonOf(values: AsyncIterable<unknown>): AsyncGenerator<string> {
  for await (const value of values) yield asJson(value);
}

const RUN = 1024;

/** The items with commas between them, a thousand at a time. */
async function* listed(items: Iterable<string> | AsyncIterable<string>, turns: Turns): AsyncGenerator<string> {
  let run: string[] = [];
  let before = '';
  for await (const item of items) {
    run.push(item);
    if (run.length < RUN) continue;
    yield before + run.join();
    [run, before] = [[], ','];
    const pause = turns.due();
    if (pause) await pause;
  }
  if (run.length > 0) yield before + run.join();
}

function definitionOf(keys: TokenizerKeys, { texts, ids }: Words): Definition {
  if (keys.kind === 'gpt2') return byteLevel(keys);
  if (keys.kind === 't5') return unigram(keys);
  const unknown = keys.unknown();
  const isByte = (byte: number) => ids.has(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
  const fallsBack = Array.from({ length: 256 }, (_, byte) => isByte(byte)).some((found) => found);
  return sentencePiece(keys, unknown === undefined ? undefined : texts[unknown], fallsBack);
}

interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
}

/** Those that are found before a text is cut, each text once. */
export function addedTokens(keys: TokenizerKeys, { texts }: Words): AddedToken[] {
  const plain = { single_word: false, lstrip: false, normalized: false };
  const added: AddedToken[] = [];
  for (let id = 0; id < texts.length; id++) {
    const content = texts[id];
    if (content === undefined || !keys.isPlain(id)) continue;
    const [rstrip, special] = [keys.takesSpaceBehind(content), keys.types[id] !== kinds.userDefined];
    added.push({ ...{ id, content, ...plain }, rstrip, special } as AddedToken);
  }
  return added;
}

/**
 * Every token that has an id in the model: Hugging Face tokenizers counts those of added tokens on behind the words, whatever id
 * stands beside them. So added ones stay out of it only where they are the last, with no id without a token before.
 */
function* vocabulary({ texts }: Words, added: readonly AddedToken[]): Generator<string> {
  const isAdded = new Set(added.map(({ id }) => id));
  let size = texts.length;
  while (size > 0 && isAdded.has(size - 1)) size--;
  if (texts.slice(0, size).includes(undefined)) size = texts.length;
  for (let id = 0; id < size; id++) if (texts[id] !== undefined) yield `${asJson(texts[id])}:${id}`;
}

/** Unused tokens get a space, which no text has by then, and the worst score: a worse one would make unknown characters dearer. */
function* scoredPieces(keys: TokenizerKeys, { texts }: Words): Generator<string> {
  const scores = keys.scores();
  const worst = scores.reduce(
    (least, score, id) => (keys.types[id] === kinds.normal ? Math.min(least, score) : least),
    0,
  );
  for (const [id, text] of texts.entries()) {
    const isUnused = text === undefined || keys.types[id] === kinds.unused;
    yield asJson(isUnused ? [` ${text ?? `[PAD${id}]`}`, worst] : [text, scores[id]]);
  }
}

/** The marks of beginning and end. */
function markProcessor(keys: TokenizerKeys, { texts }: Words): object | null {
  const { bos, eos } = keys.marks();
  const named = [bos, eos].filter((id) => id !== undefined && texts[id] !== undefined) as number[];
  if (named.length === 0) return null;
  const mark = (id: number | undefined, type_id: number) =>
    id !== undefined && texts[id] !== undefined ? [{ SpecialToken: { id: texts[id], type_id } }] : [];
  const marked = (name: string, type_id: number) => [
    ...mark(bos, type_id),
    { Sequence: { id: name, type_id } },
    ...mark(eos, type_id),
  ];
  const special_tokens = Object.fromEntries(
    named.map((id) => [texts[id], { id: texts[id], ids: [id], tokens: [texts[id]] }]),
  );
  return {
    type: 'TemplateProcessing',
    single: marked('A', 0),
    pair: [...marked('A', 0), ...marked('B', 1)],
    special_tokens,
  };
}
