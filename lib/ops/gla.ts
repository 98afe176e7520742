import type { TensorLike } from '../tensor.js';
import { check, type Rules, tensor } from './check.js';
import { type HeadRecurrenceArgs, type HeadRecurrenceResult, headPlan, headRecurrence } from './head-recurrence.js';
import { type CallOptions, type Plan, run, runSync } from './run.js';

/** Arguments of {@link gla}. */
export interface GlaArgs extends HeadRecurrenceArgs {
  /** (B, L, H, K); scaled by 1/√K inside. */
  q: TensorLike;
  /** (B, L, H, K). */
  k: TensorLike;
  /** (B, L, H, V). */
  v: TensorLike;
  /** Log decay of every key channel, at most 0, (B, L, H, K). */
  g: TensorLike;
}

/** What {@link gla} gives. */
export interface GlaResult extends HeadRecurrenceResult {}

const rules = {
  q: tensor('B L H K'),
  k: tensor('B L H K'),
  v: tensor('B L H V'),
  g: tensor('B L H K'),
  ...headRecurrence,
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
