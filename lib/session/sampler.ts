import { StatespaceError, show } from '../errors.js';

export interface SamplingOptions {
  /** 0 (default): the most likely token. */
  temperature?: number;
  /** Keep the k most likely; 0: all. */
  topK?: number;
  /** Keep the most likely whose probabilities reach p (nucleus; Holtzman et al. 2020); 1: all. */
  topP?: number;
  /** Keep those at least minP times as likely as the most likely. */
  minP?: number;
  /** Divides positive logits of seen tokens and multiplies negative ones (Keskar et al. 2019); 1: off. */
  repetitionPenalty?: number;
  /** Same seed, same tokens. Default: random. */
  seed?: number;
}

const RANGES = {
  temperature: [0, Number.MAX_VALUE],
  topK: [0, 2 ** 31 - 1],
  topP: [0, 1],
  minP: [0, 1],
  repetitionPenalty: [Number.MIN_VALUE, Number.MAX_VALUE],
  seed: [0, Number.MAX_SAFE_INTEGER],
} as const;

/** Chooses tokens from logits. Filters apply in the order: penalty, temperature, topK, topP, minP. */
export class Sampler {
  private readonly seen = new Set<number>();
  private readonly random: () => number;

  constructor(
    private readonly options: SamplingOptions,
    private readonly vocabSize: number,
  ) {
    for (const [key, [low, high]] of Object.entries(RANGES)) {
      const value = options[key as keyof SamplingOptions];
      const integer = key === 'topK' || key === 'seed';
      if (value === undefined) continue;
      if (!(typeof value === 'number' && value >= low && value <= high && (!integer || Number.isInteger(value)))) {
        throw new StatespaceError(
          'ERR_ARGUMENT',
          `generate: ${key}: expected ${integer ? 'an integer' : 'a number'} from ${low} to ${high}, received ${show(value)}`,
        );
      }
    }
    this.random = splitmix(options.seed ?? Math.floor(Math.random() * 2 ** 32));
  }

  /** Tokens that the repetition penalty counts as seen. */
  observe(tokens: Iterable<number>): void {
    if ((this.options.repetitionPenalty ?? 1) === 1) return;
    for (const t of tokens) this.seen.add(t);
  }

  /** The next token, and the log of its probability under the unfiltered distribution at temperature 1. */
  next(row: Float32Array): { token: number; logprob: number } {
    const logits = row.slice(0, this.vocabSize);
    const penalty = this.options.repetitionPenalty ?? 1;
    if (penalty !== 1)
      for (const t of this.seen) logits[t] = logits[t]! > 0 ? logits[t]! / penalty : logits[t]! * penalty;
    const temperature = this.options.temperature ?? 0;
    const token = temperature === 0 ? argmax(logits) : this.draw(logits, temperature);
    this.observe([token]);
    return { token, logprob: row[token]! - logSumExp(row, this.vocabSize) };
  }

  private draw(logits: Float32Array, temperature: number): number {
    const { topK = 0, topP = 1, minP = 0 } = this.options;
    const top = logits[argmax(logits)]!;
    const weight = (t: number) => Math.exp((logits[t]! - top) / temperature);
    let kept = Array.from(logits.keys());
    if (topK > 0 || topP < 1) kept.sort((a, b) => logits[b]! - logits[a]! || a - b);
    if (topK > 0) kept = kept.slice(0, topK);
    if (topP < 1) {
      const total = kept.reduce((sum, t) => sum + weight(t), 0);
      let reached = 0;
      let count = 0;
      while (count < kept.length && reached < topP * total) reached += weight(kept[count++]!);
      kept = kept.slice(0, Math.max(1, count));
    }
    if (minP > 0) kept = kept.filter((t) => weight(t) >= minP);
    let left = this.random() * kept.reduce((sum, t) => sum + weight(t), 0);
    for (const t of kept) {
      left -= weight(t);
      if (left < 0) return t;
    }
    return kept[0]!;
  }
}

/** Index of the largest value, the first of equals. NaN never wins. */
export function argmax(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]! || Number.isNaN(values[best]!)) best = i;
  return best;
}

function logSumExp(values: ArrayLike<number>, count: number): number {
  const n = Math.min(values.length, count);
  let top = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < n; i++) top = Math.max(top, values[i]!);
  let sum = 0;
  for (let i = 0; i < n; i++) sum += Math.exp(values[i]! - top);
  return top + Math.log(sum);
}

/** splitmix64 (Steele et al. 2014): uniform in [0, 1) with 53 bits. */
function splitmix(seed: number): () => number {
  const mask = (1n << 64n) - 1n;
  let s = BigInt(seed);
  return () => {
    s = (s + 0x9e3779b97f4a7c15n) & mask;
    let z = s;
    z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & mask;
    z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & mask;
    z ^= z >> 31n;
    return Number(z >> 11n) / 2 ** 53;
  };
}
