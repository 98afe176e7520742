import type { Tensor, TensorLike } from '../tensor.js';
import { check, choice, optional, type Rules, tensor } from './check.js';
import { type Gradients, gradientCall, gradientCallSync, gradientPlan, orZeros } from './gradient.js';
import type { Out } from './outs.js';
import { type CallOptions, output, type Plan, run, runSync, stateFrom, tokens } from './run.js';
import { sequences } from './sequences.js';

/** Arguments of {@link causalConv1d}. */
export interface CausalConv1dArgs extends Out<CausalConv1dResult> {
  /** (B, L, D). */
  x: TensorLike;
  /** (D, K), any K ≥ 1; the last column meets the present input. */
  weight: TensorLike;
  /** (D). */
  bias?: TensorLike | undefined;
  /** Default 'none'. */
  activation?: 'none' | 'silu' | undefined;
  /** Packed sequences: B = 1, their starts and the total, (S+1). */
  cuSeqlens?: Int32Array | undefined;
  /** The K−1 inputs before the first, oldest first: (B, D, K−1), packed (S, D, K−1); zeros by default. */
  initialState?: TensorLike | undefined;
}

/** What {@link causalConv1d} gives. */
export interface CausalConv1dResult {
  /** (B, L, D). */
  y: Tensor;
  /** The last K−1 inputs, oldest first: (B, D, K−1), packed (S, D, K−1). */
  finalState: Tensor;
}

const rules = {
  x: tensor('B L D'),
  weight: tensor('D K'),
  bias: optional('D'),
  activation: choice('none', 'silu'),
  cuSeqlens: sequences,
  initialState: optional('S D K-1'),
} satisfies Rules<CausalConv1dArgs>;

export function plan(args: CausalConv1dArgs): Plan<CausalConv1dResult> {
  const { sizes, ...a } = check('causalConv1d', args, rules);
  const [batch, L, D] = sizes.all('B', 'L', 'D');
  const y = output(sizes, 'y', [batch, L, D]);
  const finalState = stateFrom(a.initialState, sizes, 'finalState', [sizes.of('S'), D, sizes.of('K') - 1]);
  return {
    op: 'causalConv1d',
    sizes,
    tensors: {
      x: tokens(a.x),
      weight: a.weight,
      bias: a.bias,
      cuSeqlens: a.cuSeqlens,
      state: finalState,
      y: tokens(y),
    },
    attrs: { activation: a.activation },
    result: { y, finalState },
  };
}

/**
 * Depthwise causal convolution over time: y[t] = act(Σ_j weight[:, j]·x[t−K+1+j] + bias). finalState continues it: a
 * sequence in pieces gives what it gives whole.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function causalConv1d(args: CausalConv1dArgs, options?: CallOptions): Promise<CausalConv1dResult> {
  return run(() => plan(args), options);
}

/** {@link causalConv1d} on the calling thread. */
export function causalConv1dSync(args: CausalConv1dArgs): CausalConv1dResult {
  return runSync(plan(args));
}

/** Arguments of {@link causalConv1dBackward}. */
export interface CausalConv1dBackwardArgs extends Omit<CausalConv1dArgs, 'out'>, Out<CausalConv1dGradients> {
  /** (B, L, D): the gradient of y; zero when absent. */
  dy?: TensorLike | undefined;
  /** (B, D, K−1), packed (S, D, K−1): the gradient of finalState; zero when absent. */
  dfinalState?: TensorLike | undefined;
}
/** What {@link causalConv1dBackward} gives: gradients in the shapes of the arguments that are given, in f32. */
export type CausalConv1dGradients = Gradients<'x' | 'weight', 'bias' | 'initialState'>;

export function backwardPlan(args: CausalConv1dBackwardArgs): Plan<CausalConv1dGradients> {
  const { dy, dfinalState, ...a } = check('causalConv1dBackward', args, {
    ...rules,
    dy: optional('B L D'),
    dfinalState: optional('S D K-1'),
  });
  const { x, weight, bias, cuSeqlens, initialState, activation } = a;
  return gradientPlan(
    'causalConv1dBackward',
    a,
    { tensors: { x: tokens(x), weight, bias, cuSeqlens, initialState }, attrs: { activation } },
    { dy: tokens(orZeros(dy, x.shape)), dfinalState },
    ['x', 'weight', 'bias', 'initialState'],
  );
}

/**
 * The gradients of {@link causalConv1d}: dx is the correlation of dy·act′ with the weights, and dfinalState on the last
 * K−1 inputs; dweight and dbias are sums over all tokens.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export const causalConv1dBackward = gradientCall(backwardPlan);

/** {@link causalConv1dBackward} on the calling thread. */
export const causalConv1dBackwardSync = gradientCallSync(backwardPlan);
