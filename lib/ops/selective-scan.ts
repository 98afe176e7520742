import { mismatch } from '../errors.js';
import type { Tensor, TensorLike } from '../tensor.js';
import { type Checked, check, flag, type Input, optional, type Rules, type Sizes, tensor } from './check.js';
import { type Gradients, gradientCall, gradientCallSync, gradientPlan, orZeros } from './gradient.js';
import type { Out } from './outs.js';
import { asF32, type CallOptions, output, type Plan, reshape, run, runSync, stateFrom, tokens } from './run.js';
import { requireMultiple, sequences } from './sequences.js';

/** Arguments of {@link selectiveScan}. */
export interface SelectiveScanArgs extends Out<SelectiveScanResult> {
  /** Input, (B, L, D). */
  u: TensorLike;
  /** Time step Δ, (B, L, D), before `deltaBias` and softplus. */
  delta: TensorLike;
  /** (D, N); usually negative. */
  A: TensorLike;
  /** (B, L, N), (B, L, G, N) with channel d in group d / (D/G), or constant (D, N). */
  B: TensorLike;
  /** As B. */
  C: TensorLike;
  /** Skip weight, (D). */
  D?: TensorLike | undefined;
  /** Gate, (B, L, D): y is multiplied by silu(z), after D. */
  z?: TensorLike | undefined;
  /** (D), added to delta before softplus. */
  deltaBias?: TensorLike | undefined;
  /** Default false. */
  deltaSoftplus?: boolean | undefined;
  /** Packed sequences: B = 1, their starts and the total, (S+1). */
  cuSeqlens?: Int32Array | undefined;
  /** (B, D, N), packed (S, D, N); zeros by default. */
  initialState?: TensorLike | undefined;
  /** A, B, C and states with a last axis [re, im]; y = 2·Re(C·h). Default false. */
  complex?: boolean | undefined;
  /** Whether the result has states, which {@link selectiveScanBackward} takes; of real scans. Default false. */
  withStates?: boolean | undefined;
}

/** What {@link selectiveScan} gives. */
export interface SelectiveScanResult {
  /** (B, L, D). */
  y: Tensor;
  /** (B, D, N), packed (S, D, N). */
  lastState: Tensor;
  /** (B, L, D), if asked for: states at intervals, in an order of the kernel's own. */
  states?: Tensor | undefined;
}

const rules = (pair: '' | ' 2') =>
  ({
    u: tensor('B L D'),
    delta: tensor('B L D'),
    A: tensor(`D N${pair}`),
    B: tensor(`B L N${pair} | B L G N${pair} | D N${pair}`),
    C: tensor(`B L N${pair} | B L G N${pair} | D N${pair}`),
    D: optional('D'),
    z: optional('B L D'),
    deltaBias: optional('D'),
    deltaSoftplus: flag(false),
    cuSeqlens: sequences,
    initialState: optional(`S D N${pair}`),
    complex: flag(false),
    withStates: flag(false),
  }) satisfies Rules<SelectiveScanArgs>;

/** One group's values of each of `count` tokens, `groups` times: kernels read B and C by the same groups. */
export function repeatGroups(b: Input, count: number, groups: number): Input {
  if (groups === 1) return b;
  const data = asF32(b).data as Float32Array;
  const width = data.length / count;
  const repeated = new Float32Array(data.length * groups);
  for (let t = 0; t < count; t++)
    for (let g = 0; g < groups; g++) repeated.set(data.subarray(t * width, (t + 1) * width), (t * groups + g) * width);
  return { data: repeated, shape: b.shape, dtype: 'f32' };
}

/** The last axis of what may be complex. */
const pairOf = (args: { complex?: boolean } | undefined) => (args?.complex === true ? [2] : []);

/** The number of groups of B and C: of the one that has several. */
function groupsOf(a: Omit<Checked<ReturnType<typeof rules>>, 'withStates'> & { sizes: Sizes }): number {
  const groups = [a.B, a.C].find((b) => b.shape.length === 4 + pairOf(a).length)?.shape[2] ?? 1;
  requireMultiple(a.sizes.op, 'D', a.sizes.of('D'), 'G', groups);
  return groups;
}

