import type { Tensor } from '../tensor.js';
import { check, integer, type Rules, required } from './check.js';
import type { Out } from './outs.js';
import { type CallOptions, output, type Plan, run, runSync } from './run.js';
import { checkSystem, type S4System, systemRules } from './s4-system.js';

/** Arguments of {@link s4Kernel}. */
export interface S4KernelArgs extends S4System, Out<S4KernelResult> {
  /** Length of the kernel. */
  L: number;
}

/** What {@link s4Kernel} gives. */
export interface S4KernelResult {
  /** (D, L). */
  K: Tensor;
}

const rules = (args: S4KernelArgs) =>
  ({
    ...systemRules(args),
    L: required(integer(1)),
  }) satisfies Rules<S4KernelArgs>;

function plan(args: S4KernelArgs): Plan<S4KernelResult> {
  const { sizes, L, method, real, ...a } = check('s4Kernel', args, rules(args));
  checkSystem('s4Kernel', { P: a.P, method, real });
  const K = output(sizes, 'K', [sizes.of('D'), L]);
  return { op: 's4Kernel', sizes, tensors: { ...a, K }, attrs: { method }, result: { K } };
}

/**
 * Convolution kernel of a structured state space layer: K[l] = 2·Re Σ_n C_n·(Ā^l·B̄)_n. Diagonal (S4D, Gu et al. 2022)
 * by a Vandermonde product; with P (S4) by the Cauchy kernel and Woodbury's identity at roots of unity, in f64. C is the
 * system's own, not the C·(I − Ā^L) that checkpoints of fixed kernel length hold.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function s4Kernel(args: S4KernelArgs, options?: CallOptions): Promise<S4KernelResult> {
  return run(() => plan(args), options);
}

/** {@link s4Kernel} on the calling thread. */
export function s4KernelSync(args: S4KernelArgs): S4KernelResult {
  return runSync(plan(args));
}
