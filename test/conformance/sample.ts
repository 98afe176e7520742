// What a sample of an op is.
import type { Random } from './random.js';
import type { Args, Values } from './reference.js';

/** Small sizes, odd ones among them. */
export interface Dims {
  B: number;
  L: number;
  G: number;
  /** Heads of a group. */
  R: number;
  P: number;
  N: number;
  K: number;
}

export interface Sample {
  args(r: Random, d: Dims): Args;
  /** In f64; ops without one are tested against others or by their own golden cases. */
  formula?: (a: Args) => Values;
  /** Arguments with a row per token, (B, L, …), for ops that run over time; `w` of wkv6 only where it has them. */
  perToken?: string[];
  /** Names of the argument and the result that hold the state between calls. */
  state?: [initial: string, last: string];
  /** Where a state is an object of tensors: their names. */
  stateParts?: string[];
  modes?: string[];
}
