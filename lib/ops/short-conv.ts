import type { Tensor, TensorLike } from '../tensor.js';
import { check, optional, type Rules, tensor } from './check.js';
import type { Out } from './outs.js';
import { type CallOptions, output, type Plan, run, runSync, stateFrom, tokens } from './run.js';
import { sequences } from './sequences.js';

/** Arguments of {@link shortConv}. */
export interface ShortConvArgs extends Out<ShortConvResult> {
  /** The gate before the convolution, (B, L, D). */
  b: TensorLike;
  /** The gate behind it, (B, L, D). */
  c: TensorLike;
  /** (B, L, D). */
  x: TensorLike;
  /** (D, K), any K ≥ 1; the last column meets the present input. */
  weight: TensorLike;
  /** (D). */
  bias?: TensorLike | undefined;
  /** Packed sequences: B = 1, their starts and the total, (S+1). */
  cuSeqlens?: Int32Array | undefined;
  /** The K−1 products b∘x before the first, oldest first: (B, D, K−1), packed (S, D, K−1); zeros by default. */
  initialState?: TensorLike | undefined;
}

/** What {@link shortConv} gives. */
export interface ShortConvResult {
  /** (B, L, D). */
  y: Tensor;
  /** The last K−1 products b∘x, oldest first: (B, D, K−1), packed (S, D, K−1). */
  lastState: Tensor;
}

const rules = {
  b: tensor('B L D'),
  c: tensor('B L D'),
  x: tensor('B L D'),
  weight: tensor('D K'),
  bias: optional('D'),
  cuSeqlens: sequences,
  initialState: optional('S D K-1'),
} satisfies Rules<ShortConvArgs>;

export function plan(args: ShortConvArgs): Plan<ShortConvResult> {
  const { sizes, weight, bias, cuSeqlens, ...a } = check('shortConv', args, rules);
  const y = output(sizes, 'y', a.x.shape);
  const lastState = stateFrom(a.initialState, sizes, 'lastState', [sizes.of('S'), sizes.of('D'), sizes.of('K') - 1]);
  const rows = { b: tokens(a.b), c: tokens(a.c), x: tokens(a.x), y: tokens(y) };
  return {
    op: 'shortConv',
    sizes,
    tensors: { ...rows, weight, bias, cuSeqlens, state: lastState },
    result: { y, lastState },
  };
}

/**
 * The gated short convolution of LFM2: y = c ∘ conv(b ∘ x), conv as `causalConv1d` without activation. The projections
 * around it are `linear`s.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function shortConv(args: ShortConvArgs, options?: CallOptions): Promise<ShortConvResult> {
  return run(() => plan(args), options);
}

/** {@link shortConv} on the calling thread. */
export function shortConvSync(args: ShortConvArgs): ShortConvResult {
  return runSync(plan(args));
}
