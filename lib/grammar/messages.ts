/** What the thread of the grammar engine is told. */
export type Order =
  /** Bytes of all tokens end to end; those of special tokens are empty. */
  | { kind: 'vocabulary'; vocabulary: number; bytes: Uint8Array; offsets: Uint32Array }
  /** None of its texts will come any more. */
  | { kind: 'forget'; vocabulary: number }
  /** A text that keeps to a grammar; accepted: its tokens so far. */
  | { kind: 'open'; text: number; vocabulary: number; grammar: string; stops: Int32Array; accepted: number[] }
  | { kind: 'accept'; text: number; token: number }
  | { kind: 'close'; text: number };

/** What it answers to open and accept, in their order. */
export type Answer =
  /** It was closed meanwhile: nothing was done for it. */
  | { kind: 'closed'; text: number }
  /** A bit for each id that may come, of word id >> 5 the bit id & 31. */
  | { kind: 'mask'; text: number; mask: Int32Array }
  /** Nothing may come but the end. */
  | { kind: 'whole'; text: number }
  /** broken: the engine cannot be used any more. */
  | { kind: 'failed'; text: number; why: string; broken: boolean };
