import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { checkKinds, eps, flag, type Kinds, needed, notNegative, size, value } from './kinds.js';
import { linear } from './linear.js';
import { dtBiasInit } from './mamba.js';
import { repeated } from './norms.js';

/** Of {@link mamba3}. */
export interface Mamba3Options {
  nHeads: number;
  headDim: number;
  nGroups: number;
  dState: number;
  /** Pairs of channels that are rotated. */
  angles: number;
  /** Inputs and outputs of a head (MIMO); undefined: one of each (SISO). */
  rank?: number | undefined;
  /** Decays are no faster than e^{-aFloor dt}. */
  aFloor: number;
  /** RMSNorm of every head before the gate. */
  outNorm: boolean;
  eps: number;
  residual?: Value | undefined;
}

const MAMBA3: Kinds<Mamba3Options> = {
  nHeads: needed(size),
  headDim: needed(size),
  nGroups: needed(size),
  dState: needed(size),
  angles: needed(size),
  rank: size,
  aFloor: needed(notNegative),
  outNorm: needed(flag),
  eps,
  residual: value,
};

/**
 * The Mamba-3 mixer (2026): exponential-trapezoidal steps, rotations that depend on the data, no convolution.
 * x (tokens, d_model), same shape out, plus `residual`.
 *
 * Weights, for H heads of P, E = H·P, R = rank (1 for SISO): `in_proj` (2E + 2·N·G·R + 3H + S, D), rows [z | x | B | C | dt |
 * A | trap | angles], B and C ordered rank, group, N; `dt_bias` and `D` (H), `B_norm` and `C_norm` (N), `B_bias` and `C_bias`
 * (H, R, N), `out_proj` (D, E); `mimo_x`, `mimo_z` and `mimo_o` (H, R, P); `norm` (E) with outNorm.
 */
export function mamba3(g: Graph, x: Value, w: Weights, o: Mamba3Options): Value {
  checkKinds('layers.mamba3', o, MAMBA3);
  const { nHeads, headDim, nGroups, dState, angles } = o;
  const rank = o.rank ?? 1;
  const mimo = o.rank !== undefined;
  const dInner = nHeads * headDim;
  const bc = rank * nGroups * dState;
  const widths = [dInner, dInner, bc, bc, nHeads, nHeads, nHeads, angles];
  const total = widths.reduce((a, b) => a + b, 0);
  const [z, u, B, C, dt, adt, trap, turns] = g.split(linear(g, x, w, 'in_proj', total), widths) as Value[];
  const normed = (v: Value, name: string) => {
    const weight = w.tensor(`${name}.weight`, [bc], { stored: [dState], init: 'ones', ...repeated(rank * nGroups) });
    const y = g.op('rmsNorm', { x: v, weight }, { eps: 1e-5, groupSize: dState });
    return mimo ? g.reshape(y, rank, nGroups, dState) : g.reshape(y, nGroups, dState);
  };
  const biasOf = (name: string) =>
    w.tensor(name, mimo ? [nHeads, rank, dState] : [nHeads, dState], {
      stored: [nHeads, rank, dState],
      matrix: false,
      init: 'ones',
    });
  const ofRank = (name: string, value: 'ones' | { uniform: number }) =>
    mimo ? w.tensor(name, [nHeads, rank, headDim], { matrix: false, init: value }) : undefined;
  const y = g.op(
    'mamba3',
    {
      x: g.reshape(u!, nHeads, headDim),
      B: normed(B!, 'B_norm'),
      C: normed(C!, 'C_norm'),
      dt,
      adt,
      trap,
      angles: turns,
      BBias: biasOf('B_bias'),
      CBias: biasOf('C_bias'),
      D: w.tensor('D', [nHeads], { init: 'ones' }),
      z: g.reshape(z!, nHeads, headDim),
      dtBias: w.tensor('dt_bias', [nHeads], { init: dtBiasInit(nHeads) }),
      mimoX: ofRank('mimo_x', { uniform: 1 / rank }),
      mimoZ: ofRank('mimo_z', 'ones'),
      mimoO: ofRank('mimo_o', { uniform: 1 / rank }),
      normWeight: o.outNorm
        ? w.tensor('norm.weight', [nHeads, headDim], { stored: [dInner], matrix: false, init: 'ones' })
        : undefined,
      angle: g.state([nHeads, angles]),
      ssm: g.state([nHeads, headDim, dState]),
      k: g.state(mimo ? [rank, nHeads, dState] : [nHeads, dState]),
      v: g.state([nHeads, headDim]),
    },
    { rawSteps: true, aFloor: o.aFloor, normEps: o.eps },
  );
  return linear(g, g.reshape(y, dInner), w, 'out_proj', x.dims[1] as number, { residual: o.residual });
}
