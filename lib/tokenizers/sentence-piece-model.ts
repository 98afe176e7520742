// What a SentencePiece model file holds (sentencepiece_model.proto).
import { StatespaceError } from '../errors.js';
import { Turns } from '../turns.js';
import { fieldsOf } from './protobuf.js';
import { kinds } from './vocabulary.js';

export interface Piece {
  readonly text: string;
  readonly score: number;
  /** One of `kinds`: the file's numbers are GGUF's. */
  readonly kind: number;
}

export interface SentencePieceModel {
  readonly pieces: readonly Piece[];
  readonly algorithm: 'unigram' | 'bpe';
  /** Ids of marks, -1: none. */
  readonly bos: number;
  readonly eos: number;
  readonly unknown: number;
  readonly pad: number;
  /** Characters that no piece has become pieces of their bytes. */
  readonly byteFallback: boolean;
  /** The space of a word stands behind it. */
  readonly spaceBehind: boolean;
  /** Rules for characters, compiled; empty: none. */
  readonly charsmap: Uint8Array;
  readonly dummyPrefix: boolean;
  /** Runs of spaces become one, those at both ends none. */
  readonly mergesSpaces: boolean;
}

/** Characters of one piece: beyond this it is no word's, and looking for it would hold up every text. */
const longestPiece = 4096;

/** ERR_CHECKPOINT, naming `file`, for what is none; ERR_UNSUPPORTED_MODEL for models of words or characters. */
export async function parseSentencePiece(bytes: Uint8Array, file: string): Promise<SentencePieceModel> {
  const pieces: Piece[] = [];
  const seen = new Set<string>();
  const turns = new Turns();
  let [trainer, normalizer]: Uint8Array[] = [];
  for (const field of fieldsOf(bytes, file)) {
    if (field.number === 2) trainer = field.bytes;
    if (field.number === 3) normalizer = field.bytes;
    if (field.number !== 1) continue;
    const piece = pieceOf(field.bytes, `${file}: piece ${pieces.length}`);
    if (seen.has(piece.text)) refuse(file, `the piece ${JSON.stringify(piece.text)} stands twice`);
    seen.add(piece.text);
    pieces.push(piece);
    const pause = turns.due();
    if (pause) await pause;
  }
  if (pieces.length === 0) refuse(file, 'it holds no pieces');
  const said = { ...trainerOf(trainer ?? new Uint8Array(0), file), ...normalizerOf(normalizer, file) };
  const algorithm = (['unigram', 'bpe'] as const)[said.algorithm - 1];
  if (algorithm === undefined)
    throw new StatespaceError(
      'ERR_UNSUPPORTED_MODEL',
      `${file}: model_type ${said.algorithm} is not read; read are 1 (unigram) and 2 (BPE)`,
    );
  const known = (id: number) => (id < pieces.length ? id : -1);
  return {
    ...said,
    ...{ pieces, algorithm },
    ...{ bos: known(said.bos), eos: known(said.eos), unknown: known(said.unknown), pad: known(said.pad) },
  };
}

function refuse(file: string, what: string): never {
  throw new StatespaceError('ERR_CHECKPOINT', `${file}: ${what}`);
}

function pieceOf(message: Uint8Array, where: string): Piece {
  let [text, score, kind]: [string, number, number] = ['', 0, kinds.normal];
  for (const { number, value, bytes } of fieldsOf(message, where)) {
    if (number === 1) text = decoded(bytes, where);
    if (number === 2) score = value;
    if (number === 3) kind = value;
  }
  if (text === '') refuse(where, 'is empty');
  if (text.length > longestPiece) refuse(where, `expected at most ${longestPiece} characters, received ${text.length}`);
  if (!Number.isFinite(score)) refuse(where, `expected a score that is finite, received ${score}`);
  if (!Object.values(kinds).includes(kind as never)) refuse(where, `expected a type from 1 to 6, received ${kind}`);
  if (kind === kinds.byte && !/^<0x[0-9A-F]{2}>$/.test(text))
    refuse(where, `expected the name of a byte, such as <0x0A>, received ${JSON.stringify(text)}`);
  return { text, score, kind };
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function decoded(bytes: Uint8Array, where: string): string {
  try {
    return utf8.decode(bytes);
  } catch {
    return refuse(where, 'expected UTF-8');
  }
}

function trainerOf(message: Uint8Array, file: string) {
  const said = { algorithm: 1, unknown: 0, bos: 1, eos: 2, pad: -1, byteFallback: false, spaceBehind: false };
  for (const { number, value } of fieldsOf(message, file)) {
    if (number === 3) said.algorithm = value;
    if (number === 24) said.spaceBehind = value !== 0;
    if (number === 35) said.byteFallback = value !== 0;
    if (number === 40) said.unknown = value;
    if (number === 41) said.bos = value;
    if (number === 42) said.eos = value;
    if (number === 43) said.pad = value;
  }
  return said;
}

function normalizerOf(message: Uint8Array | undefined, file: string) {
  const said = { charsmap: new Uint8Array(0), dummyPrefix: true, mergesSpaces: true };
  for (const { number, value, bytes } of fieldsOf(message ?? new Uint8Array(0), file)) {
    if (number === 2) said.charsmap = Uint8Array.from(bytes);
    if (number === 3) said.dummyPrefix = value !== 0;
    if (number === 4) said.mergesSpaces = value !== 0;
  }
  return said;
}
