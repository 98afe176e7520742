// The tokenizer that a GGUF file holds: tokens, their types, scores or merges, special tokens and chat templates.

import { StatespaceError, show } from '../../errors.js';
import { ByteBpe, MergeTable } from '../../tokenizers/byte-bpe.js';
import { LongestMatch } from '../../tokenizers/longest-match.js';
import { preTokenizer, preTokenizerNames } from '../../tokenizers/pre-tokenizers.js';
import { ScoreBpe } from '../../tokenizers/sentence-piece.js';
import type { Piece, SentencePieceModel } from '../../tokenizers/sentence-piece-model.js';
import { joined, sentencePieceVocabulary } from '../../tokenizers/sentence-piece-vocabulary.js';
import { TokenTable } from '../../tokenizers/token-table.js';
import { kinds, Vocabulary, type VocabularyOptions } from '../../tokenizers/vocabulary.js';
import { Turns } from '../../turns.js';
import { checkpointError } from '../stored.js';
import { rawBytes } from './byte-alphabet.js';
import type { GgufStrings, Metadata } from './values.js';

const prefix = 'tokenizer.ggml.';
/** What no key of the format says: the normal form that a text is brought into first. */
export const NORMALIZER = 'statespace.tokenizer.normalizer';
/** Nor where no space is put in front: of texts that begin with one, and for 'first' behind special tokens. */
export const SPACE_PREFIX = 'statespace.tokenizer.space_prefix';

/** The tokenizer, or undefined where the file has ids only. */
export async function readTokenizer(m: Metadata): Promise<Vocabulary | undefined> {
  const model = m.string(`${prefix}model`);
  if (model === undefined || model === 'none' || model === 'no_vocab') return undefined;
  const list = m.array(`${prefix}tokens`);
  if (list === undefined) throw m.missing(`${prefix}tokens`);
  const vocabulary = new VocabularyReader(m, list.length);
  switch (model) {
    case 'gpt2':
      return vocabulary.byteBpe();
    case 'llama':
      return vocabulary.sentencePiece();
    case 't5':
      return vocabulary.unigram();
    case 'rwkv':
      return vocabulary.rwkv();
    default:
      throw new StatespaceError(
        'ERR_UNSUPPORTED_MODEL',
        `${m.file}: metadata ${prefix}model ${show(model)} is not supported; supported: gpt2, llama, t5, rwkv, none`,
      );
  }
}

class VocabularyReader {
  private readonly types: Int8Array;
  private readonly turns = new Turns();

  constructor(
    private readonly m: Metadata,
    private readonly size: number,
  ) {
    const types = m.array(`${prefix}token_type`);
    if (types && types.length !== size)
      throw checkpointError(m.file, `metadata ${prefix}token_type: expected ${size} values, received ${types.length}`);
    this.types = types ? types.copyTo(new Int8Array(size)) : new Int8Array(size).fill(kinds.normal);
  }

  private id(name: string, standard?: number): number | undefined {
    const id = this.m.count(`${prefix}${name}_token_id`) ?? standard;
    return id !== undefined && id < this.size ? id : undefined;
  }

  /** Every token; lookup() finds those that `found` says. */
  private async table(found: (id: number) => boolean, bytesOf: BytesOf = copy): Promise<TokenTable> {
    const list = this.m.array(`${prefix}tokens`)!;
    const table = new TokenTable(this.size, list.stringBytes);
    const tokens = list.strings();
    let room = new Uint8Array(64);
    for (let id = 0; tokens.next(); id++) {
      const { bytes, start, end } = tokens;
      if (end - start > room.length) room = new Uint8Array(2 * (end - start));
      table.add(room, found(id), 0, bytesOf(bytes, start, end, room, id));
      const pause = this.turns.due();
      if (pause) await pause;
    }
    return table;
  }

  private isPlain(id: number): boolean {
    return this.types[id] === kinds.control || this.types[id] === kinds.userDefined || this.types[id] === kinds.unknown;
  }

  private vocabulary(
    o: Pick<VocabularyOptions, 'tokens' | 'encoder' | 'spacePrefix' | 'oneSpace' | 'text' | 'normalize'> & {
      bos?: number;
      eos?: number;
    },
  ) {
    const special = [];
    for (let id = 0; id < this.size; id++) {
      if (!this.isPlain(id)) continue;
      const text = Buffer.from(o.tokens.bytes(id)).toString('utf8');
      special.push({ text, id, always: this.types[id] === kinds.userDefined });
    }
    return new Vocabulary({ ...o, types: this.types, special });
  }

