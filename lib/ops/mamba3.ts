import { mismatch, StatespaceError, show } from '../errors.js';
import { checkKnown } from '../options.js';
import type { Tensor, TensorLike } from '../tensor.js';
import {
  type Checked,
  check,
  choice,
  epsilon,
  flag,
  type Input,
  integer,
  optional,
  type Rule,
  type Rules,
  type Sizes,
  tensor,
} from './check.js';
import { type Gradients, gradientCall, gradientCallSync, gradientPlan, orZeros } from './gradient.js';
import type { Out } from './outs.js';
import { type CallOptions, output, type Plan, run, runSync, stateFrom, tokens } from './run.js';
import { requireMultiple, sequences } from './sequences.js';

/** What {@link mamba3} goes on from. */
export interface Mamba3State {
  /** Rotation angles, (B, H, Angles), in [0, 2π). */
  angle: TensorLike;
  /** (B, H, P, N). */
  ssm: TensorLike;
  /** Rotated k of the last token, (B, H, N), MIMO (B, R, H, N). */
  k: TensorLike;
  /** x of the last token, (B, H, P). */
  v: TensorLike;
}

/** Arguments of {@link mamba3}; R is the rank of MIMO. */
export interface Mamba3Args extends Out<Mamba3Result> {
  /** (B, L, H, P). */
  x: TensorLike;
  /** After its norm, (B, L, G, N), MIMO (B, L, R, G, N); H must be a multiple of G. */
  B: TensorLike;
  /** After its norm, as B. */
  C: TensorLike;
  /** Time steps, (B, L, H). */
  dt: TensorLike;
  /** A·dt, (B, L, H). */
  adt: TensorLike;
  /** Before its sigmoid, (B, L, H). */
  trap: TensorLike;
  /** Before tanh, (B, L, H, Angles) or the same for all heads, (B, L, Angles); 2·Angles ≤ N. */
  angles: TensorLike;
  /** (H, N), MIMO (H, R, N). */
  BBias: TensorLike;
  /** As BBias. */
  CBias: TensorLike;
  /** (H). */
  D?: TensorLike | undefined;
  /** Gate, (B, L, H, P). */
  z?: TensorLike | undefined;
  /** MIMO: what x is multiplied by for each rank, (H, R, P). */
  mimoX?: TensorLike | undefined;
  /** MIMO with z: what z is multiplied by, (H, R, P). */
  mimoZ?: TensorLike | undefined;
  /** MIMO: what each rank's output is multiplied by before they are added, (H, R, P). */
  mimoO?: TensorLike | undefined;
  /** RMSNorm over a head's channels before the gate, (H, P). */
  normWeight?: TensorLike | undefined;
  /** Default 1e-5. */
  normEps?: number | undefined;
  /** Zeros by default. Packed: a row for each sequence. */
  initialState?: Mamba3State | undefined;
  /** Packed sequences: B = 1, their starts and the total, (S+1). */
  cuSeqlens?: Int32Array | undefined;
  /** Chunks of matrix products, or step by step; both compute the same function. Default 'chunked'. */
  mode?: 'chunked' | 'recurrent' | undefined;
  /** Most tokens of a chunk, default 64; the result does not depend on it. */
  chunkSize?: number | undefined;
  /** Whether the result has states and outputs, which {@link mamba3Backward} takes: chunks in either mode. Default false. */
  withStates?: boolean | undefined;
}

/** What {@link mamba3} gives. */
export interface Mamba3Result {
  /** (B, L, H, P). */
  y: Tensor;
  /** As {@link Mamba3State}. */
  lastState: { angle: Tensor; ssm: Tensor; k: Tensor; v: Tensor };
  /** (B, L, 2, H, P), if asked for: states at intervals, in an order of the kernel's own; for N up to 128. */
  states?: Tensor | undefined;
  /** (B, L, H, P), MIMO (B, L, R, H, P), if asked for and y is more than their sum: yᵣ before norm and gate. */
  outputs?: Tensor | undefined;
}

type States = Record<'angle' | 'ssm' | 'k' | 'v', ReturnType<ReturnType<typeof optional>>>;

const stateShapes = {
  angle: optional('S H Angles'),
  ssm: optional('S H P N'),
  k: optional('S H N | S R H N'),
  v: optional('S H P'),
};

/** All four tensors, or none. */
const initialState: Rule<States | undefined> = (value, where, sizes) => {
  if (value === undefined || value === null) return undefined;
  const given = value as Record<string, unknown>;
  return Object.fromEntries(
    Object.entries(stateShapes).map(([name, rule]) => {
      const t = rule(given[name], `${where}.${name}`, sizes);
      if (!t) throw new StatespaceError('ERR_ARGUMENT', `${where}: expected angle, ssm, k and v, received no ${name}`);
      return [name, t];
    }),
  ) as States;
};

