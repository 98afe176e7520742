/** What a step has to do. */
export interface Load {
  /** Running texts. */
  texts: number;
  /** Of these, those that have gone on without prompts beside them: whose pace is known. */
  steady: number;
  /** Prompts that are read. */
  prompts: number;
}

/**
 * How many tokens of prompts go into a step beside those of running texts, so that a long prompt does not stop the
 * others: the step may take GROWTH times what it takes without. Both costs are learnt from the steps themselves.
 *
 * Where many come at once there is no pace that anybody is used to, and narrow pieces would keep all of them waiting: each
 * prompt but the first counts as much as each steady text, and without such texts steps are as full as they can be.
 */
// Measured at 64 texts of Mamba-130M and a Jamba of its size while a prompt of 4,000 tokens is read, gap p99 / median: 1.88 and 1.91;
// at 1.5 it was 2.07 and 2.17 (`bench serving --only gap`).
const GROWTH = 1.35;
// Fewer tokens are hardly cheaper: the weights are read all the same.
const LEAST = 16;
// Whose median counts: a step that a neighbour on the machine made slow says nothing of the next.
const SAMPLES = 5;
const DECODE_SAMPLES = 15;
// Of the last step's tokens at most in the next: what a token costs in small pieces says little of large ones.
const RISE = 1.5;

export class Pace {
  /** Of steps without prompts, by the logarithm of how many texts they advanced. */
  private readonly decodeMs: number[][] = [];
  /** Of a token of a prompt beside texts: in small pieces each costs more than in large ones. */
  private tokenMs: number | undefined;
  private tokenSamples: number[] = [];
  private lastTokens = 0;
  /** Whether the step under way was held short: what its tokens cost is what small pieces do. */
  private limited = false;

  /** Tokens of prompts in the next step, at most `room`. */
  promptTokens({ texts, steady, prompts }: Load, room: number): number {
    this.limited = texts > 0 && (prompts === 1 || steady > 0);
    if (!this.limited) return room;
    const decode = this.estimate(texts);
    if (decode === undefined || this.tokenMs === undefined) return Math.min(room, LEAST);
    const more = Math.max(GROWTH - 1, prompts > 1 ? (prompts - 1) / steady : 0);
    const most = Math.floor(Math.min(RISE * this.lastTokens, (more * decode) / this.tokenMs));
    return Math.min(room, Math.max(LEAST, most));
  }

  /** What a step took that advanced so many texts and read so many tokens of prompts. */
  learn(texts: number, promptTokens: number, ms: number): void {
    if (promptTokens === 0) {
      const size = bucket(texts);
      this.decodeMs[size] = [...(this.decodeMs[size] ?? []), ms].slice(-DECODE_SAMPLES);
      return;
    }
    if (!this.limited) return;
    this.lastTokens = promptTokens;
    const decode = this.estimate(texts);
    if (decode === undefined) return;
    const samples = [...this.tokenSamples, Math.max(ms - decode, ms / 100) / promptTokens].slice(-SAMPLES);
    this.tokenSamples = samples;
    this.tokenMs = median(samples);
  }

  /** Of as many texts, or of the nearest number that is known. */
  private estimate(texts: number): number | undefined {
    const size = bucket(texts);
    for (let away = 0; away < 32; away++) {
      const near = this.decodeMs[size - away] ?? this.decodeMs[size + away];
      if (near !== undefined) return median(near);
    }
    return undefined;
  }
}

const bucket = (texts: number): number => Math.round(Math.log2(texts));

const median = (samples: readonly number[]): number => [...samples].sort((a, b) => a - b)[samples.length >> 1]!;