  async byteBpe(): Promise<Vocabulary> {
    const name = this.m.string(`${prefix}pre`) ?? 'default';
    const pre = preTokenizer(name);
    if (!pre)
      throw new StatespaceError(
        'ERR_UNSUPPORTED_MODEL',
        `${this.m.file}: metadata ${prefix}pre: the pre-tokenizer ${show(name)} is not known; known: ${preTokenizerNames.join(', ')}`,
      );
    const merges = this.m.array(`${prefix}merges`);
    if (merges === undefined) throw this.m.missing(`${prefix}merges`);
    const inAlphabet = (id: number) => !this.isPlain(id) && this.types[id] !== kinds.unused;
    const tokens = await this.table(inAlphabet, (from, start, end, into, id) => {
      const length = inAlphabet(id) ? rawBytes(from, start, end, into) : -1;
      return length < 0 ? copy(from, start, end, into) : length;
    });
    const table = new MergeTable(merges.length);
    for (const merge = merges.strings(); merge.next(); ) {
      addMerge(table, tokens, merge);
      const pause = this.turns.due();
      if (pause) await pause;
    }
    const form = this.m.string(NORMALIZER);
    if (form !== undefined && form !== 'NFC')
      throw new StatespaceError(
        'ERR_UNSUPPORTED_MODEL',
        `${this.m.file}: metadata ${NORMALIZER}: expected NFC, received ${show(form)}`,
      );
    const wantsBos = this.m.boolean(`${prefix}add_bos_token`) ?? pre.addBos ?? false;
    const wantsEos = this.m.boolean(`${prefix}add_eos_token`) ?? false;
    return this.vocabulary({
      tokens,
      encoder: new ByteBpe(tokens, table, pre.patterns, pre.wholePieces ?? false),
      ...(form && { normalize: (piece: string) => piece.normalize(form) }),
      spacePrefix: 'never',
      text: bytesIn(tokens),
      bos: wantsBos ? this.id('bos') : undefined,
      eos: wantsEos ? this.id('eos') : undefined,
    });
  }

  async sentencePiece(): Promise<Vocabulary> {
    const scores = this.scores();
    const tokens = await this.table(() => true);
    const byteIds = Int32Array.from({ length: 256 }, (_, byte) => tokens.lookup(Buffer.from(byteName(byte))));
    const wantsBos = this.m.boolean(`${prefix}add_bos_token`) ?? true;
    const wantsEos = this.m.boolean(`${prefix}add_eos_token`) ?? false;
    const fuseUnknown = byteIds.every((id) => id < 0); // where llama.cpp has no answer, SentencePiece's
    const places = this.m.string(SPACE_PREFIX);
    if (places !== undefined && places !== 'always' && places !== 'first')
      throw new StatespaceError(
        'ERR_UNSUPPORTED_MODEL',
        `${this.m.file}: metadata ${SPACE_PREFIX}: expected always or first, received ${show(places)}`,
      );
    return this.vocabulary({
      tokens,
      encoder: new ScoreBpe({ tokens, scores, byteIds, unknown: this.id('unknown', 0) ?? -1, fuseUnknown }),
      spacePrefix: (this.m.boolean(`${prefix}add_space_prefix`) ?? true) ? (places ?? 'always') : 'never',
      oneSpace: places !== undefined,
      text: textIn(tokens, this.types),
      bos: wantsBos ? this.id('bos', 1) : undefined,
      eos: wantsEos ? this.id('eos', 2) : undefined,
    });
  }

  async unigram(): Promise<Vocabulary> {
    const scores = this.scores();
    const pieces: Piece[] = [];
    for (const token = this.m.array(`${prefix}tokens`)!.strings(); token.next(); ) {
      const id = pieces.length;
      pieces.push({ text: token.text(), score: scores[id]!, kind: this.types[id]! });
      const pause = this.turns.due();
      if (pause) await pause;
    }
    const isAdded = (id: number) => this.types[id] === kinds.userDefined;
    const added = pieces.flatMap(({ text: content }, id) =>
      isAdded(id) ? [{ id, content, special: false, lstrip: false, rstrip: false }] : [],
    );
    const model: SentencePieceModel = {
      pieces,
      algorithm: 'unigram',
      ...{ bos: this.id('bos') ?? -1, eos: this.id('eos', 1) ?? -1, pad: -1, unknown: this.id('unknown', 2) ?? -1 },
      ...{ byteFallback: false, spaceBehind: false, dummyPrefix: true },
      charsmap: Uint8Array.from(this.m.array(`${prefix}precompiled_charsmap`)?.numbers() ?? []),
      mergesSpaces: this.m.boolean(`${prefix}remove_extra_whitespaces`) ?? false,
    };
    const wantsBos = this.m.boolean(`${prefix}add_bos_token`) ?? false;
    const wantsEos = this.m.boolean(`${prefix}add_eos_token`) ?? true;
    const marks = {
      bos: wantsBos && model.bos >= 0 ? model.bos : undefined,
      eos: wantsEos && model.eos >= 0 ? model.eos : undefined,
      spacePrefix: (this.m.boolean(`${prefix}add_space_prefix`) ?? true) ? 'always' : 'never',
    } as const;
    const where = `${this.m.file}: metadata ${prefix}precompiled_charsmap`;
    return sentencePieceVocabulary(model, joined(model, added), marks, where);
  }

