import type { Pair } from '../checkpoint/gguf/pairs.js';
import { kinds } from '../tokenizers/vocabulary.js';

/** What a vocabulary of `rows` tokens is in a file. */
export interface Words {
  readonly model: 'gpt2' | 'llama' | 't5';
  readonly tokens: readonly string[];
  readonly types: Int32Array;
  /** Merges, scores and what else a model of this kind has. */
  readonly pairs: readonly (readonly [string, Pair])[];
  /** Ids of bos, eos, unk and pad where the folder's JSON files name none. */
  readonly ids?: Readonly<Record<string, number>>;
  /** Names of pre-tokenizers, the likeliest first. */
  readonly candidates: readonly string[];
  /** The normal form that texts are brought into first. */
  readonly normalizer?: 'NFC' | undefined;
  /** Where a space is put in front of what begins with none: of the text and of what follows a special token, or of the text alone. */
  readonly spacePrefix?: 'always' | 'first' | undefined;
  readonly notes: readonly string[];
}

/** What is said of tokens whose ids are no rows of the embedding. */
export const beyondRows = (count: number, rows: number): string =>
  `${count} tokens lie beyond the ${rows} rows of the embedding and are left out`;

/** Of a vocabulary of SentencePiece's BPE: llama.cpp looks for tokens of bytes where it has none, and ends the process. */
export const withoutBytes = (types: Int32Array): string[] =>
  types.includes(kinds.byte)
    ? []
    : ['llama.cpp: it ends with an error at characters that no token has, as there are no tokens of bytes'];
