import type { Tensor, TensorLike } from '../tensor.js';
import { choice, type Input, optional, type Sizes } from './check.js';
import { output, type Plan, stateFrom, tokens } from './run.js';
import { sequences } from './sequences.js';

/** Arguments that the recurrences over a head's (K, V) matrix have in common. */
export interface HeadRecurrenceArgs {
  /** Packed sequences: B = 1, their starts and the total, (S+1). */
  cuSeqlens?: Int32Array | undefined;
  /** (B, H, K, V), packed (S, H, K, V), H the heads of v; zeros by default. */
  initialState?: TensorLike | undefined;
  /** Chunks of matrix products, or step by step; both compute the same function. Default 'chunked'. */
  mode?: 'chunked' | 'recurrent' | undefined;
}

/** What they give. */
export interface HeadRecurrenceResult {
  /** (B, L, H, V). */
  y: Tensor;
  /** (B, H, K, V), packed (S, H, K, V). */
  lastState: Tensor;
}

/** What they give where their gradient may be asked for. */
export interface KeptStates {
  /** (B, L, 2, H, V), if asked for: states at intervals, in an order of the kernel's own. */
  states?: Tensor | undefined;
}

/** What the delta rules give where their gradient may be asked for. */
export interface KeptInnovations extends KeptStates {
  /** (B, L, H, V), if states are asked for: v − Sᵀk of every token. */
  innovations?: Tensor | undefined;
}

/** The rules of {@link HeadRecurrenceArgs}; they follow those of the tensors. */
export const headRecurrence = {
  cuSeqlens: sequences,
  initialState: optional('S H K V'),
  mode: choice('chunked', 'recurrent'),
};

/**
 * A call of the native `op` with the sizes of the public one's arguments. `byToken` are its tensors of a row per token, v (B, L, H, V) and one
 * of K channels among them.
 */
export function headPlan(
  { sizes, op, K }: { sizes: Sizes; op: string; K: number },
  a: { cuSeqlens: Input; initialState: Input | undefined; withStates?: boolean },
  byToken: Record<string, Input | undefined> & { v: Input },
  attrs: Plan<unknown>['attrs'],
  others: Record<string, Input> = {},
): Plan<HeadRecurrenceResult & KeptStates> {
  const [batch, length, H, V] = byToken.v.shape as [number, number, number, number];
  const y = output(sizes, 'y', byToken.v.shape);
  const lastState = stateFrom(a.initialState, sizes, 'lastState', [a.cuSeqlens.shape[0]! - 1, H, K, V]);
  const states = a.withStates ? output(sizes, 'states', [batch, length, 2, H, V]) : undefined;
  const tensors: Plan<unknown>['tensors'] = { ...byToken };
  for (const field of Object.keys(tensors)) tensors[field] = tokens(tensors[field]);
  return {
    op,
    sizes,
    tensors: { ...tensors, ...others, cuSeqlens: a.cuSeqlens, state: lastState, y: tokens(y), states: tokens(states) },
    attrs,
    result: states ? { y, lastState, states } : { y, lastState },
  };
}

/** A call of a delta rule that gives innovations beside states, where it gives those. */
export function keepingInnovations(
  plan: Plan<HeadRecurrenceResult & KeptStates>,
  sizes: Sizes,
): Plan<HeadRecurrenceResult & KeptInnovations> {
  if (!plan.result.states) return plan;
  const innovations = output(sizes, 'innovations', plan.result.y.shape);
  return {
    ...plan,
    tensors: { ...plan.tensors, innovations: tokens(innovations) },
    result: { ...plan.result, innovations },
  };
}