const rules = {
  x: tensor('B L H P'),
  B: tensor('B L G N | B L R G N'),
  C: tensor('B L G N | B L R G N'),
  dt: tensor('B L H'),
  adt: tensor('B L H'),
  trap: tensor('B L H'),
  angles: tensor('B L H Angles | B L Angles'),
  BBias: tensor('H N | H R N'),
  CBias: tensor('H N | H R N'),
  D: optional('H'),
  z: optional('B L H P'),
  mimoX: optional('H R P'),
  mimoZ: optional('H R P'),
  mimoO: optional('H R P'),
  normWeight: optional('H P'),
  normEps: epsilon,
  cuSeqlens: sequences,
  initialState,
  mode: choice('chunked', 'recurrent'),
  chunkSize: integer(1),
  withStates: flag(false),
} satisfies Rules<Mamba3Args>;

/** The axis of ranks where B has one. */
const ranksOf = (B: Input): number[] => (B.shape.length === 5 ? [B.shape[2]!] : []);

type Shaped = Pick<Checked<typeof rules>, 'B' | 'C' | 'BBias' | 'CBias' | 'z' | 'mimoX' | 'mimoZ' | 'mimoO'>;

function checkShapes(name: string, sizes: Sizes, a: Shaped): void {
  const [H, G, N, angles] = sizes.all('H', 'G', 'N', 'Angles');
  requireMultiple(name, 'H', H, 'G', G);
  const ranks = ranksOf(a.B);
  if (2 * angles > N)
    throw new StatespaceError('ERR_SHAPE', `${name}: angles: expected at most N/2 = ${N / 2}, received ${angles}`);
  const wrong = Object.entries({ C: [a.C, 4], BBias: [a.BBias, 2], CBias: [a.CBias, 2] } as const).find(
    ([, [t, axes]]) => t.shape.length !== axes + ranks.length,
  );
  if (wrong) {
    const wanted = ranks.length ? `an axis of rank ${ranks[0]}, as B has one` : 'no axis of rank, as B has none';
    throw new StatespaceError('ERR_SHAPE', `${name}: ${wrong[0]}: expected ${wanted}`);
  }
  for (const [field, t] of Object.entries({ mimoX: a.mimoX, mimoO: a.mimoO, mimoZ: a.mimoZ })) {
    const wanted = ranks.length > 0 && (field !== 'mimoZ' || a.z !== undefined);
    if (wanted === (t !== undefined)) continue;
    const [expected, received] = wanted ? ['a tensor', 'none'] : ['none', 'a tensor'];
    const why = field === 'mimoZ' ? 'it goes with MIMO and z' : 'it goes with MIMO';
    throw new StatespaceError('ERR_ARGUMENT', `${name}: ${field}: expected ${expected} (${why}), received ${received}`);
  }
}

export function plan(args: Mamba3Args): Plan<Mamba3Result> {
  const name = 'mamba3';
  const checked = check(name, args, rules);
  const { sizes, initialState: initial, mode, chunkSize, withStates, normEps, cuSeqlens, ...a } = checked;
  const [H, P, N, angles, S] = sizes.all('H', 'P', 'N', 'Angles', 'S');
  checkShapes(name, sizes, a);
  const ranks = ranksOf(a.B);
  const y = output(sizes, 'y', a.x.shape);
  const lastState = {
    angle: stateFrom(initial?.angle, sizes, 'lastState.angle', [S, H, angles]),
    ssm: stateFrom(initial?.ssm, sizes, 'lastState.ssm', [S, H, P, N]),
    k: stateFrom(initial?.k, sizes, 'lastState.k', [S, ...ranks, H, N]),
    v: stateFrom(initial?.v, sizes, 'lastState.v', [S, H, P]),
  };
  const [batch, length] = sizes.all('B', 'L');
  const kept = withStates && {
    states: output(sizes, 'states', [batch, length, 2, H, P]),
    outputs: a.z || a.normWeight || a.mimoO ? output(sizes, 'outputs', [batch, length, ...ranks, H, P]) : undefined,
  };
  const { x, B, C, dt, adt, trap, z, ...rest } = a;
  const rows = { x, B, C, dt, adt, trap, angles: rest.angles, z };
  return {
    op: name,
    sizes,
    tensors: {
      ...rest,
      ...Object.fromEntries(Object.entries(rows).map(([field, t]) => [field, tokens(t)])),
      cuSeqlens,
      ...lastState,
      y: tokens(y),
      ...(kept && { states: tokens(kept.states), outputs: tokens(kept.outputs) }),
    },
    attrs: { mode, chunkSize, normEps },
    result: { y, lastState, ...kept },
  };
}

