// A SentencePiece model, and what a folder adds to it, as a tokenizer.
import { Charsmap } from './charsmap.js';
import { ScoreBpe, type WholeTokens } from './sentence-piece.js';
import type { SentencePieceModel } from './sentence-piece-model.js';
import { TokenTable } from './token-table.js';
import { Unigram } from './unigram.js';
import { kinds, type PieceEncoder, type Special, Vocabulary } from './vocabulary.js';

/** A token that a folder lists beside the pieces, or in the place of one. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** A control token. */
  readonly special: boolean;
  readonly lstrip: boolean;
  readonly rstrip: boolean;
}

/** Tokens by their ids. */
export interface Pieces {
  readonly texts: string[];
  readonly kinds: Int8Array;
  readonly scores: Float32Array;
  readonly added: readonly AddedToken[];
}

/** What tokens that were added score, as llama.cpp's converter has it. */
const ADDED_SCORE = -1000;

/** The model's pieces and the added tokens; ids between them are unused. */
export function joined({ pieces }: SentencePieceModel, added: readonly AddedToken[]): Pieces {
  const size = added.reduce((n, { id }) => Math.max(n, id + 1), pieces.length);
  const texts = Array.from({ length: size }, (_, id) => pieces[id]?.text ?? '');
  const types = Int8Array.from({ length: size }, (_, id) => pieces[id]?.kind ?? kinds.unused);
  const scores = Float32Array.from({ length: size }, (_, id) => pieces[id]?.score ?? ADDED_SCORE);
  for (const { id, content, special } of added) {
    if (types[id] === kinds.unknown && texts[id] === content) continue;
    if (texts[id] !== content) scores[id] = ADDED_SCORE;
    texts[id] = content;
    types[id] = special ? kinds.control : kinds.userDefined;
  }
  return { texts, kinds: types, scores, added };
}

export interface Marks {
  readonly bos?: number | undefined;
  readonly eos?: number | undefined;
  readonly spacePrefix: 'always' | 'first' | 'never';
}

/** ERR_CHECKPOINT, naming `where`, for rules for characters that are none. */
export function sentencePieceVocabulary(
  model: SentencePieceModel,
  { texts, kinds: types, scores, added }: Pieces,
  { bos, eos, spacePrefix }: Marks,
  where: string,
): Vocabulary {
  const bytes = texts.map((text) => Buffer.from(text));
  const table = (isFound: (id: number) => boolean): TokenTable => {
    const made = new TokenTable(texts.length);
    for (const [id, piece] of bytes.entries()) made.add(piece, isFound(id));
    return made;
  };
  const addedIds = new Set(added.map(({ id }) => id));
  const isWhole = (id: number) => types[id] === kinds.userDefined && !addedIds.has(id);
  const tokens = table((id) => types[id] === kinds.normal || isWhole(id));
  const whole = types.some((_, id) => isWhole(id)) ? { table: table(isWhole), has: isWhole } : undefined;
  const special: Special[] = added.map(({ id, content: text, special, ...sides }) => ({
    ...sides,
    ...{ text, id, always: !special },
  }));
  for (const [id, text] of texts.entries())
    if (!addedIds.has(id) && (types[id] === kinds.control || types[id] === kinds.unknown))
      special.push({ text, id, always: false });
  return new Vocabulary({
    ...{ tokens, types, special, bos, eos },
    encoder: encoderOf(model, tokens, scores, types, whole),
    spacePrefix,
    spaceBehind: model.spaceBehind,
    normalize: normalizer(model, spacePrefix, whole, where),
    text: (id) => (types[id] === kinds.byte ? byteOf(texts[id]!) : Buffer.from(texts[id]!.replaceAll('▁', ' '))),
  });
}

function encoderOf(
  model: SentencePieceModel,
  tokens: TokenTable,
  scores: Float32Array,
  types: Int8Array,
  whole: WholeTokens | undefined,
): PieceEncoder {
  const byteIds = new Int32Array(256).fill(-1);
  for (const [id, { kind, text }] of model.pieces.entries())
    if (kind === kinds.byte && model.byteFallback) byteIds[byteOf(text)[0]!] = id;
  const { unknown } = model;
  if (model.algorithm === 'bpe') return new ScoreBpe({ tokens, scores, byteIds, unknown, whole, fuseUnknown: true });
  const normal = scores.filter((_, id) => types[id] === kinds.normal);
  const [worst, best] = [
    normal.reduce((a, b) => Math.min(a, b), 0),
    normal.reduce((a, b) => Math.max(a, b), -Infinity),
  ];
  // Tokens of the user's own beat what they could be cut into.
  const raised = scores.map((score, id) => (whole?.has(id) ? tokens.bytes(id).length * best - 0.1 : score));
  return new Unigram(tokens, raised, byteIds, unknown, worst);
}

/**
 * Rules for characters, then spaces: runs of them become one, those at both ends none, if the model says so; both ends of
 * the text, or of each piece where each is marked.
 */
function normalizer(
  { charsmap, mergesSpaces, spaceBehind }: SentencePieceModel,
  marked: Marks['spacePrefix'],
  whole: WholeTokens | undefined,
  where: string,
): (piece: string, isFirst: boolean, isLast: boolean) => string {
  const rules = charsmap.length > 0 ? new Charsmap(charsmap, where, whole?.table) : undefined;
  return (piece, isFirst, isLast) => {
    let text = rules?.normalize(piece) ?? piece;
    if (mergesSpaces) {
      text = text.replace(/ {2,}/g, ' ');
      if ((isFirst || marked === 'always') && text.startsWith(' ')) text = text.slice(1);
      if (text === '') return text;
      if (isLast || marked === 'always') text = text.replace(/[ ▁]+$/, '');
    }
    return spaceBehind && marked !== 'never' && isLast ? `${text} ` : text;
  };
}

/** Of a piece <0xNN>. */
const byteOf = (name: string): Uint8Array => Uint8Array.of(Number.parseInt(name.slice(3, 5), 16) || 0);
