/** Byte-level BPE learnt from texts (Sennrich et al. 2016; Radford et al. 2019): the pair that is there most often becomes a token. */
import { byteTokenizer } from './byte-tokenizer.js';

/** GPT-2's pieces, within which pairs are counted; what `use_regex` of a ByteLevel pre-tokenizer means. */
const PIECES = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

interface Word {
  ids: number[];
  readonly count: number;
}

/** Pairs of neighbours as one number: ids stay below 2¹⁶. */
const pairOf = (left: number, right: number): number => left * 65_536 + right;

/** How often each piece is there, as bytes. */
function countPieces(texts: readonly string[]): Word[] {
  const counts = new Map<string, number>();
  for (const text of texts)
    for (const [piece] of text.matchAll(PIECES)) counts.set(piece, (counts.get(piece) ?? 0) + 1);
  return [...counts].map(([piece, count]) => ({ ids: [...Buffer.from(piece, 'utf8')], count }));
}

/** The pairs of words, and in which words each is. */
class Pairs {
  readonly counts = new Map<number, number>();
  private readonly words = new Map<number, Set<Word>>();

  add(word: Word, sign: 1 | -1): void {
    for (let i = 0; i + 1 < word.ids.length; i++) {
      const pair = pairOf(word.ids[i]!, word.ids[i + 1]!);
      const count = (this.counts.get(pair) ?? 0) + sign * word.count;
      if (count > 0) this.counts.set(pair, count);
      else this.counts.delete(pair);
      if (sign < 0) continue;
      const words = this.words.get(pair);
      if (words) words.add(word);
      else this.words.set(pair, new Set([word]));
    }
  }

  /** The most frequent; of equal ones the smallest, so that a text gives one tokenizer alone. */
  best(): number | undefined {
    let [best, most] = [-1, 1];
    for (const [pair, count] of this.counts)
      if (count > most || (count === most && pair < best)) [best, most] = [pair, count];
    return best < 0 ? undefined : best;
  }

  /** Puts `id` for the pair in every word that has it. */
  merge(pair: number, id: number): void {
    for (const word of this.words.get(pair) ?? []) {
      this.add(word, -1);
      const merged: number[] = [];
      for (let i = 0; i < word.ids.length; i++) {
        const joins = i + 1 < word.ids.length && pairOf(word.ids[i]!, word.ids[i + 1]!) === pair;
        merged.push(joins ? id : word.ids[i]!);
        if (joins) i++;
      }
      word.ids = merged;
      this.add(word, 1);
    }
    this.words.delete(pair);
  }
}

/** Files of a tokenizer of at most `size` tokens, 256 of them the bytes: fewer where the texts have no pair twice any more. */
export function learnTokenizer(texts: readonly string[], size: number): Record<string, object> {
  const files = byteTokenizer() as { 'tokenizer.json': { model: object } };
  const definition = files['tokenizer.json'] as {
    pre_tokenizer: object;
    model: { vocab: Record<string, number>; merges: [string, string][] };
  };
  const { vocab, merges } = definition.model;
  const names: string[] = []; // by id: an object's keys come in another order
  for (const [name, id] of Object.entries(vocab)) names[id] = name;
  const pairs = new Pairs();
  for (const word of countPieces(texts)) pairs.add(word, 1);
  while (names.length < size) {
    const pair = pairs.best();
    if (pair === undefined) break;
    const [left, right] = [names[Math.floor(pair / 65_536)]!, names[pair % 65_536]!];
    merges.push([left, right]);
    // Two pairs may spell one token.
    const known = vocab[left + right];
    pairs.merge(pair, known ?? names.length);
    if (known !== undefined) continue;
    vocab[left + right] = names.length;
    names.push(left + right);
  }
  definition.pre_tokenizer = { ...definition.pre_tokenizer, use_regex: true };
  return files;
}
