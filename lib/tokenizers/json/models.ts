// What tokenizer.json's models make of a piece of text: those of Hugging Face tokenizers, as its Rust code has them.
import { StatespaceError, show } from '../../errors.js';
import type { Turns } from '../../turns.js';
import { MergeTable } from '../byte-bpe.js';
import { mergePairs } from '../merge.js';
import { TokenTable } from '../token-table.js';
import { bestPath, PENALTY } from '../unigram.js';
import { byteToken, idsOf, type Part, unknownPart } from './part.js';

export interface Model {
  /** Appends the ids of a piece; hidden: tokens that no text becomes (BPE comes to those by merges alone, which name them). */
  encode(piece: string, out: number[], hidden: ReadonlySet<number>): void;
  /** Tokens by their ids; some may be absent. */
  readonly tokens: readonly (string | undefined)[];
  idOf(token: string): number | undefined;
  /** What stands for what is no token. */
  readonly unknown: number | undefined;
}

/** Of a checked part. */
export async function modelOf(part: Part, turns: Turns): Promise<Model> {
  const { type } = part;
  const isList = Array.isArray(part.vocab);
  if (type === 'Unigram' || (type === undefined && isList)) return unigram(part, turns);
  if (isList) throw unknownPart('vocabulary: a list, of a model', type);
  const vocabulary = await vocabularyOf(part.vocab, turns);
  if (type === 'BPE' || (type === undefined && 'merges' in part)) return bpe(part, vocabulary, turns);
  if (type === 'WordPiece' || (type === undefined && 'continuing_subword_prefix' in part))
    return new WordPiece(part, vocabulary);
  if (type === 'WordLevel' || (type === undefined && 'vocab' in part)) return new WordLevel(part, vocabulary);
  throw unknownPart('model', type);
}

type Ids = ReadonlyMap<string, number>;

interface Vocabulary {
  readonly ids: Ids;
  readonly tokens: readonly (string | undefined)[];
}

async function vocabularyOf(vocab: unknown, turns: Turns): Promise<Vocabulary> {
  const ids = new Map<string, number>();
  const tokens: (string | undefined)[] = [];
  for (const [token, id] of idsOf(vocab)) {
    ids.set(token, id);
    tokens[id] = token;
    const pause = turns.due();
    if (pause) await pause;
  }
  return { ids, tokens };
}

const encoder = new TextEncoder();

/** The tokens of a text's bytes, where there is one for each. */
function bytesAsTokens(text: string, ids: Ids): number[] | undefined {
  const found: number[] = [];
  for (const byte of encoder.encode(text)) {
    const id = ids.get(byteToken(byte));
    if (id === undefined) return undefined;
    found.push(id);
  }
  return found;
}

/** For a text that is no token where none stands for what is unknown; a BPE that names none leaves such text out. */
function noToken(text: string): never {
  const none = 'the tokenizer has none for what is unknown (model.unk_token, unk_id)';
  throw new StatespaceError('ERR_ARGUMENT', `text: expected tokens of tokenizer.json, received ${show(text)}: ${none}`);
}

const CACHED_PIECES = 10_000;
const CACHED_LENGTH = 256;

async function bpe(part: Part, vocabulary: Vocabulary, turns: Turns): Promise<Bpe> {
  const pairs = (part.merges ?? []) as readonly (string | readonly [string, string])[];
  const merges = new MergeTable(pairs.length);
  const prefix = String(part.continuing_subword_prefix ?? '').length;
  for (const pair of pairs) {
    const [left, right] = typeof pair === 'string' ? (pair.split(' ') as [string, string]) : pair;
    const [a, b, both] = [left, right, left + right.slice(prefix)].map((token) => vocabulary.ids.get(token));
    if (a !== undefined && b !== undefined && both !== undefined) merges.add(a, b, both);
    const pause = turns.due();
    if (pause) await pause;
  }
  return new Bpe(part, vocabulary, merges);
}

/** Byte-pair encoding (Sennrich et al. 2016): characters of a piece, joined by the rank of what they make. */
class Bpe implements Model {
  readonly tokens: readonly (string | undefined)[];
  readonly unknown: number | undefined;
  private readonly ids: Ids;
  private readonly cache = new Map<string, readonly number[]>();

  constructor(
    private readonly part: Part,
    { ids, tokens }: Vocabulary,
    private readonly merges: MergeTable,
  ) {
    this.ids = ids;
    this.tokens = tokens;
    if (typeof part.unk_token === 'string') this.unknown = ids.get(part.unk_token);
  }

  idOf(token: string): number | undefined {
    return this.ids.get(token);
  }

  encode(piece: string, out: number[]): void {
    const whole = this.part.ignore_merges ? this.ids.get(piece) : undefined;
    if (whole !== undefined) {
      out.push(whole);
      return;
    }
    const known = this.cache.get(piece);
    const found = known ?? this.merged(piece);
    if (!known && piece.length < CACHED_LENGTH) {
      if (this.cache.size >= CACHED_PIECES) this.cache.clear();
      this.cache.set(piece, found);
    }
    for (const id of found) out.push(id);
  }

  private merged(piece: string): number[] {
    const symbols = this.symbols(piece);
    const pieces = {
      starts: Int32Array.from({ length: symbols.length + 1 }, (_, i) => i),
      ids: Int32Array.from(symbols),
    };
    const found: number[] = [];
    mergePairs(
      pieces,
      (left, right) => this.merges.find(left, right),
      (id) => found.push(id),
    );
    return found;
  }

