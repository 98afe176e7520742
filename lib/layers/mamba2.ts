import { mismatch } from '../errors.js';
import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { bounds, checkKinds, eps, flag, integer, type Kinds, needed, nested, numbers, size, value } from './kinds.js';
import { linear, linearBy } from './linear.js';
import { conv1d, dtBiasInit, negativeExp } from './mamba.js';
import { rmsNorm } from './norms.js';

/** Of {@link mamba2}. */
export interface Mamba2Options {
  /** Width of the scan; nHeads · headDim. */
  dInner: number;
  /** Extra width that bypasses the scan as silu(z0)·x0 (d_inner − d_ssm of mamba_ssm). */
  dMlp?: number | undefined;
  nHeads: number;
  headDim: number;
  dState: number;
  nGroups: number;
  dConv: number;
  bias?: boolean | undefined;
  /** Bias of out_proj, where it has a switch of its own; default: bias. */
  outBias?: boolean | undefined;
  convBias?: boolean | undefined;
  dtLimit?: readonly [number, number] | undefined;
  /** D per channel (H·P) and not per head. */
  dPerChannel?: boolean | undefined;
  /** Factors of what in_proj gives: z, x, B, C, dt (Falcon-H1). */
  multipliers?: readonly number[] | undefined;
  /** Gated norm after the scan; undefined: y·silu(z) inside it. */
  norm?: { eps: number; groupSize?: number; normBeforeGate?: boolean } | undefined;
  residual?: Value | undefined;
}

const MAMBA2: Kinds<Mamba2Options> = {
  dInner: needed(size),
  dMlp: integer(0),
  nHeads: needed(size),
  headDim: needed(size),
  dState: needed(size),
  nGroups: needed(size),
  dConv: needed(size),
  bias: flag,
  outBias: flag,
  convBias: flag,
  dtLimit: bounds,
  dPerChannel: flag,
  multipliers: numbers(5),
  norm: nested<Mamba2Options['norm']>({ eps, groupSize: size, normBeforeGate: flag }),
  residual: value,
};

/**
 * The Mamba-2 mixer (Dao & Gu 2024, section 7): x (tokens, d_model) to (tokens, d_model), plus `residual`.
 *
 * Weights: `in_proj` (2E + 2GN + H, D), rows [z | x | B | C | dt]; `conv1d` (E + 2GN, 1, K), `dt_bias`, `A_log` and `D`
 * (H), `norm.weight` (E), `out_proj` (D, E), for E = dInner, H = nHeads, G = nGroups, N = dState.
 */
export function mamba2(g: Graph, x: Value, w: Weights, o: Mamba2Options): Value {
  checkKinds('layers.mamba2', o, MAMBA2);
  const { dInner, nHeads, headDim, dState, nGroups } = o;
  if (dInner !== nHeads * headDim)
    throw mismatch('ERR_SHAPE', 'layers.mamba2: dInner', `nHeads · headDim = ${nHeads * headDim}`, String(dInner));
  const dModel = x.dims[1] as number;
  const dMlp = o.dMlp ?? 0;
  const bc = nGroups * dState;
  const widths = [dInner, dInner, bc, bc, nHeads];
  const projected = multiplied(
    g,
    linear(g, x, w, 'in_proj', 2 * dMlp + 2 * dInner + 2 * bc + nHeads, { bias: o.bias }),
    w,
    widths,
    o.multipliers,
  );
  const z = g.view(projected, 2 * dMlp, dInner); // rows [z0 | x0 | z | x B C | dt]
  const xbc = g.view(projected, 2 * dMlp + dInner, dInner + 2 * bc);
  const dt = g.view(projected, 2 * dMlp + 2 * dInner + 2 * bc, nHeads);
  const h = conv1d(g, xbc, w, { dConv: o.dConv, bias: o.convBias }); // B and C are convolved too
  const [dtMin, dtMax] = o.dtLimit ?? [0, Number.POSITIVE_INFINITY];
  const D = o.dPerChannel
    ? w.tensor('D', [nHeads, headDim], { stored: [nHeads * headDim], matrix: false, init: 'ones' })
    : w.tensor('D', [nHeads], { init: 'ones' });
  const scanned = g.op(
    'ssd',
    {
      x: g.view(h, 0, nHeads, headDim),
      dt,
      A: w.tensor('A_log', [nHeads], { transform: negativeExp, init: logOfHeads(nHeads) }),
      B: g.view(h, dInner, nGroups, dState),
      C: g.view(h, dInner + bc, nGroups, dState),
      D,
      z: o.norm ? undefined : g.reshape(z, nHeads, headDim),
      dtBias: w.tensor('dt_bias', [nHeads], { init: dtBiasInit(nHeads) }),
      state: g.state([nHeads, headDim, dState]),
    },
    { dtSoftplus: true, dtMin, dtMax },
  );
  let y = g.reshape(scanned, dInner);
  if (o.norm) y = rmsNorm(g, y, w, 'norm', { ...o.norm, z });
  const weight = w.tensor('out_proj.weight', [dModel, dMlp + dInner]);
  const bias = (o.outBias ?? o.bias) ? w.tensor('out_proj.bias', [dModel], { init: 'zeros' }) : undefined;
  if (dMlp === 0) return linearBy(g, y, weight, bias, { residual: o.residual });
  const joined = g.buffer('tokens', dMlp + dInner);
  g.op(
    'gate',
    { x: g.view(projected, dMlp, dMlp), gate: g.view(projected, 0, dMlp) },
    { activation: 'silu' },
    g.view(joined, 0, dMlp),
  );
  g.op('activate', { x: y }, {}, g.view(joined, dMlp, dInner));
  return linearBy(g, joined, weight, bias, { residual: o.residual });
}

/** x (tokens, Σ widths), each part times its factor. */
function multiplied(g: Graph, x: Value, w: Weights, widths: number[], factors: readonly number[] | undefined): Value {
  if (!factors || factors.every((f) => f === 1)) return x;
  const values = () => Float32Array.from(widths.flatMap((width, i) => new Array<number>(width).fill(factors[i]!)));
  return g.op('affine', { x, scale: w.constant(values, [x.dims[1] as number]) });
}

const logOfHeads = (nHeads: number) => ({
  values: () => Float32Array.from({ length: nHeads }, (_, h) => Math.log(1 + h)),
});
