// What a trainer learns from.
import type { Graph } from '../graph/graph.js';
import type { TensorLike } from '../tensor.js';
import type { Loss } from './options.js';

/** What a step learns from: sequences of tokens. */
export interface TrainingBatch {
  /** (B, T) i32: sequences of token ids. */
  ids: TensorLike;
  /**
   * (B, T) i32; default: ids. Of the loss of next tokens: position t predicts label t + 1; −100 is no target. The loss is the
   * mean over all targets.
   */
  labels?: TensorLike | undefined;
  /** Of the other losses: see RowBatch. */
  targets?: TensorLike | undefined;
  /** B = 1: the sequences lie end to end, [0, end of the first, …, T], and nothing flows across a border. */
  cuSeqlens?: Int32Array | undefined;
}

/** What a network that reads rows learns from. */
export interface RowBatch {
  /** (B, T, features) f32. */
  inputs: TensorLike;
  /**
   * Of `crossEntropy`, i32 classes: (B, T), each of its own row, or (B), of the last row of each sequence; of a network that
   * answers once for a sequence (B). −100 is no target. Of `mse`, f32: the same with an axis of outputs behind; NaN is no target.
   * Where cuSeqlens are given, B of the second form is the number of sequences; that of an empty one is no target.
   */
  targets: TensorLike;
  /** As in TrainingBatch. */
  cuSeqlens?: Int32Array | undefined;
}

/** Either, as it came. */
export type Batch = TrainingBatch | RowBatch;

export type Given = Partial<TrainingBatch & RowBatch>;

/** What a trainer's model takes and gives. */
export interface Reading {
  readonly loss: Loss;
  /** Of a row that is read in place of an id; 0: ids. */
  readonly features: number;
  /** Rows of the embedding. */
  readonly idRows: number;
  /** Classes, or numbers, of a row that it gives. */
  readonly outputs: number;
  /** One row for a sequence, in place of one for a token. */
  readonly bySequence: boolean;
  /** Where rotations depend on the length of a sequence. */
  readonly longest: Graph['longest'];
}
