import type { TensorLike } from '../tensor.js';
import { check, flag, optional, type Rules, tensor } from './check.js';
import { type Gradients, gradientCall, gradientCallSync, gradientPlan, orZeros } from './gradient.js';
import {
  type HeadRecurrenceArgs,
  type HeadRecurrenceResult,
  headPlan,
  headRecurrence,
  type KeptStates,
} from './head-recurrence.js';
import type { Out } from './outs.js';
import { type CallOptions, type Plan, run, runSync, tokens } from './run.js';

/** Arguments of {@link gla}. */
export interface GlaArgs extends HeadRecurrenceArgs, Out<GlaResult> {
  /** (B, L, H, K); scaled by 1/√K inside. */
  q: TensorLike;
  /** (B, L, H, K). */
  k: TensorLike;
  /** (B, L, H, V). */
  v: TensorLike;
  /** Log decay of every key channel, at most 0, (B, L, H, K). */
  g: TensorLike;
  /** Whether the result has states, which {@link glaBackward} takes: chunks in either mode, K up to 128. Default false. */
  withStates?: boolean | undefined;
}

/** What {@link gla} gives. */
export interface GlaResult extends HeadRecurrenceResult, KeptStates {}

const rules = {
  q: tensor('B L H K'),
  k: tensor('B L H K'),
  v: tensor('B L H V'),
  g: tensor('B L H K'),
  ...headRecurrence,
  withStates: flag(false),
} satisfies Rules<GlaArgs>;

export function plan(args: GlaArgs): Plan<GlaResult> {
  const { sizes, mode, ...a } = check('gla', args, rules);
  return headPlan({ sizes, op: 'gla', K: sizes.of('K') }, a, { q: a.q, k: a.k, v: a.v, g: a.g }, { mode });
}

/**
 * Gated linear attention (Yang et al. 2024), per head: S ← diag(e^g)·S + k·vᵀ; y = Sᵀq/√K.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function gla(args: GlaArgs, options?: CallOptions): Promise<GlaResult> {
  return run(() => plan(args), options);
}

/** {@link gla} on the calling thread. */
export function glaSync(args: GlaArgs): GlaResult {
  return runSync(plan(args));
}

/** Arguments of {@link glaBackward}. */
export interface GlaBackwardArgs extends Omit<GlaArgs, 'withStates' | 'out'>, Out<GlaGradients> {
  /** (B, L, H, V): the gradient of y; zero when absent. */
  dy?: TensorLike | undefined;
  /** (B, H, K, V), packed (S, H, K, V): the gradient of lastState; zero when absent. */
  dlastState?: TensorLike | undefined;
  /** (B, L, 2, H, V), of gla's withStates on the same arguments: without them it is run again. */
  states?: TensorLike | undefined;
}
/** What {@link glaBackward} gives: gradients in the shapes of the arguments that are given, in f32. */
export type GlaGradients = Gradients<'q' | 'k' | 'v' | 'g', 'initialState'>;

const { withStates: _, ...forwardRules } = rules;

export function backwardPlan(args: GlaBackwardArgs): Plan<GlaGradients> {
  const name = 'glaBackward';
  const { dy, dlastState, states, ...a } = check(name, args, {
    ...forwardRules,
    dy: optional('B L H V'),
    dlastState: optional('S H K V'),
    states: optional('B L 2 H V'),
  });
  const { q, k, v, g, cuSeqlens, initialState } = a;
  const rows = { q: tokens(q), k: tokens(k), v: tokens(v), g: tokens(g) };
  const above = { dy: tokens(orZeros(dy, v.shape)), dlastState, states: tokens(states) };
  const of = ['q', 'k', 'v', 'g', 'initialState'];
  return gradientPlan(name, a, { tensors: { ...rows, cuSeqlens, initialState } }, above, of);
}

/**
 * The gradients of {@link gla}, backwards in time over states that are computed again from some that are kept, by the
 * forward or here, in chunks of matrix products.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export const glaBackward = gradientCall(backwardPlan);

/** {@link glaBackward} on the calling thread. */
export const glaBackwardSync = gradientCallSync(backwardPlan);
