import type { NativeHandle } from '../native.js';
import type { TensorLike } from '../tensor.js';
import type { Chosen, Sampler } from './sampler.js';

/** Text to ids and back, as a session needs it. */
export interface Tokenizing {
  encode(text: string, options?: { addSpecialTokens?: boolean }): Int32Array;
  decode(ids: ArrayLike<number>, options?: { skipSpecialTokens?: boolean }): string;
  /** Where decoding tidies, which takes spaces away that it gave before: the text without that. */
  tidies?(ids: ArrayLike<number>): string;
  /** What a token adds to a text; undefined for special tokens and ids without one. */
  tokenBytes?(id: number): Uint8Array | undefined;
  /** The byte of a token of one, where tokens of bytes become text a run of them at a time. */
  fallbackByte?(id: number): number | undefined;
  /** Id of a text that is one special token. */
  specialToken?(text: string): number | undefined;
}

/** Which rows of output a forward returns; whole: all of a sequence that is not continued; hidden: all of
 * what the head reads, in place of what it gives. */
export type Rows = 'none' | 'last' | 'all' | 'whole' | 'hidden';

/** What stops a forward and watches it. */
export interface Watch {
  signal?: AbortSignal | undefined;
  onProgress?: ((tokensDone: number) => void) | undefined;
}

/** One sequence of a step. */
export interface StepEntry {
  session: NativeHandle;
  /** To feed; none: the sampler goes on from the session's last row. */
  tokens: Int32Array;
  /** Rows of logits to return; default none. */
  logits?: 'none' | 'last' | 'all';
  /** Chooses the next token, where the logits are. */
  sampler?: Sampler;
  /** Of the ids that may come next: word id >> 5, bit id & 31. */
  mask?: Int32Array;
}

export interface StepResult {
  /** What the sampler chose. */
  next?: Chosen;
  /** (rows, V), where rows were asked for. */
  rows: Float32Array;
}

/** Sessions and what each reads, laid end to end, with the rows that it wants. */
export type Fed = [
  sessions: NativeHandle[],
  data: Int32Array | Float32Array,
  lengths: number[],
  logits: Rows[],
  options: Watch,
];

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
  /** Whether its rows are logits of tokens, from which a text can be generated. */
  readonly hasLogits: boolean;
  /** 'f32', 'q4_0' …: what its matrices are held in. */
  readonly heldType: string;
  readonly tokenizer?: Tokenizing;
  /** encodePrompt() of a long text in a thread of its own; undefined where the text is short, or cannot be read there. */
  encodeLong(text: string, first: boolean): Promise<Int32Array> | undefined;
  /** Ids that end a text. */
  readonly eosTokens: readonly number[];
  /** Of the weights and their types: what a snapshot is bound to. */
  readonly fingerprint: Uint8Array;
  readonly disposed: boolean;

  /** A new sequence's state. */
  newSession(): NativeHandle;
  /** Checks what a call was given as `where` (default: forward's tokens) and makes it an array that native code reads. */
  readInput(tokens: ArrayLike<number> | TensorLike, where?: string): Int32Array | Float32Array;
  /** Rows of output that a sequence of this length gives. */
  outputRows(logits: 'none' | 'last' | 'all', length: number): number;

  /** One native call over several sessions; the network's end cancels it. `out`: memory for the rows, no more, no less. */
  forward(...fed: [...Fed, out?: Float32Array]): Promise<Float32Array>;
  /** The same, each session's rows in memory of their own. */
  forwardApart(...fed: Fed): Promise<Float32Array[]>;
  /** The same of tokens, with the choice of those that follow; all entries or none. */
  step(entries: readonly StepEntry[], options: Pick<Watch, 'signal'>): Promise<StepResult[]>;
}
