/**
 * How many tokens of prompts go into a step beside those of running texts, so that a long prompt does not stop the
 * others: the step may take GROWTH times what it takes without. Both costs are learnt from the steps themselves.
 */
const GROWTH = 1.7;
// Of the past in an estimate, a step.
const MEMORY = 0.8;
// Fewer tokens are hardly cheaper: the weights are read all the same.
const LEAST = 16;

export class Pace {
  /** Of steps without prompts, by the logarithm of how many texts they advanced. */
  private readonly decodeMs: number[] = [];
  private tokenMs: number | undefined;

  /** Tokens of prompts beside `texts` running ones, at most `room`. */
  promptTokens(texts: number, room: number): number {
    if (texts === 0) return room;
    const decode = this.estimate(texts);
    if (decode === undefined || this.tokenMs === undefined) return Math.min(room, LEAST);
    return Math.min(room, Math.max(LEAST, Math.floor(((GROWTH - 1) * decode) / this.tokenMs)));
  }

  /** What a step took that advanced so many texts and read so many tokens of prompts. */
  learn(texts: number, promptTokens: number, ms: number): void {
    if (promptTokens === 0) {
      const size = bucket(texts);
      this.decodeMs[size] = blend(this.decodeMs[size], ms);
      return;
    }
    const decode = texts === 0 ? 0 : this.estimate(texts);
    if (decode !== undefined) this.tokenMs = blend(this.tokenMs, Math.max(ms - decode, ms / 100) / promptTokens);
  }

  /** Of as many texts, or of the nearest number that is known. */
  private estimate(texts: number): number | undefined {
    const size = bucket(texts);
    for (let away = 0; away < 32; away++) {
      const near = this.decodeMs[size - away] ?? this.decodeMs[size + away];
      if (near !== undefined) return near;
    }
    return undefined;
  }
}

const bucket = (texts: number): number => Math.round(Math.log2(texts));

const blend = (old: number | undefined, value: number): number =>
  old === undefined ? value : MEMORY * old + (1 - MEMORY) * value;
