// The tokens of a file as a tokenizer.json spells them, and what its merges or scores join.
import { kinds } from '../../../tokenizers/vocabulary.js';
import { sorted, type Turns } from '../../../turns.js';
import { characterOf, rawBytes } from '../byte-alphabet.js';
import type { TokenizerKeys } from '../tokenizer-keys.js';

export interface Words {
  /** By their ids; undefined for one whose spelling another id has. */
  readonly texts: readonly (string | undefined)[];
  readonly ids: ReadonlyMap<string, number>;
}

/** Texts as they are; of byte-level BPE's words those that are not spelled in its alphabet, in that. Of equal ones the last is found, but words before marks. */
export async function wordsOf(keys: TokenizerKeys, turns: Turns): Promise<Words> {
  const isBytes = keys.kind === 'gpt2';
  const isWord = (id: number) => !isBytes || (!keys.isPlain(id) && keys.types[id] !== kinds.unused);
  const texts: (string | undefined)[] = [];
  const ids = new Map<string, number>();
  const room = new Uint8Array(keys.list.stringBytes);
  for (const token = keys.list.strings(); token.next(); ) {
    const id = texts.length;
    const { bytes, start, end } = token;
    const isSpelled = !(isBytes && isWord(id)) || rawBytes(bytes, start, end, room) >= 0;
    const text = isSpelled ? token.text() : spelled(bytes.subarray(start, end));
    texts.push(text);
    if (isWord(id)) ids.set(text, id);
    const pause = turns.due();
    if (pause) await pause;
  }
  for (const [id, text] of texts.entries()) {
    if (text === '' || (ids.get(text!) ?? id) !== id) texts[id] = undefined;
    else ids.set(text!, id);
    const pause = turns.due();
    if (pause) await pause;
  }
  return { texts, ids };
}

const spelled = (bytes: Uint8Array): string => String.fromCodePoint(...Array.from(bytes, (byte) => characterOf[byte]!));

/** Merges of byte-level BPE whose parts and whole are words, each once. */
export async function* mergesOf(keys: TokenizerKeys, { ids }: Words, turns: Turns): AsyncGenerator<[string, string]> {
  const isWord = (text: string) => {
    const id = ids.get(text);
    return id !== undefined && !keys.isPlain(id) && keys.types[id] !== kinds.unused;
  };
  const seen = new Set<string>();
  for (const merge = keys.merges().strings(); merge.next(); ) {
    const pause = turns.due();
    if (pause) await pause;
    const text = merge.text();
    const space = text.indexOf(' ', 1);
    const [left, right] = [text.slice(0, space), text.slice(space + 1)];
    if (space < 0 || seen.has(text) || !isWord(left) || !isWord(right) || !isWord(left + right)) continue;
    seen.add(text);
    yield [left, right];
  }
}

/** Where the parts of a text may be cut in two: between its characters. */
function* cuts(text: string): Generator<[string, string]> {
  for (let at = 0; at < text.length; ) {
    at += text.codePointAt(at)! > 0xffff ? 2 : 1;
    if (at < text.length) yield [text.slice(0, at), text.slice(at)];
  }
}

/** What SentencePiece's BPE may make of others, the highest score first. */
async function madeWords(keys: TokenizerKeys, { texts }: Words, scores: Float32Array, turns: Turns): Promise<number[]> {
  const silent: ReadonlySet<number> = new Set([kinds.control, kinds.unknown, kinds.byte]);
  const made: number[] = [];
  for (let id = 0; id < texts.length; id++) if (texts[id] !== undefined && !silent.has(keys.types[id]!)) made.push(id);
  return sorted(made, (a, b) => scores[b]! - scores[a]! || a - b, turns);
}

/**
 * Whether merges say what scores say: no two words that are made of others have the same score, and all characters of words are
 * words, as those are what merges begin with.
 */
export async function isMerged(keys: TokenizerKeys, words: Words, turns: Turns): Promise<boolean> {
  const scores = keys.scores();
  const { texts, ids } = words;
  let last = Number.NaN;
  for (const id of await madeWords(keys, words, scores, turns)) {
    const text = texts[id]!;
    if (keys.types[id] !== kinds.normal) continue;
    if ([...text].some((character) => !ids.has(character))) return false;
    if ([...cuts(text)].some(([left, right]) => ids.has(left) && ids.has(right))) {
      if (scores[id] === last) return false;
      last = scores[id]!;
    }
    const pause = turns.due();
    if (pause) await pause;
  }
  return true;
}

/**
 * SentencePiece's BPE joins what makes the token of the highest score; merges name the parts as well, in one order: every way to
 * make a token of two, tokens by their scores. Of equal scores the first token goes first, where SentencePiece goes by the place
 * in the text.
 */
export async function* scoredMerges(
  keys: TokenizerKeys,
  { texts, ids }: Words,
  turns: Turns,
): AsyncGenerator<[string, string]> {
  for (const id of await madeWords(keys, { texts, ids }, keys.scores(), turns)) {
    for (const [left, right] of cuts(texts[id]!)) if (ids.has(left) && ids.has(right)) yield [left, right];
    const pause = turns.due();
    if (pause) await pause;
  }
}
