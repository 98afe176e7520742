import { mismatch, show } from '../errors.js';
import type { Tensor, TensorLike } from '../tensor.js';
import { check, choice, flag, integer, optional, type Rule, type Rules, tensor } from './check.js';
import { type Gradients, gradientCall, gradientCallSync, gradientPlan, orZeros } from './gradient.js';
import type { Out } from './outs.js';
import { type CallOptions, output, type Plan, run, runSync, stateFrom, tokens } from './run.js';
import { requireMultiple, sequences } from './sequences.js';

/** Arguments of {@link ssd}. */
export interface SsdArgs extends Out<SsdResult> {
  /** (B, L, H, P). */
  x: TensorLike;
  /** Time step, (B, L, H), before `dtBias` and softplus. */
  dt: TensorLike;
  /** (H), negative. */
  A: TensorLike;
  /** (B, L, G, N); head h reads group h / (H/G). */
  B: TensorLike;
  /** As B. */
  C: TensorLike;
  /** Skip weight, (H) or (H, P). */
  D?: TensorLike | undefined;
  /** Gate, (B, L, H, P): (y + D·x)·silu(z). */
  z?: TensorLike | undefined;
  /** (H), added to dt before softplus. */
  dtBias?: TensorLike | undefined;
  /** Default false. */
  dtSoftplus?: boolean | undefined;
  /** dt is clamped to it after softplus; default [0, Infinity]. */
  dtLimit?: [number, number] | undefined;
  /** Packed sequences: B = 1, their starts and the total, (S+1). */
  cuSeqlens?: Int32Array | undefined;
  /** (B, H, P, N), packed (S, H, P, N); zeros by default. */
  initialState?: TensorLike | undefined;
  /** Longest chunk of mode 'chunked', default 256; the result does not depend on it. */
  chunkSize?: number | undefined;
  /**
   * All compute the same function. Default 'chunked', which rounds the operands of its products to bf16 where x, B and C are
   * bf16 and the processor multiplies pairs of it (2e-3 of the largest value); sums and states are f32.
   */
  mode?: 'chunked' | 'recurrent' | 'quadratic' | undefined;
  /** Whether the result has states, which {@link ssdBackward} takes: chunks of f32 in any mode, N up to 128. Default false. */
  withStates?: boolean | undefined;
}

/** What {@link ssd} gives. */
export interface SsdResult {
  /** (B, L, H, P). */
  y: Tensor;
  /** (B, H, P, N), packed (S, H, P, N). */
  lastState: Tensor;
  /** (B, L, 2, H, P), if asked for: states at intervals, in an order of the kernel's own. */
  states?: Tensor | undefined;
}

const limits: Rule<readonly [number, number]> = (value = [0, Infinity], where) => {
  const [low, high] = Array.isArray(value) && value.length === 2 ? (value as number[]) : [];
  if (typeof low !== 'number' || typeof high !== 'number' || !(low <= high))
    throw mismatch('ERR_ARGUMENT', where, 'two numbers [low, high]', show(value));
  return [low, high];
};

const rules = {
  x: tensor('B L H P'),
  dt: tensor('B L H'),
  A: tensor('H'),
  B: tensor('B L G N'),
  C: tensor('B L G N'),
  D: optional('H | H P'),
  z: optional('B L H P'),
  dtBias: optional('H'),
  dtSoftplus: flag(false),
  dtLimit: limits,
  cuSeqlens: sequences,
  initialState: optional('S H P N'),
  chunkSize: integer(1),
  mode: choice('chunked', 'recurrent', 'quadratic'),
  withStates: flag(false),
} satisfies Rules<SsdArgs>;

