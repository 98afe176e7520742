import { mismatch } from '../errors.js';
import type { Tensor, TensorLike } from '../tensor.js';
import { type Checked, check, flag, integer, optional, type Rules, required, type Sizes, tensor } from './check.js';
import { type Gradients, gradientCall, gradientCallSync, gradientPlan, orZeros } from './gradient.js';
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
  renormalize?: boolean | undefined;
  /** Whether the result has hidden, which {@link moeBackward} takes. Default false. */
  withHidden?: boolean | undefined;
}

/** What {@link moe} gives. */
export interface MoeResult {
  /** (B, L, d). */
  y: Tensor;
  /** (B, L, topK, 2, f), if asked for: gate_e·x and up_e·x of the chosen experts. */
  hidden?: Tensor | undefined;
}

const rules = {
  x: tensor('B L d'),
  router: tensor('E d'),
  down: tensor('E d f'),
  gateUp: tensor('E 2*f d'),
  topK: required(integer(1)),
  renormalize: flag(false),
  withHidden: flag(false),
} satisfies Rules<MoeArgs>;

function inputs({ sizes, ...a }: Omit<Checked<typeof rules>, 'withHidden'> & { sizes: Sizes }) {
  equal(sizes.op, ...sizes.all('B', 'L'));
  if (a.topK > sizes.of('E'))
    throw mismatch('ERR_ARGUMENT', `${sizes.op}: topK`, `at most E=${sizes.of('E')} experts`, String(a.topK));
  return {
    tensors: {
      x: tokens(a.x),
      router: a.router,
      gateUp: reshape(a.gateUp, sizes.of('E'), 2, sizes.of('f'), sizes.of('d')),
      down: a.down,
    },
    attrs: { topK: a.topK, renormalize: a.renormalize },
  };
}

export function plan(args: MoeArgs): Plan<MoeResult> {
  const a = check('moe', args, rules);
  const { tensors, attrs } = inputs(a);
  const y = output(a.sizes, 'y', a.x.shape);
  const [batch, length] = a.x.shape as [number, number];
  const shape = [batch, length, a.topK, 2, a.sizes.of('f')];
  const hidden = a.withHidden ? output(a.sizes, 'hidden', shape) : undefined;
  return {
    op: 'moe',
    sizes: a.sizes,
    tensors: { ...tensors, y: tokens(y), hidden: tokens(hidden) },
    attrs,
    result: hidden ? { y, hidden } : { y },
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

/** Arguments of {@link moeBackward}. */
export interface MoeBackwardArgs extends Omit<MoeArgs, 'withHidden' | 'out'>, Out<MoeGradients> {
  /** (B, L, d): the gradient of y; zero when absent. */
  dy?: TensorLike | undefined;
  /** (B, L, topK, 2, f), of moe's withHidden on the same arguments: without it the products are taken again. */
  hidden?: TensorLike | undefined;
}
/** What {@link moeBackward} gives: gradients in the shapes of the arguments, in f32. */
export type MoeGradients = Gradients<'x' | 'router' | 'gateUp' | 'down'>;

const { withHidden: _, ...forwardRules } = rules;

export function backwardPlan(args: MoeBackwardArgs): Plan<MoeGradients> {
  const { dy, hidden, ...a } = check('moeBackward', args, {
    ...forwardRules,
    dy: optional('B L d'),
    hidden: optional('B L k 2 f'),
  });
  const above = { dy: tokens(orZeros(dy, a.x.shape)), hidden: tokens(hidden) };
  return gradientPlan('moeBackward', a, inputs(a), above, ['x', 'router', 'gateUp', 'down']);
}

/**
 * The gradients of {@link moe}, the router's among them: through the softmax to all experts, or with `renormalize` to the
 * chosen alone. The choice itself has none; an expert without tokens gets zeros.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export const moeBackward = gradientCall(backwardPlan);

/** {@link moeBackward} on the calling thread. */
export const moeBackwardSync = gradientCallSync(backwardPlan);
