import type { TensorLike } from '../tensor.js';
import { check, type Rules, tensor } from './check.js';
import { type HeadRecurrenceArgs, type HeadRecurrenceResult, headPlan, headRecurrence } from './head-recurrence.js';
import type { Out } from './outs.js';
import { type CallOptions, type Plan, run, runSync } from './run.js';
import { requireMultiple } from './sequences.js';

/** Arguments of {@link deltaRule}. */
export interface DeltaRuleArgs extends HeadRecurrenceArgs, Out<DeltaRuleResult> {
  /** (B, L, Hk, K), of unit length; scaled by 1/√K inside. */
  q: TensorLike;
  /** (B, L, Hk, K), of unit length; H must be a multiple of Hk. */
  k: TensorLike;
  /** (B, L, H, V); head h reads head h // (H/Hk) of q and k. */
  v: TensorLike;
  /** Write strength, (B, L, H). */
  beta: TensorLike;
}

/** What {@link deltaRule} gives. */
export interface DeltaRuleResult extends HeadRecurrenceResult {}

const rules = {
  q: tensor('B L Hk K'),
  k: tensor('B L Hk K'),
  v: tensor('B L H V'),
  beta: tensor('B L H'),
  ...headRecurrence,
} satisfies Rules<DeltaRuleArgs>;

export function plan(args: DeltaRuleArgs): Plan<DeltaRuleResult> {
  const name = 'deltaRule';
  const { sizes, mode, ...a } = check(name, args, rules);
  requireMultiple(name, 'H', sizes.of('H'), 'Hk', sizes.of('Hk'));
  const tensors = { q: a.q, k: a.k, v: a.v, beta: a.beta };
  return headPlan({ sizes, op: 'gatedDeltaRule', K: sizes.of('K') }, a, tensors, { mode });
}

/**
 * The delta rule without decay (Schlag et al. 2021; DeltaNet), per head: S += k·(β(v − Sᵀk))ᵀ; y = Sᵀq/√K.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function deltaRule(args: DeltaRuleArgs, options?: CallOptions): Promise<DeltaRuleResult> {
  return run(() => plan(args), options);
}

/** {@link deltaRule} on the calling thread. */
export function deltaRuleSync(args: DeltaRuleArgs): DeltaRuleResult {
  return runSync(plan(args));
}
