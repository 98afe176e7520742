import type { Tensor, TensorLike } from '../tensor.js';
import { type Checked, check, flag, number, optional, type Rules, tensor, weightTypes } from './check.js';
import { indices } from './embedding.js';
import { type Gradients, gradientCall, gradientCallSync, gradientPlan, orZeros } from './gradient.js';
import type { Out } from './outs.js';
import { type CallOptions, output, type Plan, reshape, run, runSync, tokens } from './run.js';

/** Arguments of {@link crossEntropy}. */
export interface CrossEntropyArgs extends Out<CrossEntropyResult> {
  /** (B, L, V). */
  logits: TensorLike;
  /** (B, L), i32: classes from 0 to V − 1, or ignoreIndex. */
  targets: TensorLike;
  /** A target that is none: no loss, and not counted. Default −100. */
  ignoreIndex?: number | undefined;
  /** ε: the target becomes (1 − ε)·onehot + ε/V. Default 0. */
  labelSmoothing?: number | undefined;
}

/** What {@link crossEntropy} gives. */
export interface CrossEntropyResult {
  /** (1): the mean over the targets that count; 0 where none does. */
  loss: Tensor;
}

const options = {
  ignoreIndex: number('an integer of 32 bits', (n) => n === (n | 0), -100),
  labelSmoothing: number('a number from 0 to 1', (n) => n >= 0 && n <= 1, 0),
};
const rules = { logits: tensor('B L V'), targets: indices, ...options } satisfies Rules<CrossEntropyArgs>;

function inputs({ logits, targets, ignoreIndex, labelSmoothing }: Checked<typeof rules>) {
  const rows = targets.shape[0]! * targets.shape[1]!;
  return {
    tensors: { logits: tokens(logits), targets: reshape(targets, rows) },
    attrs: { ignoreIndex, labelSmoothing },
  };
}

function plan(args: CrossEntropyArgs): Plan<CrossEntropyResult> {
  const a = check('crossEntropy', args, rules);
  const { tensors, attrs } = inputs(a);
  const loss = output(a.sizes, 'loss', [1]);
  return { op: 'crossEntropy', sizes: a.sizes, tensors: { ...tensors, loss }, attrs, result: { loss } };
}

/**
 * The mean of −log softmax(logits)[target] over the targets that are not ignoreIndex, as torch has it, but for a batch
 * without any: 0 here, NaN there.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function crossEntropy(args: CrossEntropyArgs, options?: CallOptions): Promise<CrossEntropyResult> {
  return run(() => plan(args), options);
}

/** {@link crossEntropy} on the calling thread. */
export function crossEntropySync(args: CrossEntropyArgs): CrossEntropyResult {
  return runSync(plan(args));
}

/** Arguments of {@link crossEntropyBackward}. */
export interface CrossEntropyBackwardArgs extends Omit<CrossEntropyArgs, 'out'>, Out<CrossEntropyGradients> {
  /** (1): the gradient of the loss; zero when absent. */
  dloss?: TensorLike | undefined;
}
/** What {@link crossEntropyBackward} gives: rows of ignored targets are exactly 0. */
export type CrossEntropyGradients = Gradients<'logits'>;

function backwardPlan(args: CrossEntropyBackwardArgs): Plan<CrossEntropyGradients> {
  const { dloss, ...a } = check('crossEntropyBackward', args, { ...rules, dloss: optional('1') });
  return gradientPlan('crossEntropyBackward', a, inputs(a), { dloss: orZeros(dloss, [1]) }, ['logits']);
}

/**
 * The gradient of {@link crossEntropy}: dloss/n·(softmax(logits) − (1 − ε)·onehot − ε/V) over the n targets that count.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export const crossEntropyBackward = gradientCall(backwardPlan);

/** {@link crossEntropyBackward} on the calling thread. */
export const crossEntropyBackwardSync = gradientCallSync(backwardPlan);

/** Arguments of {@link linearCrossEntropy}. */
export interface LinearCrossEntropyArgs
  extends Omit<CrossEntropyArgs, 'logits' | 'out'>,
    Out<LinearCrossEntropyResult> {
  /** (B, L, d). */
  x: TensorLike;
  /** The head, (V, d), of any float or quantised dtype. */
  weight: TensorLike;
  /** (V). */
  bias?: TensorLike | undefined;
  /** Of the logits; default 1. */
  scale?: number | undefined;
  /** Whether dx, dweight and dbias come with the loss. Default false. */
  gradients?: boolean | undefined;
}
/** What {@link linearCrossEntropy} gives. */
export type LinearCrossEntropyResult = CrossEntropyResult & Partial<Gradients<'x' | 'weight', 'bias'>>;

const fusedRules = {
  x: tensor('B L d'),
  weight: tensor('V d', weightTypes),
  bias: optional('V'),
  targets: indices,
  ...options,
  scale: number('a finite number', () => true, 1),
  gradients: flag(false),
} satisfies Rules<LinearCrossEntropyArgs>;

function fusedPlan(args: LinearCrossEntropyArgs): Plan<LinearCrossEntropyResult> {
  const { sizes, targets, gradients, ...a } = check('linearCrossEntropy', args, fusedRules);
  const rows = targets.shape[0]! * targets.shape[1]!;
  const { x, weight, bias, ...attrs } = a;
  const tensors = { x: tokens(x), weight, bias, targets: reshape(targets, rows) };
  const of = gradients ? ['x', 'weight', 'bias'] : [];
  const made = gradientPlan<LinearCrossEntropyResult>(
    'linearCrossEntropy',
    { sizes, ...a },
    { tensors, attrs },
    {},
    of,
  );
  made.result.loss = output(sizes, 'loss', [1]);
  made.tensors.loss = made.result.loss;
  return made;
}

/**
 * {@link crossEntropy} of the logits scale·(x·weightᵀ + bias) of a head, a block of tokens at a time: the (B·L, V) matrix
 * never exists whole. The gradients of the loss come in the same pass.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function linearCrossEntropy(
  args: LinearCrossEntropyArgs,
  options?: CallOptions,
): Promise<LinearCrossEntropyResult> {
  return run(() => fusedPlan(args), options);
}

/** {@link linearCrossEntropy} on the calling thread. */
export function linearCrossEntropySync(args: LinearCrossEntropyArgs): LinearCrossEntropyResult {
  return runSync(fusedPlan(args));
}
