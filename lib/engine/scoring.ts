import { highest, logSumExp } from '../session/likeliest.js';
import { Turns } from '../turns.js';
import type { Task } from './run.js';
import type { Outcome, Piece } from './step.js';

/** Logits of one step: 16 MB. */
const STEP = 1 << 22;

/** What a model thought of a text. */
export interface Scores {
  /** The log-probability of every token but the first. */
  own: Float32Array;
  /** In each of these places the likeliest tokens, as many as were asked for. */
  likeliest: { token: number; logprob: number }[][];
}

/** The log-probability of every token of a text but the first, and of the `most` likeliest in its place. */
export class Scoring implements Task {
  readonly cacheable = false;
  readonly mostTokens: number;
  readonly rows: number;
  readonly scores: Scores;
  readonly result: Promise<Scores>;
  private done = 0;
  private readonly turns = new Turns();
  private work: Promise<void> = Promise.resolve();
  private resolve!: (scores: Scores) => void;
  private reject!: (error: unknown) => void;

  constructor(
    private readonly tokens: Int32Array,
    private readonly vocabSize: number,
    width: number,
    private readonly most = 0,
  ) {
    this.mostTokens = tokens.length;
    this.rows = Math.max(1, Math.floor(STEP / width));
    this.scores = { own: new Float32Array(Math.max(0, tokens.length - 1)), likeliest: [] };
    this.result = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    this.result.catch(() => {}); // who asked gets it, if anybody still does
  }

  want(): Pick<Piece, 'want'> {
    return { want: 'all' };
  }

  admitted(): void {}

  received({ rows }: Outcome, piece: Int32Array, last: boolean): 'ended' | undefined {
    const from = this.done;
    this.done += piece.length;
    this.work = this.work.then(() => this.score(rows!, from, piece.length));
    if (!last) return undefined;
    this.work.then(() => this.resolve(this.scores), this.reject);
    return 'ended';
  }

  failed(error: unknown): void {
    this.reject(error);
  }

  private async score(rows: Float32Array, from: number, count: number): Promise<void> {
    const { own, likeliest } = this.scores;
    const width = rows.length / count;
    for (let i = 0; i < count && from + i < own.length; i++) {
      const row = rows.subarray(i * width, i * width + Math.min(width, this.vocabSize));
      const sum = logSumExp(row);
      own[from + i] = row[this.tokens[from + i + 1]!]! - sum;
      // Rounded as `own` is: who looks for a token among the likeliest compares numbers.
      if (this.most > 0)
        likeliest.push(highest(row, this.most).map((token) => ({ token, logprob: Math.fround(row[token]! - sum) })));
      const pause = this.turns.due();
      if (pause) await pause;
    }
  }
}
