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
// Of the last step's tokens at most in the next: what a token costs in small pieces says little of large ones.
const RISE = 1.5;
// After so many steps with a prompt one goes without: a machine whose neighbours come and go is soon another one, and what a
// step takes without a prompt is seen in such steps alone.
const LOOK_AGAIN = 8;
// A step with a prompt that took less than this share of one without: what is known of those is no longer so.
const STALE = 0.95;

export class Pace {
  /** Of steps without prompts, by the logarithm of how many texts they advanced. */
  private readonly decodeMs: number[][] = [];
  /** Of a token of a prompt beside texts, in steps without: in small pieces each costs more than in large ones. */
  private tokenShares: number[] = [];
  private lastTokens = 0;
  /** Steps with a prompt since one without. */
  private since = 0;
  /** Whether the step under way was held short: what its tokens cost is what small pieces do. */
  private limited = false;

  /** Tokens of prompts in the next step, at most `room`. */
  promptTokens({ texts, steady, prompts }: Load, room: number): number {
    this.limited = texts > 0 && (prompts === 1 || steady > 0);
    if (!this.limited) return room;
    if (this.since >= LOOK_AGAIN) return 0;
    if (this.estimate(texts) === undefined || this.tokenShares.length === 0) return Math.min(room, LEAST);
    const more = Math.max(GROWTH - 1, prompts > 1 ? (prompts - 1) / steady : 0);
    const most = Math.round(Math.min(RISE * this.lastTokens, more / median(this.tokenShares)));
    return Math.min(room, Math.max(LEAST, most));
  }

  /** What a step took that advanced so many texts and read so many tokens of prompts. */
  learn(texts: number, promptTokens: number, ms: number): void {
    const size = bucket(texts);
    if (promptTokens === 0) {
      this.since = 0;
      this.decodeMs[size] = [...(this.decodeMs[size] ?? []), ms].slice(-SAMPLES);
      return;
    }
    if (!this.limited) return;
    this.since++;
    this.lastTokens = promptTokens;
    const decode = this.estimate(texts);
    if (decode === undefined) return;
    if (ms < STALE * decode) {
      delete this.decodeMs[size];
      this.since = LOOK_AGAIN;
      return;
    }
    const share = Math.max(ms / decode - 1, 0.01) / promptTokens;
    this.tokenShares = [...this.tokenShares, share].slice(-SAMPLES);
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
