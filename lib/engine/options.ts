import { freemem } from 'node:os';
import { mismatch, StatespaceError, show } from '../errors.js';
import type { Model } from '../models/model.js';
import { checkKnown, checkOptions } from '../options.js';
import type { SnapshotStore } from './cache/store.js';

/** How an engine shares a model between requests. */
export interface EngineOptions {
  /** Tokens that one step feeds at most, prompts and single tokens together. Default: 512. */
  maxBatchTokens?: number | undefined;
  /** Requests that hold a session at the same time. Default: 128. */
  maxRunning?: number | undefined;
  /** Requests that wait for one; one more is ERR_OVERLOADED. Default: 1024. */
  maxQueued?: number | undefined;
  /** What sessions and prefix cache may hold together. Default: half of the memory that is free now. */
  memoryBytes?: number | undefined;
  /** What is kept of prompts that were read; `false`: nothing. */
  prefixCache?: false | PrefixCacheOptions | undefined;
}

/** What the prefix cache keeps. */
export interface PrefixCacheOptions {
  /** What its checkpoints may hold together. Default: a quarter of memoryBytes, at most 1 GiB. */
  bytes?: number | undefined;
  /** A checkpoint every so many tokens of a prompt. Default: the larger a state, the fewer; see docs/serving.md. */
  every?: number | undefined;
  /** Where checkpoints outlive the process: folderStore(), redisStore() or one's own. */
  store?: SnapshotStore | undefined;
}

export interface ResolvedOptions {
  maxBatchTokens: number;
  maxRunning: number;
  maxQueued: number;
  memoryBytes: number;
  cache: { bytes: number; every: number; least: number; guessedBytes: number; store?: SnapshotStore } | undefined;
}

// What a checkpoint may cost for each token that it saves reading again: 64 KiB at least-worth positions (a boundary, a
// prompt's end), 8 KiB at those that are only a guess.
const BYTES_PER_TOKEN = { known: 64 << 10, guessed: 8 << 10 };
// New memory of a virtual machine costs about a millisecond a megabyte, in which 15 tokens of 20 MFLOP are read: a guess of a
// state that is not small may cost a twentieth of that.
const FLOPS_PER_BYTE = 6144;
const PROMPT = 1024;
const SMALL = 256 << 10;
const MAX_CACHE = 2 ** 30;

const whole = (key: string, value: unknown, least: number): number => {
  if (!(Number.isSafeInteger(value) && (value as number) >= least))
    throw mismatch('ERR_ARGUMENT', `createEngine: ${key}`, `a whole number from ${least} on`, show(value));
  return value as number;
};

/** The options with their defaults for this model; ERR_ARGUMENT for what cannot be. */
export function resolveOptions(model: Model, options: EngineOptions): ResolvedOptions {
  checkOptions('createEngine', options, ['maxBatchTokens', 'maxRunning', 'maxQueued', 'memoryBytes', 'prefixCache']);
  if (model.inputWidth > 1 || model.vocabSize === 0)
    throw new StatespaceError('ERR_ARGUMENT', 'createEngine: this model reads rows of numbers, not tokens; use run()');
  if (!model.hasLogits)
    throw new StatespaceError(
      'ERR_ARGUMENT',
      'createEngine: expected a model whose rows are logits of tokens; it has no head',
    );
  const { maxBatchTokens = 512, maxRunning = 128, maxQueued = 1024, prefixCache = {} } = options;
  const memoryBytes = whole('memoryBytes', options.memoryBytes ?? Math.floor(freemem() / 2), 1);
  return {
    maxBatchTokens: whole('maxBatchTokens', maxBatchTokens, 1),
    maxRunning: whole('maxRunning', maxRunning, 1),
    maxQueued: whole('maxQueued', maxQueued, 0),
    memoryBytes,
    cache: prefixCache === false ? undefined : cacheOptions(model, prefixCache, memoryBytes),
  };
}

function cacheOptions(model: Model, given: PrefixCacheOptions, memoryBytes: number): ResolvedOptions['cache'] {
  if (typeof given !== 'object' || given === null)
    throw mismatch('ERR_ARGUMENT', 'createEngine: prefixCache', 'false or an object', show(given));
  checkKnown('createEngine: prefixCache', given, ['bytes', 'every', 'store']);
  const bytes = whole('prefixCache.bytes', given.bytes ?? Math.min(MAX_CACHE, Math.floor(memoryBytes / 4)), 0);
  const held = model.sessionBytes(1).total;
  const byCopy = held > SMALL ? (held * FLOPS_PER_BYTE) / Math.max(1, model.promptFlops(PROMPT) / PROMPT) : 0;
  const automatic = Math.ceil(Math.max(held / BYTES_PER_TOKEN.guessed, byCopy) / 64) * 64;
  const every = whole('prefixCache.every', given.every ?? automatic, 1);
  const { store } = given;
  if (store !== undefined)
    for (const method of ['get', 'put', 'delete', 'list'] as const)
      if (typeof store?.[method] !== 'function')
        throw mismatch('ERR_ARGUMENT', 'createEngine: prefixCache.store', `an object with ${method}()`, show(store));
  const least = Math.min(every, Math.ceil(held / BYTES_PER_TOKEN.known));
  return { bytes, every, least, guessedBytes: BYTES_PER_TOKEN.guessed, store };
}
