import type { TensorLike } from '../tensor.js';
import { check, flag, type Rules, tensor } from './check.js';
import {
  type HeadRecurrenceArgs,
  type HeadRecurrenceResult,
  headPlan,
  headRecurrence,
  type KeptInnovations,
  keepingInnovations,
} from './head-recurrence.js';
import type { Out } from './outs.js';
import { type CallOptions, type Plan, run, runSync } from './run.js';
import { requireMultiple } from './sequences.js';

/** Arguments of {@link kda}. */
export interface KdaArgs extends HeadRecurrenceArgs, Out<KdaResult> {
  /** (B, L, Hk, K), of unit length; scaled by 1/√K inside. */
  q: TensorLike;
  /** (B, L, Hk, K), of unit length; H must be a multiple of Hk. */
  k: TensorLike;
  /** (B, L, H, V); head h reads head h // (H/Hk) of q and k. */
  v: TensorLike;
  /** Log decay of every key channel, (B, L, H, K). */
  g: TensorLike;
  /** Write strength, (B, L, H). */
  beta: TensorLike;
  /** Whether the result has states and innovations, which {@link gatedDeltaRuleBackward} takes: chunks in either mode, states for K up to 128. Default false. */
  withStates?: boolean | undefined;
}

/** What {@link kda} gives. */
export interface KdaResult extends HeadRecurrenceResult, KeptInnovations {}

const rules = {
  q: tensor('B L Hk K'),
  k: tensor('B L Hk K'),
  v: tensor('B L H V'),
  g: tensor('B L H K'),
  beta: tensor('B L H'),
  ...headRecurrence,
  withStates: flag(false),
} satisfies Rules<KdaArgs>;

export function plan(args: KdaArgs): Plan<KdaResult> {
  const name = 'kda';
  const { sizes, mode, ...a } = check(name, args, rules);
  requireMultiple(name, 'H', sizes.of('H'), 'Hk', sizes.of('Hk'));
  const tensors = { q: a.q, k: a.k, v: a.v, g: a.g, beta: a.beta };
  return keepingInnovations(headPlan({ sizes, op: 'gatedDeltaRule', K: sizes.of('K') }, a, tensors, { mode }), sizes);
}

/**
 * Kimi delta attention (Kimi Linear, 2025), the delta rule with a decay per key channel, per head:
 * S ← diag(e^g)·S; S += k·(β(v − Sᵀk))ᵀ; y = Sᵀq/√K.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function kda(args: KdaArgs, options?: CallOptions): Promise<KdaResult> {
  return run(() => plan(args), options);
}

/** {@link kda} on the calling thread. */
export function kdaSync(args: KdaArgs): KdaResult {
  return runSync(plan(args));
}
