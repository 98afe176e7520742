// The tokenizer that a GGUF file holds: tokens, their types, scores or merges, special tokens.

import { ByteBpe, MergeTable } from '../../tokenizers/byte-bpe.js';
import { LongestMatch } from '../../tokenizers/longest-match.js';
import { ScoreBpe } from '../../tokenizers/sentence-piece.js';
import type { Piece, SentencePieceModel } from '../../tokenizers/sentence-piece-model.js';
import { joined, sentencePieceVocabulary } from '../../tokenizers/sentence-piece-vocabulary.js';
import { TokenTable } from '../../tokenizers/token-table.js';
import { kinds, Vocabulary, type VocabularyOptions } from '../../tokenizers/vocabulary.js';
import { Turns } from '../../turns.js';
import { rawBytes } from './byte-alphabet.js';
import { TokenizerKeys } from './tokenizer-keys.js';
import type { GgufStrings, Metadata } from './values.js';

/** The tokenizer, or undefined where the file has ids only. */
export async function readTokenizer(m: Metadata): Promise<Vocabulary | undefined> {
  const keys = TokenizerKeys.of(m);
  if (!keys) return undefined;
  const reader = new VocabularyReader(keys);
  switch (keys.kind) {
    case 'gpt2':
      return reader.byteBpe();
    case 'llama':
      return reader.sentencePiece();
    case 't5':
      return reader.unigram();
    case 'rwkv':
      return reader.rwkv();
  }
}

/** The bytes of RWKV's tokens. */
export const readRwkvTokens = (keys: TokenizerKeys): Promise<TokenTable> => new VocabularyReader(keys).rwkvTokens();

class VocabularyReader {
  private readonly turns = new Turns();

  constructor(private readonly keys: TokenizerKeys) {}

  /** Every token; lookup() finds those that `found` says. */
  private async table(found: (id: number) => boolean, bytesOf: BytesOf = copy): Promise<TokenTable> {
    const { list, size } = this.keys;
    const table = new TokenTable(size, list.stringBytes);
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

  private vocabulary(
    o: Pick<VocabularyOptions, 'tokens' | 'encoder' | 'spacePrefix' | 'oneSpace' | 'text' | 'normalize'>,
  ) {
    const { types, size } = this.keys;
    const special = [];
    for (let id = 0; id < size; id++) {
      if (!this.keys.isPlain(id)) continue;
      const text = Buffer.from(o.tokens.bytes(id)).toString('utf8');
      const rstrip = this.keys.takesSpaceBehind(text);
      special.push({ text, id, always: types[id] === kinds.userDefined, rstrip });
    }
    return new Vocabulary({ ...o, ...this.keys.marks(), types, special });
  }

  async byteBpe(): Promise<Vocabulary> {
    const { keys } = this;
    const pre = keys.pre();
    const merges = keys.merges();
    const inAlphabet = (id: number) => !keys.isPlain(id) && keys.types[id] !== kinds.unused;
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
    const form = keys.normalForm();
    return this.vocabulary({
      tokens,
      encoder: new ByteBpe(tokens, table, pre.patterns, pre.wholePieces ?? false),
      ...(form && { normalize: (piece: string) => piece.normalize(form) }),
      spacePrefix: 'never',
      text: bytesIn(tokens),
    });
  }

  async sentencePiece(): Promise<Vocabulary> {
    const { keys } = this;
    const scores = keys.scores();
    const tokens = await this.table(() => true);
    const byteIds = Int32Array.from({ length: 256 }, (_, byte) => tokens.lookup(Buffer.from(byteName(byte))));
    const fuseUnknown = byteIds.every((id) => id < 0); // where llama.cpp has no answer, SentencePiece's
    return this.vocabulary({
      tokens,
      encoder: new ScoreBpe({ tokens, scores, byteIds, unknown: keys.unknown() ?? -1, fuseUnknown }),
      ...keys.spaces(),
      text: textIn(tokens, keys.types),
    });
  }

  rwkvTokens(): Promise<TokenTable> {
    return this.table(() => true, unescaped);
  }

  async unigram(): Promise<Vocabulary> {
    const { keys } = this;
    const scores = keys.scores();
    const pieces: Piece[] = [];
    for (const token = keys.list.strings(); token.next(); ) {
      const id = pieces.length;
      pieces.push({ text: token.text(), score: scores[id]!, kind: keys.types[id]! });
      const pause = this.turns.due();
      if (pause) await pause;
    }
    const isAdded = (id: number) => keys.types[id] === kinds.userDefined;
    const added = pieces.flatMap(({ text: content }, id) =>
      isAdded(id) ? [{ id, content, special: false, lstrip: false, rstrip: false }] : [],
    );
    const model: SentencePieceModel = {
      pieces,
      algorithm: 'unigram',
      ...{ bos: keys.id('bos') ?? -1, eos: keys.id('eos', 1) ?? -1, pad: -1, unknown: keys.unknown() ?? -1 },
      ...{ byteFallback: keys.hasAllBytes(), spaceBehind: false, dummyPrefix: true },
      charsmap: keys.charsmap(),
      mergesSpaces: keys.flag('remove_extra_whitespaces') ?? false,
    };
    const spacePrefix = (keys.flag('add_space_prefix') ?? true) ? 'always' : 'never';
    const where = `${keys.m.file}: metadata tokenizer.ggml.precompiled_charsmap`;
    return sentencePieceVocabulary(model, joined(model, added), { ...keys.marks(), spacePrefix }, where);
  }

  async rwkv(): Promise<Vocabulary> {
    const tokens = await this.rwkvTokens();
    return this.vocabulary({
      tokens,
      encoder: new LongestMatch(tokens, () => true),
      spacePrefix: 'never',
      text: bytesIn(tokens),
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
