import type { Tensor, TensorLike } from '../tensor.js';
import { check, choice, flag, optional, type Rules, tensor } from './check.js';
import { type Gradients, gradientCall, gradientCallSync, gradientPlan, orZeros } from './gradient.js';
import type { Out } from './outs.js';
import { type CallOptions, output, type Plan, run, runSync, stateFrom, tokens } from './run.js';
import { sequences } from './sequences.js';

/** Arguments of {@link wkv7}. */
export interface Wkv7Args extends Out<Wkv7Result> {
  /** Receptance, (B, L, H, K). */
  r: TensorLike;
  /** Log decay, at most 0, (B, L, H, K). */
  w: TensorLike;
  /** (B, L, H, K). */
  k: TensorLike;
  /** (B, L, H, V). */
  v: TensorLike;
  /** What is removed, (B, L, H, K): −kk in RWKV-7. */
  a: TensorLike;
  /** What is put in its place, (B, L, H, K): kk∘gate in RWKV-7. */
  b: TensorLike;
  /** Packed sequences: B = 1, their starts and the total, (S+1). */
  cuSeqlens?: Int32Array | undefined;
  /** (B, H, V, K), packed (S, H, V, K); zeros by default. */
  initialState?: TensorLike | undefined;
  /** Chunks of matrix products, or step by step; both compute the same function. Default 'chunked'. */
  mode?: 'chunked' | 'recurrent' | undefined;
  /** Whether the result has states, which {@link wkv7Backward} takes: chunks in either mode, K up to 128. Default false. */
  withStates?: boolean | undefined;
}

/** What {@link wkv7} gives. */
export interface Wkv7Result {
  /** (B, L, H, V). */
  y: Tensor;
  /** (B, H, V, K), packed (S, H, V, K). */
  lastState: Tensor;
  /** (B, L, 2, H, V), if asked for: states at intervals, in an order of the kernel's own. */
  states?: Tensor | undefined;
}

const rules = {
  r: tensor('B L H K'),
  w: tensor('B L H K'),
  k: tensor('B L H K'),
  v: tensor('B L H V'),
  a: tensor('B L H K'),
  b: tensor('B L H K'),
  cuSeqlens: sequences,
  initialState: optional('S H V K'),
  mode: choice('chunked', 'recurrent'),
  withStates: flag(false),
} satisfies Rules<Wkv7Args>;

export function plan(args: Wkv7Args): Plan<Wkv7Result> {
  const { sizes, ...a } = check('wkv7', args, rules);
  const y = output(sizes, 'y', a.v.shape);
  const lastState = stateFrom(a.initialState, sizes, 'lastState', sizes.all('S', 'H', 'V', 'K'));
  const [batch, length, H, V] = sizes.all('B', 'L', 'H', 'V');
  const states = a.withStates ? output(sizes, 'states', [batch, length, 2, H, V]) : undefined;
  return {
    op: 'wkv7',
    sizes,
    tensors: {
      r: tokens(a.r),
      w: tokens(a.w),
      k: tokens(a.k),
      v: tokens(a.v),
      a: tokens(a.a),
      b: tokens(a.b),
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
 * RWKV-7's generalised delta rule (Peng et al. 2025), per head: S ← S·diag(exp w) + (S·a)·bᵀ + v·kᵀ; y = S·r.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function wkv7(args: Wkv7Args, options?: CallOptions): Promise<Wkv7Result> {
  return run(() => plan(args), options);
}

/** {@link wkv7} on the calling thread. */
export function wkv7Sync(args: Wkv7Args): Wkv7Result {
  return runSync(plan(args));
}

/** Arguments of {@link wkv7Backward}. */
export interface Wkv7BackwardArgs extends Omit<Wkv7Args, 'withStates' | 'out'>, Out<Wkv7Gradients> {
  /** (B, L, H, V): the gradient of y; zero when absent. */
  dy?: TensorLike | undefined;
  /** (B, H, V, K), packed (S, H, V, K): the gradient of lastState; zero when absent. */
  dlastState?: TensorLike | undefined;
  /** (B, L, 2, H, V), of wkv7's withStates on the same arguments: without them it is run again. */
  states?: TensorLike | undefined;
}
/** What {@link wkv7Backward} gives: gradients in the shapes of the arguments that are given, in f32. */
export type Wkv7Gradients = Gradients<'r' | 'w' | 'k' | 'v' | 'a' | 'b', 'initialState'>;

const { withStates: _, ...forwardRules } = rules;

export function backwardPlan(args: Wkv7BackwardArgs): Plan<Wkv7Gradients> {
  const name = 'wkv7Backward';
  const { dy, dlastState, states, ...given } = check(name, args, {
    ...forwardRules,
    dy: optional('B L H V'),
    dlastState: optional('S H V K'),
    states: optional('B L 2 H V'),
  });
  const { r, w, k, v, a, b, cuSeqlens, initialState } = given;
  const rows = { r: tokens(r), w: tokens(w), k: tokens(k), v: tokens(v), a: tokens(a), b: tokens(b) };
  const above = { dy: tokens(orZeros(dy, v.shape)), dlastState, states: tokens(states) };
  const of = ['r', 'w', 'k', 'v', 'a', 'b', 'initialState'];
  return gradientPlan(name, given, { tensors: { ...rows, cuSeqlens, initialState } }, above, of);
}

/**
 * The gradients of {@link wkv7}, backwards in time over states that are computed again from some that are kept, by the forward or here. a and b
 * are inputs of their own, whatever they were made from.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export const wkv7Backward = gradientCall(backwardPlan);

/** {@link wkv7Backward} on the calling thread. */
export const wkv7BackwardSync = gradientCallSync(backwardPlan);
