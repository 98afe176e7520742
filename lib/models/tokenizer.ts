import { join } from 'node:path';
import type { ChatTemplateOptions, ChatTemplates } from '../chat/chat-template.js';
import { encodeChat } from '../chat/encode-chat.js';
import { mismatch, StatespaceError, show } from '../errors.js';
import { checkOptions } from '../options.js';
import { tidied } from '../tokenizers/tidy.js';
import { tokenBytes } from '../tokenizers/token-bytes.js';
import {
  DECODE_OPTIONS,
  type DecodeOptions,
  ENCODE_OPTIONS,
  type EncodeOptions,
  type Vocabulary,
} from '../tokenizers/vocabulary.js';
import { Turns } from '../turns.js';
import { readJson, readTokenizerConfig } from './tokenizer-files.js';

// Loaded at its first use, like the readers of checkpoints: a cold import stays short.
const lazyTemplates = (): typeof import('../chat/read-templates.js') => require('../chat/read-templates.js');

const lazySentencePiece = (): typeof import('./sentence-piece.js') => require('./sentence-piece.js');

const lazyRwkv = (): typeof import('../checkpoint/gguf/rwkv-vocabulary.js') =>
  require('../checkpoint/gguf/rwkv-vocabulary.js');

const lazyJson = (): typeof import('../tokenizers/json/load.js') => require('../tokenizers/json/load.js');

export interface TextTokenizer {
  /** Ids of a text; by default with the marks of beginning and end, and with special tokens where they are written out. */
  encode(text: string, options?: EncodeOptions): Int32Array;
  /** The text of ids; by default without special tokens. */
  decode(ids: ArrayLike<number>, options?: DecodeOptions): string;
  /** Where decoding tidies (takes away spaces before full stops and the like, as the folder asks): the text without that. */
  tidies?(ids: ArrayLike<number>): string;
  /** What a token adds to a text that it stands behind; undefined for special tokens and ids without one. */
  tokenBytes?(id: number): Uint8Array | undefined;
  /** The byte of a token of one, where tokens of bytes become text a run of them at a time: all of it, or none. */
  fallbackByte?(id: number): number | undefined;
  /** The id of a text that is one special token. */
  specialToken?(text: string): number | undefined;
  /** How many ids encode() gives. */
  countTokens(text: string, options?: EncodeOptions): number;
  /**
   * The ids of applyChatTemplate()'s prompt: what the template writes may be control tokens; what the messages, tools and
   * documents say never is, however it is spelled.
   */
  encodeChat(messages: readonly object[], options?: ChatTemplateOptions): Int32Array;
  /** The prompt of a conversation, by the model's chat template; ERR_ARGUMENT where it has none or refuses. */
  applyChatTemplate(messages: readonly object[], options?: ChatTemplateOptions): string;
}

/**
 * The folder's tokenizer.json, else its tokenizer.model (SentencePiece) or rwkv_vocab_*.txt; undefined where there is none.
 * signal: ends a long file early.
 */
export async function loadTokenizer(folder: string, signal?: AbortSignal): Promise<TextTokenizer | undefined> {
  const path = join(folder, 'tokenizer.json');
  const turns = new Turns(signal);
  const json = await readJson(path, turns, ['vocab']);
  if (json === undefined) {
    const found = await lazySentencePiece().readSentencePiece(folder);
    return found ? vocabularyTokenizer(found.vocabulary, found.chat) : readRwkv(folder);
  }
  const config = (await readTokenizerConfig(folder)) as Record<string, unknown>;
  const chat = await lazyTemplates().readChatTemplates(folder, config);
  const reading = lazyJson().readDefinition(json, config, turns);
  const { definition, model, tokenizer } = await reading.catch((error) => {
    if (error instanceof StatespaceError || !(error instanceof Error) || signal?.aborted) throw error;
    throw new StatespaceError('ERR_CHECKPOINT', `${path}: ${error.message}`);
  });
  // As transformers 5 does it: only where the folder asks for it, and never for BPE, whose decoding is exact.
  const tidies = config.clean_up_tokenization_spaces === true && definition.model.type !== 'BPE';
  const special = new Map((definition.added_tokens ?? []).filter((t) => t.special).map((t) => [t.content, t.id]));
  const encode: TextTokenizer['encode'] = (text, options = {}) => {
    const { addSpecialTokens = true, allowSpecial = true } = checkEncoding(text, options);
    return Int32Array.from(tokenizer.encode(text, addSpecialTokens, allowSpecial));
  };
  return {
    ...chatting(encode, chat, [...special.keys()]),
    encode,
    decode(ids, options = {}) {
      const text = tokenizer.decode(checkDecoding(ids, options), options.skipSpecialTokens ?? true);
      return tidies ? tidied(text) : text;
    },
    ...(tidies && { tidies: (ids: ArrayLike<number>) => tokenizer.decode(Array.from(ids), true) }),
    tokenBytes: tokenBytes(definition, model.tokens),
    ...(tokenizer.fallsBack && { fallbackByte: (id: number) => tokenizer.fallbackByte(id) }),
    specialToken: (text) => special.get(text),
  };
}

