import type { Tensor, TensorLike } from '../tensor.js';
import { check, type Input, optional, type Rule, type Rules, tensor, weightTypes } from './check.js';
import { type Gradients, gradientCall, gradientCallSync, gradientPlan, orZeros } from './gradient.js';
import type { Out } from './outs.js';
import { type CallOptions, output, type Plan, reshape, run, runSync } from './run.js';

/** Arguments of {@link embedding}. */
export interface EmbeddingArgs extends Out<EmbeddingResult> {
  /** (B, L), i32, from 0 to V − 1. */
  ids: TensorLike;
  /** (V, d), of any float or quantised dtype. */
  weight: TensorLike;
}

/** What {@link embedding} gives. */
export interface EmbeddingResult {
  /** (B, L, d). */
  y: Tensor;
}

const i32 = tensor('B L', ['i32']);
/** Whole numbers (B, L) that a kernel uses as addresses: copied, so that nobody changes them during a call. */
export const indices: Rule<Input> = (value, where, sizes) => {
  const given = i32(value, where, sizes);
  return { ...given, data: given.data.slice() };
};

const rules = { ids: indices, weight: tensor('V d', weightTypes) } satisfies Rules<EmbeddingArgs>;

const inputs = ({ ids, weight }: { ids: Input; weight: Input }) => ({
  tensors: { ids: reshape(ids, ids.shape[0]! * ids.shape[1]!), weight },
});

function plan(args: EmbeddingArgs): Plan<EmbeddingResult> {
  const { sizes, ...a } = check('embedding', args, rules);
  const { tensors } = inputs(a);
  const y = output(sizes, 'y', [...a.ids.shape, sizes.of('d')]);
  return {
    op: 'embedding',
    sizes,
    tensors: { ...tensors, y: reshape(y, tensors.ids.shape[0]!, sizes.of('d')) },
    result: { y },
  };
}

/**
 * Rows of a table: y[b, t] = weight[ids[b, t]].
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function embedding(args: EmbeddingArgs, options?: CallOptions): Promise<EmbeddingResult> {
  return run(() => plan(args), options);
}

/** {@link embedding} on the calling thread. */
export function embeddingSync(args: EmbeddingArgs): EmbeddingResult {
  return runSync(plan(args));
}

/** Arguments of {@link embeddingBackward}: of the weight only the shape is read. */
export interface EmbeddingBackwardArgs extends Omit<EmbeddingArgs, 'out'>, Out<EmbeddingGradients> {
  /** (B, L, d): the gradient of y; zero when absent. */
  dy?: TensorLike | undefined;
}
/** What {@link embeddingBackward} gives: the gradient of the whole table, in f32. */
export type EmbeddingGradients = Gradients<'weight'>;

function backwardPlan(args: EmbeddingBackwardArgs): Plan<EmbeddingGradients> {
  const { sizes, dy, ...a } = check('embeddingBackward', args, { ...rules, dy: optional('B L d') });
  const native = inputs(a);
  const given = orZeros(dy, [...a.ids.shape, sizes.of('d')]);
  const above = { dy: reshape(given, native.tensors.ids.shape[0]!, sizes.of('d')) };
  return gradientPlan('embeddingBackward', { sizes, ...a }, native, above, ['weight']);
}

/**
 * The gradient of {@link embedding}: dweight[i] = Σ dy over the places where id = i, in their order; other rows are 0.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export const embeddingBackward = gradientCall(backwardPlan);

/** {@link embeddingBackward} on the calling thread. */
export const embeddingBackwardSync = gradientCallSync(backwardPlan);
