import { logProbability } from '../session/sampler.js';
import { Turns } from '../turns.js';
import type { Task } from './run.js';
import type { Outcome, Piece } from './step.js';

/** Logits of one step: 16 MB. */
const STEP = 1 << 22;

/** The log-probability of every token of a text but the first. */
export class Scoring implements Task {
  readonly cacheable = false;
  readonly mostTokens: number;
  readonly rows: number;
  readonly scores: Float32Array;
  readonly result: Promise<Float32Array>;
  private done = 0;
  private readonly turns = new Turns();
  private work: Promise<void> = Promise.resolve();
  private resolve!: (scores: Float32Array) => void;
  private reject!: (error: unknown) => void;

  constructor(
    private readonly tokens: Int32Array,
    private readonly vocabSize: number,
    width: number,
  ) {
    this.mostTokens = tokens.length;
    this.rows = Math.max(1, Math.floor(STEP / width));
    this.scores = new Float32Array(Math.max(0, tokens.length - 1));
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
    const width = rows.length / count;
    for (let i = 0; i < count && from + i < this.scores.length; i++) {
      const row = rows.subarray(i * width, (i + 1) * width);
      this.scores[from + i] = logProbability(row, Math.min(width, this.vocabSize), this.tokens[from + i + 1]!);
      const pause = this.turns.due();
      if (pause) await pause;
    }
  }
}
