import type { TensorLike } from '../tensor.js';
import { check, flag, optional, type Rules, tensor } from './check.js';
import { type Gradients, gradientCall, gradientCallSync, gradientPlan, orZeros } from './gradient.js';
import {
  type HeadRecurrenceArgs,
  type HeadRecurrenceResult,
  headPlan,
  headRecurrence,
  type KeptInnovations,
  keepingInnovations,
} from './head-recurrence.js';
import type { Out } from './outs.js';
import { type CallOptions, type Plan, run, runSync, tokens } from './run.js';
import { requireMultiple } from './sequences.js';

/** Arguments of {@link gatedDeltaRule}. */
export interface GatedDeltaRuleArgs extends HeadRecurrenceArgs, Out<GatedDeltaRuleResult> {
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
  /** Whether the result has states and innovations, which {@link gatedDeltaRuleBackward} takes: chunks in either mode, states for K up to 128. Default false. */
  withStates?: boolean | undefined;
}

/** What {@link gatedDeltaRule} gives. */
export interface GatedDeltaRuleResult extends HeadRecurrenceResult, KeptInnovations {}

const rules = {
  q: tensor('B L Hk K'),
  k: tensor('B L Hk K'),
  v: tensor('B L H V'),
  g: tensor('B L H'),
  beta: tensor('B L H'),
  ...headRecurrence,
  withStates: flag(false),
} satisfies Rules<GatedDeltaRuleArgs>;

export function plan(args: GatedDeltaRuleArgs): Plan<GatedDeltaRuleResult> {
  const name = 'gatedDeltaRule';
  const { sizes, mode, ...a } = check(name, args, rules);
  requireMultiple(name, 'H', sizes.of('H'), 'Hk', sizes.of('Hk'));
  const rows = { q: a.q, k: a.k, v: a.v, g: a.g, beta: a.beta };
  return keepingInnovations(headPlan({ sizes, op: name, K: sizes.of('K') }, a, rows, { mode }), sizes);
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

/** Arguments of {@link gatedDeltaRuleBackward}. */
export interface GatedDeltaRuleBackwardArgs
  extends Omit<GatedDeltaRuleArgs, 'withStates' | 'out'>,
    Out<GatedDeltaRuleGradients> {
  /** (B, L, H, V): the gradient of y; zero when absent. */
  dy?: TensorLike | undefined;
  /** Log decay, (B, L, H), or one a key, (B, L, H, K), for the gradients of kda. */
  g: TensorLike;
  /** (B, H, K, V), packed (S, H, K, V): the gradient of lastState; zero when absent. */
  dlastState?: TensorLike | undefined;
  /** (B, L, 2, H, V), of gatedDeltaRule's withStates on the same arguments: without them it is run again. */
  states?: TensorLike | undefined;
  /** (B, L, H, V), of the same: without them the chunks are solved again. */
  innovations?: TensorLike | undefined;
}
/** What {@link gatedDeltaRuleBackward} gives: gradients in the shapes of the arguments that are given, in f32. */
export type GatedDeltaRuleGradients = Gradients<'q' | 'k' | 'v' | 'g' | 'beta', 'initialState'>;

const { withStates: _, ...forwardRules } = rules;

export function backwardPlan(args: GatedDeltaRuleBackwardArgs): Plan<GatedDeltaRuleGradients> {
  const name = 'gatedDeltaRuleBackward';
  const { dy, dlastState, states, innovations, ...a } = check(name, args, {
    ...forwardRules,
    g: tensor('B L H | B L H K'),
    dy: optional('B L H V'),
    dlastState: optional('S H K V'),
    states: optional('B L 2 H V'),
    innovations: optional('B L H V'),
  });
  requireMultiple(name, 'H', a.sizes.of('H'), 'Hk', a.sizes.of('Hk'));
  const { q, k, v, g, beta, cuSeqlens, initialState } = a;
  const rows = { q: tokens(q), k: tokens(k), v: tokens(v), g: tokens(g), beta: tokens(beta) };
  const kept = { states: tokens(states), innovations: tokens(innovations) };
  const above = { dy: tokens(orZeros(dy, v.shape)), dlastState, ...kept };
  const of = ['q', 'k', 'v', 'g', 'beta', 'initialState'];
  return gradientPlan(name, a, { tensors: { ...rows, cuSeqlens, initialState } }, above, of);
}

/**
 * The gradients of {@link gatedDeltaRule} (Yang et al. 2024), and with a decay a key those of kda (Kimi Linear, 2025), backwards
 * in time over states that are computed again from some that are kept, by the forward or here. q, k and β have gradients as they come: what made
 * them of unit length has its own.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export const gatedDeltaRuleBackward = gradientCall(backwardPlan);

/** {@link gatedDeltaRuleBackward} on the calling thread. */
export const gatedDeltaRuleBackwardSync = gradientCallSync(backwardPlan);