/**
 * Mamba-3 (2026), SISO and MIMO: per head h ← α·h + (1−τ)·dt·α·Σᵣ vᵣ(t−1)·kᵣ(t−1)ᵀ + τ·dt·Σᵣ vᵣ·kᵣᵀ with α = e^adt,
 * τ = σ(trap), k and c the biased B and C rotated by the running sum of π·tanh(angles)·dt (pairs (2i, 2i+1), for MIMO
 * (i, i+N/2)), vᵣ = x∘mimoXᵣ; yᵣ = h·cᵣ + D·vᵣ, then norm, gate and the sum over ranks.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function mamba3(args: Mamba3Args, options?: CallOptions): Promise<Mamba3Result> {
  return run(() => plan(args), options);
}

/** {@link mamba3} on the calling thread. */
export function mamba3Sync(args: Mamba3Args): Mamba3Result {
  return runSync(plan(args));
}

/** Arguments of {@link mamba3Backward}: mode and chunkSize are the forward's, and nothing here. */
export interface Mamba3BackwardArgs extends Omit<Mamba3Args, 'withStates' | 'out'>, Out<Mamba3Gradients> {
  /** (B, L, H, P): the gradient of y; zero when absent. */
  dy?: TensorLike | undefined;
  /** The gradients of lastState; zero where absent. That of the angles is of their sum, not of what it is modulo 2π. */
  dlastState?: { readonly [K in keyof Mamba3State]?: TensorLike | undefined } | undefined;
  /** (B, L, 2, H, P), of mamba3's withStates on the same arguments: without them they are computed again. */
  states?: TensorLike | undefined;
  /** (B, L, H, P), MIMO (B, L, R, H, P), of the same: without them they are computed again. */
  outputs?: TensorLike | undefined;
}
/** What {@link mamba3Backward} gives: gradients in the shapes of the arguments that are given, in f32. */
export type Mamba3Gradients = Gradients<
  'x' | 'B' | 'C' | 'dt' | 'adt' | 'trap' | 'angles' | 'BBias' | 'CBias',
  'D' | 'z' | 'mimoX' | 'mimoZ' | 'mimoO' | 'normWeight'
> & { dinitialState?: { angle: Tensor; ssm: Tensor; k: Tensor; v: Tensor } };

const parts = ['angle', 'ssm', 'k', 'v'] as const;

/** Any of the four tensors. */
const someStates: Rule<Partial<States>> = (value, where, sizes) => {
  if (value === undefined || value === null) return {};
  if (typeof value !== 'object') throw mismatch('ERR_ARGUMENT', where, `an object of ${parts.join(', ')}`, show(value));
  checkKnown(where, value, parts, 'tensor');
  const given = value as Record<string, unknown>;
  return Object.fromEntries(parts.map((part) => [part, stateShapes[part](given[part], `${where}.${part}`, sizes)]));
};

export function backwardPlan(args: Mamba3BackwardArgs): Plan<Mamba3Gradients> {
  const name = 'mamba3Backward';
  const { withStates: _, ...forward } = rules;
  const a = check(name, args, {
    ...forward,
    dy: optional('B L H P'),
    dlastState: someStates,
    states: optional('B L 2 H P'),
    outputs: optional('B L H P | B L R H P'),
  });
  const { sizes, x, B, C, dt, adt, trap, angles, z, initialState: initial, dlastState, dy, normEps, ...others } = a;
  const { states: kept, outputs, mode: __, chunkSize: ___, ...weights } = others;
  checkShapes(name, sizes, a);
  const rows = Object.fromEntries(
    Object.entries({ x, B, C, dt, adt, trap, angles, z }).map(([field, t]) => [field, tokens(t)]),
  );
  const last = parts.map((part) => [`dlast${part[0]!.toUpperCase()}${part.slice(1)}`, dlastState[part]]);
  const above = {
    ...{ dy: tokens(orZeros(dy, x.shape)), states: tokens(kept), outputs: tokens(outputs) },
    ...Object.fromEntries(last),
  };
  const inputs = { tensors: { ...weights, ...rows, ...initial }, attrs: { normEps } };
  const plan = gradientPlan<Mamba3Gradients>(name, a, inputs, above, [
    ...['x', 'B', 'C', 'dt', 'adt', 'trap', 'angles', 'BBias', 'CBias', 'D', 'z'],
    ...['mimoX', 'mimoZ', 'mimoO', 'normWeight'],
  ]);
  if (!initial) return plan;
  const states = parts.map((part) => [part, output(sizes, `dinitialState.${part}`, initial[part]!.shape)] as const);
  for (const [part, t] of states) plan.tensors[`d${part}`] = t;
  return {
    ...plan,
    result: { ...plan.result, dinitialState: Object.fromEntries(states) as Record<string, Tensor> },
  } as Plan<Mamba3Gradients>;
}

/**
 * The gradients of {@link mamba3}, SISO and MIMO (at most 64 ranks), in chunks of matrix products backwards in time over
 * states that the forward kept or that are computed again.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export const mamba3Backward = gradientCall(backwardPlan);

/** {@link mamba3Backward} on the calling thread. */
export const mamba3BackwardSync = gradientCallSync(backwardPlan);