  private symbols(piece: string): number[] {
    const {
      continuing_subword_prefix: prefix,
      end_of_word_suffix: suffix,
      byte_fallback,
      fuse_unk,
      unk_token,
    } = this.part;
    const characters = Array.from(piece);
    const found: number[] = [];
    let waiting = 0; // unknown tokens that come before the next that is known
    const flush = () => {
      for (; waiting > 0; waiting--) found.push(this.unknown!);
    };
    for (const [i, character] of characters.entries()) {
      const begun = i > 0 && prefix ? `${prefix}${character}` : character;
      const symbol = i === characters.length - 1 && suffix ? `${begun}${suffix}` : begun;
      const id = this.ids.get(symbol);
      if (id !== undefined) {
        flush();
        found.push(id);
        continue;
      }
      const bytes = byte_fallback ? bytesAsTokens(symbol, this.ids) : undefined;
      if (bytes) found.push(...bytes);
      else if (this.unknown !== undefined) waiting = fuse_unk ? 1 : waiting + 1;
      else if (typeof unk_token === 'string') noToken(symbol);
    }
    flush();
    return found;
  }
}

async function unigram({ vocab, unk_id, byte_fallback }: Part, turns: Turns): Promise<Unigram> {
  const entries = vocab as readonly (readonly [string, number])[];
  const ids = new Map<string, number>();
  const table = new TokenTable(entries.length);
  const scores = new Float64Array(entries.length);
  for (const [id, [token, score]] of entries.entries()) {
    // Of equal tokens the first is found.
    table.add(encoder.encode(token), !ids.has(token));
    if (!ids.has(token)) ids.set(token, id);
    scores[id] = score;
    const pause = turns.due();
    if (pause) await pause;
  }
  const tokens = entries.map(([token]) => token);
  return new Unigram({ ids, tokens }, table, scores, unk_id as number | undefined, byte_fallback === true);
}

/** SentencePiece's unigram model (Kudo 2018), in double precision. */
class Unigram implements Model {
  readonly tokens: readonly (string | undefined)[];
  private readonly ids: Ids;
  private readonly unknownScore: number;

  constructor(
    { ids, tokens }: Vocabulary,
    private readonly table: TokenTable,
    private readonly scores: Float64Array,
    readonly unknown: number | undefined,
    private readonly byteFallback: boolean,
  ) {
    this.ids = ids;
    this.tokens = tokens;
    this.unknownScore = scores.reduce((a, b) => Math.min(a, b), Infinity) - PENALTY;
  }

  idOf(token: string): number | undefined {
    return this.ids.get(token);
  }

  encode(piece: string, out: number[], hidden: ReadonlySet<number>): void {
    const bytes = Buffer.from(piece);
    const path = bestPath(bytes, this.table, this.scores, this.unknownScore, Float64Array, hidden);
    for (let i = 0; i < path.length; i++) {
      const { id, start } = path[i]!;
      if (!this.isUnknown(id)) {
        out.push(id);
        continue;
      }
      // A run of what is unknown counts as one.
      while (i + 1 < path.length && this.isUnknown(path[i + 1]!.id)) i++;
      this.pushUnknown(bytes.toString('utf8', start, path[i]!.end), out);
    }
  }

  private isUnknown(id: number): boolean {
    return id < 0 || id === this.unknown;
  }

  private pushUnknown(text: string, out: number[]): void {
    const whole = this.ids.get(text);
    const bytes = whole === undefined && this.byteFallback ? bytesAsTokens(text, this.ids) : undefined;
    if (bytes) out.push(...bytes);
    else out.push(whole ?? this.unknown ?? noToken(text));
  }
}

/** WordPiece (Schuster & Nakajima 2012): the longest token at each place, or the unknown one for the whole word. */
class WordPiece implements Model {
  readonly tokens: readonly (string | undefined)[];
  readonly unknown: number | undefined;
  private readonly ids: Ids;
  private readonly prefix: string;
  private readonly most: number;

  constructor(part: Part, { ids, tokens }: Vocabulary) {
    this.ids = ids;
    this.tokens = tokens;
    this.prefix = String(part.continuing_subword_prefix ?? '##');
    this.most = Number(part.max_input_chars_per_word ?? 100);
    this.unknown = ids.get(String(part.unk_token ?? '[UNK]'));
  }

  idOf(token: string): number | undefined {
    return this.ids.get(token);
  }

  encode(piece: string, out: number[], hidden: ReadonlySet<number>): void {
    const characters = Array.from(piece);
    const found = characters.length > this.most ? undefined : this.cut(characters, hidden);
    if (found) out.push(...found);
    else out.push(this.unknown ?? noToken(characters.join('')));
  }

  private cut(characters: readonly string[], hidden: ReadonlySet<number>): number[] | undefined {
    const found: number[] = [];
    for (let start = 0; start < characters.length; ) {
      let end = characters.length;
      let id: number | undefined;
      for (; end > start; end--) {
        const text = characters.slice(start, end).join('');
        id = this.ids.get(start > 0 ? this.prefix + text : text);
        if (id !== undefined && !hidden.has(id)) break;
        id = undefined;
      }
      if (id === undefined) return undefined;
      found.push(id);
      start = end;
    }
    return found;
  }
}

class WordLevel implements Model {
  readonly tokens: readonly (string | undefined)[];
  readonly unknown: number | undefined;
  private readonly ids: Ids;

  constructor(part: Part, { ids, tokens }: Vocabulary) {
    this.ids = ids;
    this.tokens = tokens;
    this.unknown = ids.get(String(part.unk_token ?? '<unk>'));
  }

  idOf(token: string): number | undefined {
    return this.ids.get(token);
  }

  encode(piece: string, out: number[], hidden: ReadonlySet<number>): void {
    const found = this.ids.get(piece);
    out.push((found === undefined || hidden.has(found) ? this.unknown : found) ?? noToken(piece));
  }
}