export function plan(args: SelectiveScanArgs): Plan<SelectiveScanResult> {
  const pair = pairOf(args);
  const a = check('selectiveScan', args, rules(pair.length ? ' 2' : ''));
  const [batch, length, D, N, S] = a.sizes.all('B', 'L', 'D', 'N', 'S');
  const groups = groupsOf(a);
  const perToken = (b: Input) => {
    if (b.shape.length === 2 + pair.length) return b;
    const own = b.shape.length === 4 + pair.length ? b : repeatGroups(b, batch * length, groups);
    return reshape(own, batch * length, groups, N, ...pair);
  };
  const y = output(a.sizes, 'y', [batch, length, D]);
  const lastState = stateFrom(a.initialState, a.sizes, 'lastState', [S, D, N, ...pair]);
  if (a.withStates && a.complex)
    throw mismatch('ERR_ARGUMENT', 'selectiveScan: withStates', 'false for a complex scan', 'true');
  const states = a.withStates ? output(a.sizes, 'states', [batch, length, D]) : undefined;
  return {
    op: 'selectiveScan',
    sizes: a.sizes,
    tensors: {
      u: tokens(a.u),
      delta: tokens(a.delta),
      A: a.A,
      B: perToken(a.B),
      C: perToken(a.C),
      D: a.D,
      z: tokens(a.z),
      deltaBias: a.deltaBias,
      cuSeqlens: a.cuSeqlens,
      state: lastState,
      y: tokens(y),
      states: tokens(states),
    },
    attrs: { deltaSoftplus: a.deltaSoftplus },
    result: states ? { y, lastState, states } : { y, lastState },
  };
}

/**
 * Mamba's selective scan (Gu & Dao 2023), fused: per channel and state, with Δ = softplus(delta + deltaBias) (each
 * optional), h ← exp(Δ·A)·h + Δ·B·u; y = C·h + D·u, times silu(z). Time O(L), working memory O(1) in L.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function selectiveScan(args: SelectiveScanArgs, options?: CallOptions): Promise<SelectiveScanResult> {
  return run(() => plan(args), options);
}

/** {@link selectiveScan} on the calling thread. */
export function selectiveScanSync(args: SelectiveScanArgs): SelectiveScanResult {
  return runSync(plan(args));
}

/** Arguments of {@link selectiveScanBackward}. */
export interface SelectiveScanBackwardArgs
  extends Omit<SelectiveScanArgs, 'withStates' | 'out'>,
    Out<SelectiveScanGradients> {
  /** (B, L, D): the gradient of y; zero when absent. */
  dy?: TensorLike | undefined;
  /** (B, D, N), packed (S, D, N): the gradient of lastState; zero when absent. */
  dlastState?: TensorLike | undefined;
  /** (B, L, D), of selectiveScan's withStates on the same arguments: without them it is run again. */
  states?: TensorLike | undefined;
}
/** What {@link selectiveScanBackward} gives: gradients in the shapes of the arguments that are given, in f32. */
export type SelectiveScanGradients = Gradients<
  'u' | 'delta' | 'A' | 'B' | 'C',
  'D' | 'z' | 'deltaBias' | 'initialState'
>;

export function backwardPlan(args: SelectiveScanBackwardArgs): Plan<SelectiveScanGradients> {
  const pair = pairOf(args);
  const { withStates: _, ...forwardRules } = rules(pair.length ? ' 2' : '');
  const { dy, dlastState, states, ...a } = check('selectiveScanBackward', args, {
    ...forwardRules,
    dy: optional('B L D'),
    dlastState: optional(pair.length ? 'S D N 2' : 'S D N'),
    states: optional('B L D'),
  });
  if (states && a.complex)
    throw mismatch('ERR_ARGUMENT', 'selectiveScanBackward: states', 'none for a complex scan', 'a tensor');
  const [batch, length, N] = a.sizes.all('B', 'L', 'N');
  groupsOf(a);
  const perToken = (b: Input) => {
    if (b.shape.length === 2 + pair.length) return b;
    return reshape(b, batch * length, b.shape.length === 4 + pair.length ? b.shape[2]! : 1, N, ...pair);
  };
  const { u, delta, A, D, z, deltaBias, cuSeqlens, initialState, deltaSoftplus } = a;
  const own = { A, B: perToken(a.B), C: perToken(a.C), D, deltaBias, cuSeqlens, initialState };
  return gradientPlan(
    'selectiveScanBackward',
    a,
    { tensors: { u: tokens(u), delta: tokens(delta), z: tokens(z), ...own }, attrs: { deltaSoftplus } },
    { dy: tokens(orZeros(dy, u.shape)), dlastState, states: tokens(states) },
    ['u', 'delta', 'A', 'B', 'C', 'D', 'z', 'deltaBias', 'initialState'],
  );
}

/**
 * The gradients of {@link selectiveScan} (Gu & Dao 2023): the adjoint scan, backwards in time, over states that are
 * computed again from those kept at intervals, by the forward or here. Memory O(B·L·D), not O(B·L·D·N); nothing is divided by a
 * decay. With `complex`, gradients are pairs [∂/∂re, ∂/∂im].
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export const selectiveScanBackward = gradientCall(backwardPlan);

/** {@link selectiveScanBackward} on the calling thread. */
export const selectiveScanBackwardSync = gradientCallSync(backwardPlan);
