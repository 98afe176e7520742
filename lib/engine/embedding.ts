import type { Task } from './run.js';
import type { Outcome, Piece } from './step.js';

/** How the hidden states of a text's tokens become one vector. */
export type Pooling = 'mean' | 'last';

/** The last hidden states of a text, pooled. */
export class Embedding implements Task {
  readonly cacheable = false;
  readonly mostTokens: number;
  readonly result: Promise<Float32Array>;
  private pooled: Float64Array | undefined;
  private resolve!: (pooled: Float32Array) => void;
  private reject!: (error: unknown) => void;

  constructor(
    private readonly length: number,
    private readonly pooling: Pooling,
  ) {
    this.mostTokens = length;
    this.result = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    this.result.catch(() => {}); // who asked gets it, if anybody still does
  }

  want(): Pick<Piece, 'want'> {
    return { want: 'hidden' };
  }

  admitted(): void {}

  received({ rows }: Outcome, piece: Int32Array, last: boolean): 'ended' | undefined {
    const width = rows!.length / piece.length;
    this.pooled ??= new Float64Array(width);
    if (this.pooling === 'mean') for (let i = 0; i < rows!.length; i++) this.pooled[i % width]! += rows![i]!;
    if (!last) return undefined;
    const scale = this.pooling === 'mean' ? 1 / this.length : 1;
    const values = this.pooling === 'mean' ? this.pooled : rows!.subarray(rows!.length - width);
    this.resolve(Float32Array.from(values, (x) => x * scale));
    return 'ended';
  }

  failed(error: unknown): void {
    this.reject(error);
  }
}
