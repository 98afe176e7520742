import type { Tensor, TensorLike } from '../tensor.js';
import { check, choice, flag, optional, type Rules, tensor } from './check.js';
import { type Gradients, gradientCall, gradientCallSync, gradientPlan, orZeros } from './gradient.js';
import type { Out } from './outs.js';
import { type CallOptions, output, type Plan, run, runSync, stateFrom, tokens } from './run.js';
import { sequences } from './sequences.js';

/** Arguments of {@link wkv6}. */
export interface Wkv6Args extends Out<Wkv6Result> {
  /** Receptance, (B, L, H, K). */
  r: TensorLike;
  /** (B, L, H, K). */
  k: TensorLike;
  /** (B, L, H, V). */
  v: TensorLike;
  /** Log decay, at most 0: (H, K) for RWKV-5 (−exp(time_decay)), (B, L, H, K) for RWKV-6. */
  w: TensorLike;
  /** Bonus of the present token, (H, K). */
  u: TensorLike;
  /** Packed sequences: B = 1, their starts and the total, (S+1). */
  cuSeqlens?: Int32Array | undefined;
  /** (B, H, K, V), packed (S, H, K, V); zeros by default. */
  initialState?: TensorLike | undefined;
  /** Chunks of matrix products, or step by step; both compute the same function. Default 'chunked'. */
  mode?: 'chunked' | 'recurrent' | undefined;
  /** Whether the result has states, which {@link wkv6Backward} takes: chunks in either mode, K up to 128. Default false. */
  withStates?: boolean | undefined;
}

/** What {@link wkv6} gives. */
export interface Wkv6Result {
  /** (B, L, H, V). */
  y: Tensor;
  /** (B, H, K, V), packed (S, H, K, V). */
  lastState: Tensor;
  /** (B, L, 2, H, V), if asked for: states at intervals, in an order of the kernel's own. */
  states?: Tensor | undefined;
}

const rules = {
  r: tensor('B L H K'),
  k: tensor('B L H K'),
  v: tensor('B L H V'),
  w: tensor('H K | B L H K'),
  u: tensor('H K'),
  cuSeqlens: sequences,
  initialState: optional('S H K V'),
  mode: choice('chunked', 'recurrent'),
  withStates: flag(false),
} satisfies Rules<Wkv6Args>;

export function plan(args: Wkv6Args): Plan<Wkv6Result> {
  const { sizes, ...a } = check('wkv6', args, rules);
  const y = output(sizes, 'y', a.v.shape);
  const lastState = stateFrom(a.initialState, sizes, 'lastState', sizes.all('S', 'H', 'K', 'V'));
  const [batch, length, H, V] = sizes.all('B', 'L', 'H', 'V');
  const states = a.withStates ? output(sizes, 'states', [batch, length, 2, H, V]) : undefined;
  return {
    op: 'wkv6',
    sizes,
    tensors: {
      r: tokens(a.r),
      k: tokens(a.k),
      v: tokens(a.v),
      w: a.w.shape.length === 4 ? tokens(a.w) : a.w,
      u: a.u,
      cuSeqlens: a.cuSeqlens,
      state: lastState,
      y: tokens(y),
      states: tokens(states),
    },
    attrs: { mode: a.mode },
    result: states ? { y, lastState, states } : { y, lastState },
  };
}

/**
 * Linear attention of RWKV-5 and RWKV-6 (Peng et al. 2024), per head: y = Sᵀr + (r·(u∘k))·v; S ← diag(exp w)·S + k·vᵀ.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function wkv6(args: Wkv6Args, options?: CallOptions): Promise<Wkv6Result> {
  return run(() => plan(args), options);
}

/** {@link wkv6} on the calling thread. */
export function wkv6Sync(args: Wkv6Args): Wkv6Result {
  return runSync(plan(args));
}

/** Arguments of {@link wkv6Backward}. */
export interface Wkv6BackwardArgs extends Omit<Wkv6Args, 'withStates' | 'out'>, Out<Wkv6Gradients> {
  /** (B, L, H, V): the gradient of y; zero when absent. */
  dy?: TensorLike | undefined;
  /** (B, H, K, V), packed (S, H, K, V): the gradient of lastState; zero when absent. */
  dlastState?: TensorLike | undefined;
  /** (B, L, 2, H, V), of wkv6's withStates on the same arguments: without them it is run again. */
  states?: TensorLike | undefined;
}
/** What {@link wkv6Backward} gives: gradients in the shapes of the arguments that are given, in f32. */
export type Wkv6Gradients = Gradients<'r' | 'k' | 'v' | 'w' | 'u', 'initialState'>;

const { withStates: _, ...forwardRules } = rules;

export function backwardPlan(args: Wkv6BackwardArgs): Plan<Wkv6Gradients> {
  const name = 'wkv6Backward';
  const { dy, dlastState, states, ...a } = check(name, args, {
    ...forwardRules,
    dy: optional('B L H V'),
    dlastState: optional('S H K V'),
    states: optional('B L 2 H V'),
  });
  const { r, k, v, u, cuSeqlens, initialState } = a;
  const w = a.w.shape.length === 4 ? tokens(a.w) : a.w;
  const tensors = { r: tokens(r), k: tokens(k), v: tokens(v), w, u, cuSeqlens, initialState };
  const above = { dy: tokens(orZeros(dy, v.shape)), dlastState, states: tokens(states) };
  return gradientPlan(name, a, { tensors }, above, ['r', 'k', 'v', 'w', 'u', 'initialState']);
}

/**
 * The gradients of {@link wkv6}, backwards in time over states that are computed again from some that are kept, by the forward or here. dw is
 * that of the log decay, summed over all tokens where w is one for all.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export const wkv6Backward = gradientCall(backwardPlan);

/** {@link wkv6Backward} on the calling thread. */
export const wkv6BackwardSync = gradientCallSync(backwardPlan);
