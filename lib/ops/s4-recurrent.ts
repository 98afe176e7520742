import type { Tensor, TensorLike } from '../tensor.js';
import { check, optional, type Rules, tensor } from './check.js';
import type { Out } from './outs.js';
import { type CallOptions, output, type Plan, run, runSync, stateFrom, tokens } from './run.js';
import { checkSystem, type S4System, systemRules } from './s4-system.js';
import { sequences } from './sequences.js';

/** Arguments of {@link s4Recurrent}. */
export interface S4RecurrentArgs extends S4System, Out<S4RecurrentResult> {
  /** (B, L, D). */
  x: TensorLike;
  /** Skip weight, (D). */
  D?: TensorLike | undefined;
  /** Packed sequences: B = 1, their starts and the total, (S+1). */
  cuSeqlens?: Int32Array | undefined;
  /** (B, D, N, 2), with `real` (B, D, N), packed S for B; zeros by default. */
  initialState?: TensorLike | undefined;
}

/** What {@link s4Recurrent} gives. */
export interface S4RecurrentResult {
  /** (B, L, D). */
  y: Tensor;
  /** (B, D, N, 2), with `real` (B, D, N), packed S for B. */
  lastState: Tensor;
}

const rules = (args: S4RecurrentArgs) =>
  ({
    x: tensor('B L D'),
    ...systemRules(args),
    D: optional('D'),
    cuSeqlens: sequences,
    initialState: optional(args?.real === true ? 'S D N' : 'S D N 2'),
  }) satisfies Rules<S4RecurrentArgs>;

function plan(args: S4RecurrentArgs): Plan<S4RecurrentResult> {
  const { sizes, x, method, real, initialState, ...a } = check('s4Recurrent', args, rules(args));
  checkSystem('s4Recurrent', { P: a.P, method, real });
  const y = output(sizes, 'y', x.shape);
  const shape = [...sizes.all('S', 'D', 'N'), ...(real ? [] : [2])];
  const lastState = stateFrom(initialState, sizes, 'lastState', shape);
  return {
    op: 's4Recurrent',
    sizes,
    tensors: { ...a, x: tokens(x), state: lastState, y: tokens(y) },
    attrs: { method },
    result: { y, lastState },
  };
}

/**
 * The system of s4Kernel step by step: h ← Ā·h + B̄·x; y = 2·Re(C·h) + D·x. Equal to fftConv with s4Kernel, and continued
 * by its state.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function s4Recurrent(args: S4RecurrentArgs, options?: CallOptions): Promise<S4RecurrentResult> {
  return run(() => plan(args), options);
}

/** {@link s4Recurrent} on the calling thread. */
export function s4RecurrentSync(args: S4RecurrentArgs): S4RecurrentResult {
  return runSync(plan(args));
}