async function readRwkv(folder: string): Promise<TextTokenizer | undefined> {
  const vocabulary = await lazyRwkv().readRwkvVocabulary(folder);
  if (!vocabulary) return undefined;
  const config = (await readTokenizerConfig(folder)) as Record<string, unknown>;
  return vocabularyTokenizer(vocabulary, await lazyTemplates().readChatTemplates(folder, config));
}

/** What every tokenizer does with texts and chats, by how it encodes; control: texts of its special tokens. */
function chatting(
  encode: TextTokenizer['encode'],
  chat: ChatTemplates,
  control: readonly string[],
): Pick<TextTokenizer, 'countTokens' | 'encodeChat' | 'applyChatTemplate'> {
  const render: TextTokenizer['applyChatTemplate'] = (messages, options) => chat.apply(messages, options);
  return {
    countTokens: (text, options) => encode(text, options).length,
    encodeChat: (messages, options = {}) => encodeChat({ encode, render, control }, messages, options),
    applyChatTemplate: render,
  };
}

/** A tokenizer of this package's own, with a model's chat templates. */
export function vocabularyTokenizer(vocabulary: Vocabulary, chat: ChatTemplates): TextTokenizer {
  const encode: TextTokenizer['encode'] = (text, options = {}) => vocabulary.encode(text, checkEncoding(text, options));
  return {
    ...chatting(encode, chat, [...vocabulary.control.keys()]),
    encode,
    decode: (ids, options = {}) => vocabulary.decode(checkDecoding(ids, options), options),
    tokenBytes: (id) => vocabulary.tokenBytes(id),
    specialToken: (text) => vocabulary.control.get(text),
  };
}

/** ERR_ARGUMENT for what is no text, and for unknown options. */
function checkEncoding(text: unknown, options: EncodeOptions): EncodeOptions {
  checkOptions('tokenizer.encode', options, ENCODE_OPTIONS);
  if (typeof text !== 'string') throw mismatch('ERR_ARGUMENT', 'tokenizer.encode: text', 'a string', show(text));
  checkFlag('tokenizer.encode: addSpecialTokens', options.addSpecialTokens);
  checkFlag('tokenizer.encode: allowSpecial', options.allowSpecial);
  return options;
}

/** ids as numbers. ERR_ARGUMENT for what are no ids, and for unknown options; ids that no token has are left out later. */
function checkDecoding(ids: ArrayLike<number | bigint>, options: DecodeOptions): number[] {
  checkOptions('tokenizer.decode', options, DECODE_OPTIONS);
  checkFlag('tokenizer.decode: skipSpecialTokens', options.skipSpecialTokens);
  if (typeof ids !== 'object' || ids === null || !Number.isSafeInteger(ids.length))
    throw mismatch('ERR_ARGUMENT', 'tokenizer.decode: ids', 'an array of token ids', show(ids));
  return Array.from(ids, (given, i) => {
    const id = typeof given === 'bigint' ? Number(given) : given;
    if (Number.isSafeInteger(id) && id >= 0) return id;
    throw mismatch('ERR_ARGUMENT', `tokenizer.decode: ids[${i}]`, 'an id from 0 on', show(given));
  });
}

function checkFlag(what: string, value: unknown): void {
  if (value !== undefined && typeof value !== 'boolean')
    throw mismatch('ERR_ARGUMENT', what, 'true or false', show(value));
}
