import type { TensorLike } from '../tensor.js';
import { check, type Rules, tensor } from './check.js';
import { type HeadRecurrenceArgs, type HeadRecurrenceResult, headPlan, headRecurrence } from './head-recurrence.js';
import { type CallOptions, type Plan, run, runSync } from './run.js';
import { requireMultiple } from './sequences.js';

/** Arguments of {@link gatedDeltaRule}. */
export interface GatedDeltaRuleArgs extends HeadRecurrenceArgs {
  /** (B, L, Hk, K), of unit length; scaled by 1/√K inside. */
  q: TensorLike;
  /** (B, L, Hk, K), of unit length; H must be a multiple of Hk. */
  k: TensorLike;
  /** (B, L, H, V); head h reads head h // (H/Hk) of q and k. */
  v: TensorLike;
  /** Log decay, (B, L, H). */
  g: TensorLike;
  /** Write strength, (B, L, H). */
  beta: TensorLike;
}

/** What {@link gatedDeltaRule} gives. */
export interface GatedDeltaRuleResult extends HeadRecurrenceResult {}

const rules = {
  q: tensor('B L Hk K'),
  k: tensor('B L Hk K'),
  v: tensor('B L H V'),
  g: tensor('B L H'),
  beta: tensor('B L H'),
  ...headRecurrence,
} satisfies Rules<GatedDeltaRuleArgs>;

export function plan(args: GatedDeltaRuleArgs): Plan<GatedDeltaRuleResult> {
  const name = 'gatedDeltaRule';
  const { sizes, mode, ...a } = check(name, args, rules);
  requireMultiple(name, 'H', sizes.of('H'), 'Hk', sizes.of('Hk'));
  return headPlan({ sizes, op: name, K: sizes.of('K') }, a, { q: a.q, k: a.k, v: a.v, g: a.g, beta: a.beta }, { mode });
}

/**
 * The gated delta rule (Yang et al. 2024; Qwen3-Next), per head: S ← e^g·S; S += k·(β(v − Sᵀk))ᵀ; y = Sᵀq/√K.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function gatedDeltaRule(args: GatedDeltaRuleArgs, options?: CallOptions): Promise<GatedDeltaRuleResult> {
  return run(() => plan(args), options);
}

/** {@link gatedDeltaRule} on the calling thread. */
export function gatedDeltaRuleSync(args: GatedDeltaRuleArgs): GatedDeltaRuleResult {
  return runSync(plan(args));
}
