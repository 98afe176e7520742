import { mismatch, show } from '../errors.js';
import { call, type NativeHandle } from '../native.js';

/** How a token is chosen from logits. */
export interface SamplingOptions {
  /** 0 (default): the most likely token. */
  temperature?: number | undefined;
  /** Keep the k most likely; 0: all. */
  topK?: number | undefined;
  /** Keep the most likely whose probabilities reach p (nucleus; Holtzman et al. 2020); 1: all. */
  topP?: number | undefined;
  /** Keep those at least minP times as likely as the most likely. */
  minP?: number | undefined;
  /** Keep those whose surprise is nearest the mean until their probabilities reach p (Meister et al. 2023); 1: all. */
  typicalP?: number | undefined;
  /** Divides positive logits of seen tokens and multiplies negative ones (Keskar et al. 2019); 1: off. */
  repetitionPenalty?: number | undefined;
  /** Taken off a logit for each time that its token was seen; 0: off. */
  frequencyPenalty?: number | undefined;
  /** Taken off the logits of seen tokens once; 0: off. */
  presencePenalty?: number | undefined;
  /** The penalties look at this many last tokens of the sequence, its prompt included; default: all. */
  penaltyLastN?: number | undefined;
  /** Added to the logits of token ids; -Infinity bans one. */
  logitBias?: Record<number, number> | undefined;
  /** No stop id and no end-of-text before so many tokens. */
  minTokens?: number | undefined;
  /** The k likeliest alternatives of each token come with it. */
  logprobs?: number | undefined;
  /** Same seed, same tokens. Default: random. */
  seed?: number | undefined;
}

const COUNT = 2 ** 31 - 1;
/** Bounds, and what an absent one is. */
const NUMBERS = {
  temperature: { from: 0, to: Number.MAX_VALUE, default: 0 },
  topK: { from: 0, to: COUNT, default: 0, integer: true },
  topP: { from: 0, to: 1, default: 1 },
  minP: { from: 0, to: 1, default: 0 },
  typicalP: { from: 0, to: 1, default: 1 },
  repetitionPenalty: { from: Number.MIN_VALUE, to: Number.MAX_VALUE, default: 1 },
  frequencyPenalty: { from: -Number.MAX_VALUE, to: Number.MAX_VALUE, default: 0 },
  presencePenalty: { from: -Number.MAX_VALUE, to: Number.MAX_VALUE, default: 0 },
  penaltyLastN: { from: 0, to: COUNT, default: -1, integer: true },
  minTokens: { from: 0, to: COUNT, default: 0, integer: true },
  logprobs: { from: 0, to: COUNT, default: 0, integer: true },
  seed: { from: 0, to: Number.MAX_SAFE_INTEGER, default: undefined, integer: true },
} as const;

/** In words. */
function rangeOf({ from, to }: { from: number; to: number }, integer: boolean): string {
  if (to !== Number.MAX_VALUE) return `${integer ? 'an integer' : 'a number'} from ${from} to ${to}`;
  if (from < 0) return 'a finite number';
  return from === 0 ? 'a number of at least 0' : 'a number above 0';
}

export const SAMPLING_OPTIONS: readonly string[] = [...Object.keys(NUMBERS), 'logitBias'];

/** A chosen token. */
export interface Chosen {
  token: number;
  /** Natural log of its probability before penalties, temperature and filters. */
  logprob: number;
  /** The likeliest tokens at its place, where `logprobs` asks for them. */
  alternatives?: { token: number; logprob: number }[];
}

/**
 * The chain of one text, in native code: penalties, bias, temperature, filters, the draw (native/program/sampler.h).
 * Network.step() uses it where the logits are.
 */
export class Sampler {
  /** @internal */
  readonly handle: NativeHandle;

  /** stopIds: those that minTokens holds back. */
  constructor(options: SamplingOptions, vocabSize: number, stopIds: Iterable<number> = []) {
    const numbers: Record<string, number> = {};
    for (const [key, range] of Object.entries(NUMBERS)) {
      const value: unknown = options[key as keyof typeof NUMBERS];
      const integer = 'integer' in range;
      if (value === undefined) {
        numbers[key] = range.default ?? Math.floor(Math.random() * 2 ** 32);
        continue;
      }
      if (!(typeof value === 'number' && value >= range.from && value <= range.to) || (integer && value % 1 !== 0)) {
        throw mismatch('ERR_ARGUMENT', `generate: ${key}`, rangeOf(range, integer), show(value));
      }
      numbers[key] = value;
    }
    const { ids: biasIds, values: biasValues } = readBias(options.logitBias, vocabSize);
    const given = { ...numbers, vocab: vocabSize, biasIds, biasValues, stopIds: Int32Array.from(stopIds) };
    this.handle = call((n) => n.createSampler(given));
  }
}

function readBias(bias: unknown, vocabSize: number): { ids: Int32Array; values: Float32Array } {
  if (bias === undefined) return { ids: new Int32Array(0), values: new Float32Array(0) };
  // A Map or an array has entries of another kind, or none.
  if (typeof bias !== 'object' || bias === null || Symbol.iterator in bias)
    throw mismatch('ERR_ARGUMENT', 'generate: logitBias', 'an object of token ids and numbers', show(bias));
  const entries = Object.entries(bias);
  for (const [id, value] of entries) {
    if (!(/^\d+$/.test(id) && Number(id) >= 0 && Number(id) < vocabSize))
      throw mismatch('ERR_ARGUMENT', 'generate: logitBias', `ids from 0 to ${vocabSize - 1}`, show(id));
    if (typeof value !== 'number' || Number.isNaN(value))
      throw mismatch('ERR_ARGUMENT', `generate: logitBias: ${id}`, 'a number', show(value));
  }
  return { ids: Int32Array.from(entries, ([id]) => Number(id)), values: Float32Array.from(entries, ([, v]) => v) };
}
