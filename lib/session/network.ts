import type { NativeHandle } from '../native.js';
import type { TensorLike } from '../tensor.js';

/** Text to ids and back, as a session needs it. */
export interface Tokenizing {
  encode(text: string): Int32Array;
  decode(ids: ArrayLike<number>): string;
}

/** Which rows of output a forward returns; whole: all of a sequence that is not continued. */
export type Rows = 'none' | 'last' | 'all' | 'whole';

/** What stops a forward and watches it. */
export interface Watch {
  signal?: AbortSignal;
  onProgress?: (tokensDone: number) => void;
}

/**
 * What a session needs of the network that it is a sequence of: what the network is, what it can read, and a forward.
 * A Model is one.
 */
export interface Network {
  /** Ids below it can be sampled. */
  readonly vocabSize: number;
  /** Values of an output row, and of an input row (1: token ids). */
  readonly outputFeatures: number;
  readonly inputWidth: number;
  readonly tokenizer: Tokenizing | undefined;
  /** Ids that end a text. */
  readonly eosTokens: readonly number[];
  /** Of the weights and their types: what a snapshot is bound to. */
  readonly fingerprint: Uint8Array;
  readonly disposed: boolean;

  /** Checks what a forward was given and makes it an array that native code reads. */
  readInput(tokens: ArrayLike<number> | TensorLike): Int32Array | Float32Array;
  /** Rows of output that a sequence of this length gives. */
  outputRows(logits: 'none' | 'last' | 'all', length: number): number;

  /** One native call over several sessions; the network's end cancels it. */
  forward(
    sessions: NativeHandle[],
    data: Int32Array | Float32Array,
    lengths: number[],
    logits: Rows[],
    options: Watch,
  ): Promise<Float32Array>;
}