  /** One for every token; without any, 0. */
  private scores(): Float32Array {
    const scores = this.m.array(`${prefix}scores`);
    if (scores && scores.length !== this.size)
      throw checkpointError(this.m.file, `metadata ${prefix}scores: expected ${this.size}, received ${scores.length}`);
    return scores?.copyTo(new Float32Array(this.size)) ?? new Float32Array(this.size);
  }

  async rwkv(): Promise<Vocabulary> {
    const tokens = await this.table(() => true, unescaped);
    const wantsBos = this.m.boolean(`${prefix}add_bos_token`) ?? false;
    const wantsEos = this.m.boolean(`${prefix}add_eos_token`) ?? false;
    return this.vocabulary({
      tokens,
      encoder: new LongestMatch(tokens, () => true),
      spacePrefix: 'never',
      text: bytesIn(tokens),
      bos: wantsBos ? this.id('bos') : undefined,
      eos: wantsEos ? this.id('eos') : undefined,
    });
  }
}

/** Writes the bytes of the token that from[start … end) is stored as; returns how many, at most end - start. */
type BytesOf = (from: Buffer, start: number, end: number, into: Uint8Array, id: number) => number;

const copy = (from: Buffer, start: number, end: number, into: Uint8Array): number => from.copy(into, 0, start, end);

// Made outside the reader, so that what a tokenizer keeps of a file is not the file's header.
const bytesIn = (tokens: TokenTable) => (id: number) => tokens.bytes(id);
const textIn = (tokens: TokenTable, types: Int8Array) => (id: number) =>
  types[id] === kinds.byte ? byteOf(tokens.bytes(id)) : withSpaces(tokens.bytes(id));

let merged = new Uint8Array(256);

/** "left right", in the alphabet of bytes; one whose parts are no tokens can never apply. */
function addMerge(table: MergeTable, tokens: TokenTable, { bytes, start, end }: GgufStrings): void {
  let space = start + 1;
  while (space < end && bytes[space] !== SPACE) space++;
  if (space >= end) return;
  if (end - start > merged.length) merged = new Uint8Array(2 * (end - start));
  const left = rawBytes(bytes, start, space, merged);
  const right = left < 0 ? -1 : rawBytes(bytes, space + 1, end, merged, left);
  if (right < 0) return;
  const both = tokens.lookup(merged, 0, right);
  const ids = [tokens.lookup(merged, 0, left), tokens.lookup(merged, left, right)] as const;
  if (both >= 0 && ids[0] >= 0 && ids[1] >= 0) table.add(ids[0], ids[1], both);
}

const SPACE = 32;

const byteName = (byte: number): string => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;

/** Of a token <0xNN>. */
const byteOf = (name: Uint8Array): Uint8Array =>
  Uint8Array.of(Number.parseInt(Buffer.from(name.subarray(3, 5)).toString('latin1'), 16) || 0);

const withSpaces = (bytes: Uint8Array): Uint8Array => {
  const text = Buffer.from(bytes);
  return text.includes('▁') ? Buffer.from(text.toString('utf8').replaceAll('▁', ' ')) : text;
};

const BACKSLASH = 92;
/** n, t, r, \\, ', " behind a backslash. */
const escapes: ReadonlyMap<number, number> = new Map([
  [110, 10],
  [116, 9],
  [114, 13],
  [92, 92],
  [39, 39],
  [34, 34],
]);

/** The bytes of a Python literal. */
const unescaped: BytesOf = (from, start, end, into) => {
  let n = 0;
  for (let i = start; i < end; i++) {
    const next = i + 1 < end ? from[i + 1]! : -1;
    const high = next === 120 && i + 3 < end ? hexDigit(from[i + 2]!) : -1;
    const low = high < 0 ? -1 : hexDigit(from[i + 3]!);
    const escaped = low < 0 ? escapes.get(next) : 16 * high + low;
    if (from[i] !== BACKSLASH || escaped === undefined) into[n++] = from[i]!;
    else {
      into[n++] = escaped;
      i += low < 0 ? 1 : 3;
    }
  }
  return n;
};

/** Its value, or -1. */
function hexDigit(code: number): number {
  if (code >= 48 && code <= 57) return code - 48;
  const letter = code | 32;
  return letter >= 97 && letter <= 102 ? letter - 87 : -1;
}
