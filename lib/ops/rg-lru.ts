import { StatespaceError } from '../errors.js';
import type { Tensor, TensorLike } from '../tensor.js';
import { check, flag, type Input, optional, type Rules, type Sizes, tensor } from './check.js';
import { type Gradients, gradientCall, gradientCallSync, gradientPlan, orZeros } from './gradient.js';
import type { Out } from './outs.js';
import { type CallOptions, output, type Plan, run, runSync, stateFrom, tokens } from './run.js';
import { positions, sequences, vector } from './sequences.js';

/** Arguments of {@link rgLru}. */
export interface RgLruArgs extends Out<RgLruResult> {
  /** (B, L, D). */
  x: TensorLike;
  /**
   * Positions, (L) or (B·L): where one is 0 the state begins anew, also inside a sequence. By default every sequence
   * begins at 0, or with initialState goes on and none does.
   */
  positions?: Int32Array | undefined;
  /** Used as x·W, (H, D/H, D/H). */
  inputGateWeight: TensorLike;
  /** (H, D/H). */
  inputGateBias: TensorLike;
  /** (H, D/H, D/H). */
  recurrentGateWeight: TensorLike;
  /** (H, D/H). */
  recurrentGateBias: TensorLike;
  /** (D). */
  recurrentParam: TensorLike;
  /** Packed sequences: B = 1, their starts and the total, (S+1). */
  cuSeqlens?: Int32Array | undefined;
  /** (B, D), packed (S, D); zeros by default. */
  initialState?: TensorLike | undefined;
  /** Whether the result has gates, which {@link rgLruBackward} takes. Default false. */
  withGates?: boolean | undefined;
}

/** What {@link rgLru} gives. */
export interface RgLruResult {
  /** (B, L, D). */
  y: Tensor;
  /** (B, D), packed (S, D). */
  lastState: Tensor;
  /** (B, L, 2, D), if asked for: σ(x·W_i + b_i) and σ(x·W_r + b_r). */
  gates?: Tensor | undefined;
}

const rules = {
  x: tensor('B L D'),
  positions,
  inputGateWeight: tensor('H P P'),
  inputGateBias: tensor('H P'),
  recurrentGateWeight: tensor('H P P'),
  recurrentGateBias: tensor('H P'),
  recurrentParam: tensor('D'),
  cuSeqlens: sequences,
  initialState: optional('S D'),
  withGates: flag(false),
} satisfies Rules<RgLruArgs>;

/** 0, 1, 2 … in every sequence. */
function fromStart(bounds: Int32Array): Input {
  const all = new Int32Array(bounds.at(-1)!);
  for (let s = 1; s < bounds.length; s++) for (let t = bounds[s - 1]!; t < bounds[s]!; t++) all[t] = t - bounds[s - 1]!;
  return vector(all);
}

/** Where sequences begin anew, as the caller says or as is usual. */
function beginnings(
  args: Pick<RgLruArgs, 'positions' | 'initialState'>,
  places: Input,
  cuSeqlens: Input,
): Input | undefined {
  if (args.positions) return places;
  return args.initialState ? undefined : fromStart(cuSeqlens.data as Int32Array);
}

function checkHeads(op: string, sizes: Sizes): void {
  const [H, P, D] = sizes.all('H', 'P', 'D');
  if (H * P !== D) throw new StatespaceError('ERR_SHAPE', `${op}: H=${H} gates of ${P} channels are not D=${D}`);
}

export function plan(args: RgLruArgs): Plan<RgLruResult> {
  const a = check('rgLru', args, rules);
  const { sizes, x, positions: places, cuSeqlens, initialState, withGates, ...weights } = a;
  checkHeads('rgLru', sizes);
  const y = output(sizes, 'y', x.shape);
  const lastState = stateFrom(initialState, sizes, 'lastState', sizes.all('S', 'D'));
  const [batch, length, D] = sizes.all('B', 'L', 'D');
  const gates = withGates ? output(sizes, 'gates', [batch, length, 2, D]) : undefined;
  return {
    op: 'rgLru',
    sizes,
    tensors: {
      x: tokens(x),
      positions: beginnings(args, places, cuSeqlens),
      ...weights,
      cuSeqlens,
      state: lastState,
      y: tokens(y),
      gates: tokens(gates),
    },
    result: gates ? { y, lastState, gates } : { y, lastState },
  };
}

/**
 * The real-gated linear recurrent unit (De et al. 2024; Griffin, RecurrentGemma), per channel:
 * a = exp(−8·σ(x·W_r + b_r)·softplus(recurrentParam)); h ← a·h + √(1 − a²)·σ(x·W_i + b_i)·x; y = h.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function rgLru(args: RgLruArgs, options?: CallOptions): Promise<RgLruResult> {
  return run(() => plan(args), options);
}

/** {@link rgLru} on the calling thread. */
export function rgLruSync(args: RgLruArgs): RgLruResult {
  return runSync(plan(args));
}

/** Arguments of {@link rgLruBackward}. */
export interface RgLruBackwardArgs extends Omit<RgLruArgs, 'withGates' | 'out'>, Out<RgLruGradients> {
  /** (B, L, D): the gradient of y; zero when absent. */
  dy?: TensorLike | undefined;
  /** (B, D), packed (S, D): the gradient of lastState; zero when absent. */
  dlastState?: TensorLike | undefined;
  /** (B, L, D), of rgLru on the same arguments; it goes with gates. */
  y?: TensorLike | undefined;
  /** (B, L, 2, D), of rgLru's withGates: without them it is run again. */
  gates?: TensorLike | undefined;
}
/** What {@link rgLruBackward} gives: gradients in the shapes of the arguments that are given, in f32. */
export type RgLruGradients = Gradients<
  'x' | 'inputGateWeight' | 'inputGateBias' | 'recurrentGateWeight' | 'recurrentGateBias' | 'recurrentParam',
  'initialState'
>;

const { withGates: _, ...forwardRules } = rules;

export function backwardPlan(args: RgLruBackwardArgs): Plan<RgLruGradients> {
  const name = 'rgLruBackward';
  const a = check(name, args, {
    ...forwardRules,
    dy: optional('B L D'),
    dlastState: optional('S D'),
    y: optional('B L D'),
    gates: optional('B L 2 D'),
  });
  const { sizes, x, positions: places, dy, dlastState, y, gates, ...others } = a;
  checkHeads(name, sizes);
  const tensors = { ...others, x: tokens(x), positions: beginnings(args, places, a.cuSeqlens) };
  const weights = ['inputGateWeight', 'inputGateBias', 'recurrentGateWeight', 'recurrentGateBias', 'recurrentParam'];
  const above = { dy: tokens(orZeros(dy, x.shape)), dlastState, y: tokens(y), gates: tokens(gates) };
  return gradientPlan(name, a, { tensors }, above, ['x', ...weights, 'initialState']);
}

/**
 * The gradients of {@link rgLru}, backwards in time over states and gates, the forward's or computed again. The slope of √(1 − a²)
 * counts as at most 1000, as in the reference: where a is next to 1 it has none.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export const rgLruBackward = gradientCall(backwardPlan);

/** {@link rgLruBackward} on the calling thread. */
export const rgLruBackwardSync = gradientCallSync(backwardPlan);
