import type { Generated } from './generation.js';

/** Tokens of a sequence whose text waits for what comes next, and how many characters of it were given out. */
export interface Unsaid {
  readonly from: number;
  readonly until: number;
  readonly given: number;
  /** The last of these tokens, which nobody was given. */
  readonly last: Generated;
}

/**
 * Keeps count of what a stream of text holds back: where a call ends early, the next one that goes on from there says it.
 * `left`: what an earlier call held back where this one begins.
 */
export class UnsaidText {
  private skip: number;

  constructor(private held: Unsaid | undefined) {
    this.skip = held?.given ?? 0;
  }

  get left(): Unsaid | undefined {
    return this.held;
  }

  /** Of the stream's next text, what was not given out before. */
  news(text: string): string {
    const known = Math.min(this.skip, text.length);
    this.skip -= known;
    return text.slice(known);
  }

  /** The stream holds text back behind this token, at this place. */
  hold(at: number, last: Generated): void {
    this.held = { from: this.held?.from ?? at, until: at + 1, given: this.held?.given ?? 0, last };
  }

  /** It holds none. */
  clear(): void {
    this.held = undefined;
  }

  /** Text that the reader gets. */
  say(text: string): void {
    if (this.held) this.held = { ...this.held, given: this.held.given + text.length };
  }
}