export function plan(args: SsdArgs): Plan<SsdResult> {
  const { sizes, ...a } = check('ssd', args, rules);
  requireMultiple('ssd', 'H', sizes.of('H'), 'G', sizes.of('G'));
  const y = output(sizes, 'y', a.x.shape);
  const lastState = stateFrom(a.initialState, sizes, 'lastState', sizes.all('S', 'H', 'P', 'N'));
  const [batch, length, H, P] = sizes.all('B', 'L', 'H', 'P');
  const states = a.withStates ? output(sizes, 'states', [batch, length, 2, H, P]) : undefined;
  return {
    op: 'ssd',
    sizes,
    tensors: {
      x: tokens(a.x),
      dt: tokens(a.dt),
      A: a.A,
      B: tokens(a.B),
      C: tokens(a.C),
      D: a.D,
      z: tokens(a.z),
      dtBias: a.dtBias,
      cuSeqlens: a.cuSeqlens,
      state: lastState,
      y: tokens(y),
      states: tokens(states),
    },
    attrs: {
      dtSoftplus: a.dtSoftplus,
      dtMin: a.dtLimit[0],
      dtMax: a.dtLimit[1],
      chunkSize: a.chunkSize,
      mode: a.mode,
    },
    result: states ? { y, lastState, states } : { y, lastState },
  };
}

/**
 * Mamba-2's state space duality (Dao & Gu 2024): per head, with dt = clamp(softplus(dt + dtBias), dtLimit),
 * S ← exp(dt·A)·S + dt·x·Bᵀ; y = (S·C + D·x)·silu(z). Modes: matrix products inside chunks and a scan between them
 * (time O(L)); step by step; or the attention form over whole sequences (time O(L²), in tiles).
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function ssd(args: SsdArgs, options?: CallOptions): Promise<SsdResult> {
  return run(() => plan(args), options);
}

/** {@link ssd} on the calling thread. */
export function ssdSync(args: SsdArgs): SsdResult {
  return runSync(plan(args));
}

/** Arguments of {@link ssdBackward}. */
export interface SsdBackwardArgs extends Omit<SsdArgs, 'out' | 'mode' | 'chunkSize' | 'withStates'>, Out<SsdGradients> {
  /** As of {@link ssd}; the gradient does not depend on it. */
  chunkSize?: number | undefined;
  /** As of {@link ssd}; the gradient does not depend on it. */
  mode?: SsdArgs['mode'] | undefined;
  /** (B, L, H, P): the gradient of y; zero when absent. */
  dy?: TensorLike | undefined;
  /** (B, H, P, N), packed (S, H, P, N): the gradient of lastState; zero when absent. */
  dlastState?: TensorLike | undefined;
  /** (B, L, 2, H, P), of ssd's withStates on the same arguments: without them it is run again. */
  states?: TensorLike | undefined;
}
/** What {@link ssdBackward} gives: gradients in the shapes of the arguments that are given, in f32. */
export type SsdGradients = Gradients<'x' | 'dt' | 'A' | 'B' | 'C', 'D' | 'z' | 'dtBias' | 'initialState'>;

const { withStates: _, ...forwardRules } = rules;

export function backwardPlan(args: SsdBackwardArgs): Plan<SsdGradients> {
  const name = 'ssdBackward';
  const { dy, dlastState, states, ...a } = check(name, args, {
    ...forwardRules,
    dy: optional('B L H P'),
    dlastState: optional('S H P N'),
    states: optional('B L 2 H P'),
  });
  requireMultiple(name, 'H', a.sizes.of('H'), 'G', a.sizes.of('G'));
  const { x, dt, A, B, C, D, z, dtBias, cuSeqlens, initialState, dtSoftplus, dtLimit } = a;
  const rows = { x: tokens(x), dt: tokens(dt), B: tokens(B), C: tokens(C), z: tokens(z) };
  return gradientPlan(
    name,
    a,
    {
      tensors: { ...rows, A, D, dtBias, cuSeqlens, initialState },
      attrs: { dtSoftplus, dtMin: dtLimit[0], dtMax: dtLimit[1] },
    },
    { dy: tokens(orZeros(dy, x.shape)), dlastState, states: tokens(states) },
    ['x', 'dt', 'A', 'B', 'C', 'D', 'z', 'dtBias', 'initialState'],
  );
}

/**
 * The gradients of {@link ssd} (Dao & Gu 2024). ddt passes the clamp where dt is within dtLimit, both bounds included. A dt
 * that is no number reaches dx and dB of later tokens too, those of its 64: their decays are differences of sums.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export const ssdBackward = gradientCall(backwardPlan);

/** {@link ssdBackward} on the calling thread. */
export const ssdBackwardSync = gradientCallSync(backwardPlan);
