import type { Tensor, TensorLike } from '../tensor.js';
import { check, number, type Rules, required, tensor } from './check.js';
import { type DiscretizeMethod, methods } from './discretize.js';
import type { Out } from './outs.js';
import { type CallOptions, output, type Plan, run, runSync } from './run.js';

/** Arguments of {@link discretizeDense}. */
export interface DiscretizeDenseArgs extends Out<DiscretizeDenseResult> {
  /** Time step Δ. */
  delta: number;
  /** (N, N); may be singular. */
  A: TensorLike;
  /** (N, M). */
  B: TensorLike;
  /** Default 'zoh'. */
  method?: DiscretizeMethod | undefined;
}

/** What {@link discretizeDense} gives. */
export interface DiscretizeDenseResult {
  /** (N, N). */
  Abar: Tensor;
  /** (N, M). */
  Bbar: Tensor;
}

const rules = {
  delta: required(number('a finite number', () => true)),
  A: tensor('N N'),
  B: tensor('N M'),
  method: methods,
} satisfies Rules<DiscretizeDenseArgs>;

function plan(args: DiscretizeDenseArgs): Plan<DiscretizeDenseResult> {
  const { sizes, delta, A, B, method } = check('discretizeDense', args, rules);
  const Abar = output(sizes, 'Abar', [sizes.of('N'), sizes.of('N')]);
  const Bbar = output(sizes, 'Bbar', [sizes.of('N'), sizes.of('M')]);
  return {
    op: 'discretizeDense',
    sizes,
    tensors: { A, B, Abar, Bbar },
    attrs: { delta, method },
    result: { Abar, Bbar },
  };
}

/**
 * Discretises a dense system, in f64 inside. zoh: the exponential of [[A, B], [0, 0]]·Δ (Van Loan 1978); zoh-euler:
 * Ā = exp(ΔA), B̄ = ΔB; bilinear (Tustin): (I − ΔA/2)⁻¹ times (I + ΔA/2) and ΔB, not finite where that is singular.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function discretizeDense(args: DiscretizeDenseArgs, options?: CallOptions): Promise<DiscretizeDenseResult> {
  return run(() => plan(args), options);
}

/** {@link discretizeDense} on the calling thread. */
export function discretizeDenseSync(args: DiscretizeDenseArgs): DiscretizeDenseResult {
  return runSync(plan(args));
}
