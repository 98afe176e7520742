import type { Tensor, TensorLike } from '../tensor.js';
import { check, choice, type Rules, tensor } from './check.js';
import type { Out } from './outs.js';
import { type CallOptions, output, type Plan, reshape, run, runSync, tokens } from './run.js';
import { equal } from './sequences.js';

/** zoh: zero-order hold; zoh-euler: Ā by zoh, B̄ = ΔB (Mamba); bilinear: Tustin. */
export type DiscretizeMethod = 'zoh' | 'zoh-euler' | 'bilinear';
export const methods = choice<DiscretizeMethod>('zoh', 'zoh-euler', 'bilinear');

/** Arguments of {@link discretize}. */
export interface DiscretizeArgs extends Out<DiscretizeResult> {
  /** Time step Δ, (B, L, D). */
  delta: TensorLike;
  /** Diagonal of the system matrix, (D, N). */
  A: TensorLike;
  /** (B, L, N), or constant (D, N). */
  B: TensorLike;
  /** Default 'zoh'. */
  method?: DiscretizeMethod | undefined;
}

/** What {@link discretize} gives. */
export interface DiscretizeResult {
  /** (B, L, D, N). */
  Abar: Tensor;
  /** (B, L, D, N). */
  Bbar: Tensor;
}

const rules = {
  delta: tensor('B L D'),
  A: tensor('D N'),
  B: tensor('B L N | D N'),
  method: methods,
} satisfies Rules<DiscretizeArgs>;

function plan(args: DiscretizeArgs): Plan<DiscretizeResult> {
  const { sizes, delta, A, B, method } = check('discretize', args, rules);
  const [batch, L, D, N] = sizes.all('B', 'L', 'D', 'N');
  equal('discretize', batch, L);
  const T = batch * L;
  const Abar = output(sizes, 'Abar', [batch, L, D, N]);
  const Bbar = output(sizes, 'Bbar', [batch, L, D, N]);
  return {
    op: 'discretize',
    sizes,
    tensors: {
      delta: tokens(delta),
      A,
      B: B.shape.length === 3 ? reshape(B, T, 1, N) : B,
      Abar: tokens(Abar),
      Bbar: tokens(Bbar),
    },
    attrs: { method },
    result: { Abar, Bbar },
  };
}

/**
 * Discretises a diagonal system. zoh: Ā = exp(ΔA), B̄ = (exp(ΔA) − 1)/A · B, ΔB where A = 0, exact near it too;
 * zoh-euler: B̄ = ΔB; bilinear: Ā = (1 + ΔA/2)/(1 − ΔA/2), B̄ = ΔB/(1 − ΔA/2).
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function discretize(args: DiscretizeArgs, options?: CallOptions): Promise<DiscretizeResult> {
  return run(() => plan(args), options);
}

/** {@link discretize} on the calling thread. */
export function discretizeSync(args: DiscretizeArgs): DiscretizeResult {
  return runSync(plan(args));
}
