import { mismatch } from '../errors.js';
import type { Tensor, TensorLike } from '../tensor.js';
import { check, flag, integer, type Rules, required, tensor } from './check.js';
import type { Out } from './outs.js';
import { type CallOptions, output, type Plan, reshape, run, runSync, tokens } from './run.js';
import { equal } from './sequences.js';

/** Arguments of {@link moe}. */
export interface MoeArgs extends Out<MoeResult> {
  /** (B, L, d). */
  x: TensorLike;
  /** (E, d). */
  router: TensorLike;
  /** (E, 2f, d): the gate's rows, then the up projection's. */
  gateUp: TensorLike;
  /** (E, d, f). */
  down: TensorLike;
  /** Experts per token, 1 to E. */
  topK: number;
  /** Divide the chosen probabilities by their sum (Mixtral) or leave them (Jamba). Default false. */
  renormalize?: boolean;
}

/** What {@link moe} gives. */
export interface MoeResult {
  /** (B, L, d). */
  y: Tensor;
}

const rules = {
  x: tensor('B L d'),
  router: tensor('E d'),
  down: tensor('E d f'),
  gateUp: tensor('E 2*f d'),
  topK: required(integer(1)),
  renormalize: flag(false),
} satisfies Rules<MoeArgs>;

export function plan(args: MoeArgs): Plan<MoeResult> {
  const { sizes, ...a } = check('moe', args, rules);
  equal('moe', ...sizes.all('B', 'L'));
  if (a.topK > sizes.of('E'))
    throw mismatch('ERR_ARGUMENT', 'moe: topK', `at most E=${sizes.of('E')} experts`, String(a.topK));
  const y = output(sizes, 'y', a.x.shape);
  return {
    op: 'moe',
    sizes,
    tensors: {
      x: tokens(a.x),
      router: a.router,
      gateUp: reshape(a.gateUp, sizes.of('E'), 2, sizes.of('f'), sizes.of('d')),
      down: a.down,
      y: tokens(y),
    },
    attrs: { topK: a.topK, renormalize: a.renormalize },
    result: { y },
  };
}

/**
 * Top-k routed SwiGLU experts (Shazeer et al. 2017): softmax of router·x over all experts, the topK largest chosen (ties
 * to the lower index), y = Σ p_e·down_e(silu(gate_e·x)·up_e·x). No token is dropped.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function moe(args: MoeArgs, options?: CallOptions): Promise<MoeResult> {
  return run(() => plan(args), options);
}

/** {@link moe} on the calling thread. */
export function moeSync(args: MoeArgs): MoeResult {
  return runSync(plan(args));
}
