import type { Tensor, TensorLike } from '../tensor.js';
import { check, choice, optional, type Rules, tensor } from './check.js';
import type { Out } from './outs.js';
import { type CallOptions, output, type Plan, run, runSync, stateFrom, tokens } from './run.js';
import { requireMultiple, sequences } from './sequences.js';

/** Arguments of {@link gatedDeltaRule}. */
export interface GatedDeltaRuleArgs extends Out<GatedDeltaRuleResult> {
  /** (B, L, Hk, K), of unit length; scaled by 1/√K inside. */
  q: TensorLike;
  /** (B, L, Hk, K), of unit length; H must be a multiple of Hk. */
  k: TensorLike;
  /** (B, L, H, V). */
  v: TensorLike;
  /** Log decay, (B, L, H). */
  g: TensorLike;
  /** Write strength, (B, L, H). */
  beta: TensorLike;
  /** Packed sequences: B = 1, their starts and the total, (S+1). */
  cuSeqlens?: Int32Array;
  /** (B, H, K, V), packed (S, H, K, V); zeros by default. */
  initialState?: TensorLike;
  /** Chunks of matrix products, or step by step; both compute the same function. Default 'chunked'. */
  mode?: 'chunked' | 'recurrent';
}

/** What {@link gatedDeltaRule} gives. */
export interface GatedDeltaRuleResult {
  /** (B, L, H, V). */
  y: Tensor;
  /** (B, H, K, V), packed (S, H, K, V). */
  lastState: Tensor;
}

const rules = {
  q: tensor('B L Hk K'),
  k: tensor('B L Hk K'),
  v: tensor('B L H V'),
  g: tensor('B L H'),
  beta: tensor('B L H'),
  cuSeqlens: sequences,
  initialState: optional('S H K V'),
  mode: choice('chunked', 'recurrent'),
} satisfies Rules<GatedDeltaRuleArgs>;

export function plan(args: GatedDeltaRuleArgs): Plan<GatedDeltaRuleResult> {
  const { sizes, ...a } = check('gatedDeltaRule', args, rules);
  requireMultiple('gatedDeltaRule', 'H', sizes.of('H'), 'Hk', sizes.of('Hk'));
  const y = output(sizes, 'y', a.v.shape);
  const lastState = stateFrom(a.initialState, sizes, 'lastState', sizes.all('S', 'H', 'K', 'V'));
  return {
    op: 'gatedDeltaRule',
    sizes,
    tensors: {
      q: tokens(a.q),
      k: tokens(a.k),
      v: tokens(a.v),
      g: tokens(a.g),
      beta: tokens(a.beta),
      cuSeqlens: a.cuSeqlens,
      state: lastState,
      y: tokens(y),
    },
    attrs: { mode: a.mode },
    result: { y, lastState },
  };
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
