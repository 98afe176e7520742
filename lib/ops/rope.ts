import { mismatch, show } from '../errors.js';
import { type RopeScaling, ropeFrequencies } from '../rope-frequencies.js';
import { Tensor, type TensorLike } from '../tensor.js';
import {
  type Checked,
  check,
  flag,
  integer,
  number,
  optional,
  type Rule,
  type Rules,
  type Sizes,
  tensor,
} from './check.js';
import { type Gradients, gradientCall, gradientCallSync, gradientPlan, orZeros } from './gradient.js';
import type { Out } from './outs.js';
import { type CallOptions, output, type Plan, run, runSync, tokens } from './run.js';
import { positions } from './sequences.js';

/** Arguments of {@link rope}. */
export interface RopeArgs extends Out<RopeResult> {
  /** (B, L, H, P). */
  x: TensorLike;
  /** (B·L) or (L); default 0 … L−1 in every sequence. */
  positions?: Int32Array | undefined;
  /** Base of the frequencies; default 10,000. */
  theta?: number | undefined;
  /** How many leading values of a head rotate; even, default P. */
  rotaryDim?: number | undefined;
  /** Rotate the pairs (2j, 2j+1) instead of (j, j + rotaryDim/2). Default false. */
  interleaved?: boolean | undefined;
  /** Keys of Hugging Face's rope_parameters: factor, original_max_position_embeddings, low_freq_factor … */
  scaling?: (RopeScaling & { type: 'linear' | 'llama3' | 'yarn' | 'longrope' | 'dynamic' }) | undefined;
}

/** What {@link rope} gives. */
export interface RopeResult {
  /** (B, L, H, P). */
  y: Tensor;
}

const scaling: Rule<RopeScaling | undefined> = (value, where) => {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'object') throw mismatch('ERR_ARGUMENT', where, 'an object with a type', show(value));
  return value as RopeScaling;
};

const rules = {
  x: tensor('B L H P'),
  positions,
  theta: number('a number > 0', (n) => n > 0, 10000),
  rotaryDim: integer(2),
  interleaved: flag(false),
  scaling,
} satisfies Rules<RopeArgs>;

function inputs({ sizes, ...a }: Checked<typeof rules> & { sizes: Sizes }) {
  const P = sizes.of('P');
  const rotaryDim = a.rotaryDim ?? P;
  if (rotaryDim > P) throw mismatch('ERR_SHAPE', `${sizes.op}: rotaryDim`, `at most P=${P}`, String(rotaryDim));
  const byLength = a.scaling?.type === 'longrope' || a.scaling?.type === 'dynamic';
  const at = (byLength ? a.positions.data : []) as Int32Array;
  const length = at.reduce((most, position) => Math.max(most, position + 1), 0);
  const { invFreq, scale } = ropeFrequencies({ theta: a.theta, rotaryDim, scaling: a.scaling, length, op: sizes.op });
  return {
    tensors: { x: tokens(a.x), positions: a.positions, invFreq: new Tensor(invFreq, [invFreq.length]) },
    attrs: { interleaved: a.interleaved, mscale: scale },
  };
}

export function plan(args: RopeArgs): Plan<RopeResult> {
  const a = check('rope', args, rules);
  const { tensors, attrs } = inputs(a);
  const y = output(a.sizes, 'y', a.x.shape);
  return { op: 'rope', sizes: a.sizes, tensors: { ...tensors, y: tokens(y) }, attrs, result: { y } };
}

/**
 * Rotary position embedding (Su et al. 2021): angle = f32(position·invFreq_j), with the frequencies of theta and
 * scaling in f32, as checkpoints were trained. yarn also multiplies cos and sin by 0.1·ln(factor) + 1, or by
 * attention_factor, longrope by its own. longrope and dynamic depend on the largest position of the call.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function rope(args: RopeArgs, options?: CallOptions): Promise<RopeResult> {
  return run(() => plan(args), options);
}

/** {@link rope} on the calling thread. */
export function ropeSync(args: RopeArgs): RopeResult {
  return runSync(plan(args));
}

/** Arguments of {@link ropeBackward}: of x only the shape is read. */
export interface RopeBackwardArgs extends Omit<RopeArgs, 'out'>, Out<RopeGradients> {
  /** (B, L, H, P): the gradient of y; zero when absent. */
  dy?: TensorLike | undefined;
}
/** What {@link ropeBackward} gives. */
export type RopeGradients = Gradients<'x'>;

export function backwardPlan(args: RopeBackwardArgs): Plan<RopeGradients> {
  const { dy, ...a } = check('ropeBackward', args, { ...rules, dy: optional('B L H P') });
  return gradientPlan('ropeBackward', a, inputs(a), { dy: tokens(orZeros(dy, a.x.shape)) }, ['x']);
}

/**
 * The gradient of {@link rope}: dy rotated backwards (and times yarn's factor); the dims past rotaryDim pass it on.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export const ropeBackward = gradientCall(backwardPlan);

/** {@link ropeBackward} on the calling thread. */
export const ropeBackwardSync = gradientCallSync(backwardPlan);
