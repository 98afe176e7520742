// What tokenizer.json's models make of a piece of text: those of Hugging Face tokenizers, as its Rust code has them.
import { MergeTable } from '../byte-bpe.js';
import { mergePairs } from '../merge.js';
import { TokenTable } from '../token-table.js';
import { bestPath } from '../unigram.js';
import { byteToken, type Part, unknownPart } from './part.js';

export interface Model {
  /** Appends the ids of a piece. */
  encode(piece: string, out: number[]): void;
  /** Tokens by their ids; some may be absent. */
  readonly tokens: readonly (string | undefined)[];
}

export function modelOf(part: Part): Model {
  const { type } = part;
  if (type === 'BPE' || (type === undefined && 'merges' in part)) return new Bpe(part);
  if (type === 'Unigram' || (type === undefined && Array.isArray(part.vocab))) return new Unigram(part);
  if (type === 'WordPiece' || (type === undefined && 'continuing_subword_prefix' in part)) return new WordPiece(part);
  if (type === 'WordLevel' || (type === undefined && 'vocab' in part)) return new WordLevel(part);
  throw unknownPart('model', type);
}

type Ids = ReadonlyMap<string, number>;

const vocabulary = (vocab: unknown): Ids => new Map(Object.entries((vocab ?? {}) as Record<string, number>));

function listed(ids: Ids): (string | undefined)[] {
  const tokens: (string | undefined)[] = [];
  for (const [token, id] of ids) tokens[id] = token;
  return tokens;
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

const CACHED_PIECES = 10_000;
const CACHED_LENGTH = 256;

/** Byte-pair encoding (Sennrich et al. 2016): characters of a piece, joined by the rank of what they make. */
class Bpe implements Model {
  readonly tokens: readonly (string | undefined)[];
  private readonly ids: Ids;
  private readonly merges: MergeTable;
  private readonly unknown: number | undefined;
  private readonly cache = new Map<string, readonly number[]>();

  constructor(private readonly part: Part) {
    this.ids = vocabulary(part.vocab);
    this.tokens = listed(this.ids);
    const pairs = (part.merges ?? []) as readonly (string | readonly [string, string])[];
    this.merges = new MergeTable(pairs.length);
    const prefix = String(part.continuing_subword_prefix ?? '').length;
    for (const [rank, pair] of pairs.entries()) {
      const [left, right] = typeof pair === 'string' ? (pair.split(' ') as [string, string]) : pair;
      const [a, b, both] = [left, right, left + right.slice(prefix)].map((token) => this.ids.get(token));
      if (a !== undefined && b !== undefined && both !== undefined) this.merges.add(a, b, rank, both);
    }
    if (typeof part.unk_token === 'string') this.unknown = this.ids.get(part.unk_token);
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
    const { continuing_subword_prefix: prefix, end_of_word_suffix: suffix, byte_fallback, fuse_unk } = this.part;
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
    }
    flush();
    return found;
  }
}

/** What a character that is no token costs, below the worst of the tokens. */
const PENALTY = 10;

/** SentencePiece's unigram model (Kudo 2018), in double precision. */
class Unigram implements Model {
  readonly tokens: readonly string[];
  private readonly ids: Ids;
  private readonly table: TokenTable;
  private readonly scores: Float64Array;
  private readonly unknownScore: number;
  private readonly unknown: number | undefined;
  private readonly byteFallback: boolean;

  constructor({ vocab, unk_id, byte_fallback }: Part) {
    const entries = vocab as readonly (readonly [string, number])[];
    this.tokens = entries.map(([token]) => token);
    this.ids = new Map(this.tokens.map((token, id) => [token, id]));
    this.scores = Float64Array.from(entries, ([, score]) => score);
    this.table = new TokenTable(entries.length);
    for (const [id, token] of this.tokens.entries()) this.table.add(encoder.encode(token), this.ids.get(token) === id);
    this.unknownScore = this.scores.reduce((a, b) => Math.min(a, b), Infinity) - PENALTY;
    this.unknown = typeof unk_id === 'number' ? unk_id : undefined;
    this.byteFallback = byte_fallback === true;
  }

  encode(piece: string, out: number[]): void {
    const bytes = Buffer.from(piece);
    const path = bestPath(bytes, this.table, this.scores, this.unknownScore, Float64Array);
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
    const id = whole ?? this.unknown;
    if (bytes) out.push(...bytes);
    else if (id !== undefined) out.push(id);
  }
}

/** WordPiece (Schuster & Nakajima 2012): the longest token at each place, or the unknown one for the whole word. */
class WordPiece implements Model {
  readonly tokens: readonly (string | undefined)[];
  private readonly ids: Ids;
  private readonly prefix: string;
  private readonly most: number;
  private readonly unknown: number | undefined;

  constructor(part: Part) {
    this.ids = vocabulary(part.vocab);
    this.tokens = listed(this.ids);
    this.prefix = String(part.continuing_subword_prefix ?? '##');
    this.most = Number(part.max_input_chars_per_word ?? 100);
    this.unknown = this.ids.get(String(part.unk_token ?? '[UNK]'));
  }

  encode(piece: string, out: number[]): void {
    const characters = Array.from(piece);
    const found = characters.length > this.most ? undefined : this.cut(characters);
    if (found) out.push(...found);
    else if (this.unknown !== undefined) out.push(this.unknown);
  }

  private cut(characters: readonly string[]): number[] | undefined {
    const found: number[] = [];
    for (let start = 0; start < characters.length; ) {
      let end = characters.length;
      let id: number | undefined;
      for (; end > start; end--) {
        const text = characters.slice(start, end).join('');
        id = this.ids.get(start > 0 ? this.prefix + text : text);
        if (id !== undefined) break;
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
  private readonly ids: Ids;
  private readonly unknown: number | undefined;

  constructor(part: Part) {
    this.ids = vocabulary(part.vocab);
    this.tokens = listed(this.ids);
    this.unknown = this.ids.get(String(part.unk_token ?? '<unk>'));
  }

  encode(piece: string, out: number[]): void {
    const id = this.ids.get(piece) ?? this.unknown;
    if (id !== undefined) out.push(id);
  }
}
