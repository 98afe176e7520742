import type { Graph, Value } from '../graph/graph.js';
import type { Init } from '../graph/weight-spec.js';
import type { Weights } from '../graph/weights.js';
import { checkKinds, eps, flag, type Kinds, name, needed, nested, oneOf, size, value } from './kinds.js';
import { linear } from './linear.js';
import { rmsNorm } from './norms.js';

/** Of {@link mamba}. */
export interface MambaOptions {
  dInner: number;
  dState: number;
  dConv: number;
  dtRank: number;
  /** Biases of in_proj and out_proj. */
  bias?: boolean | undefined;
  convBias?: boolean | undefined;
  /** RMSNorms on dt, B and C before they are used; weightless in FalconMamba, with these names in Jamba. */
  innerNorms?: { eps: number; names?: { dt: string; B: string; C: string } } | undefined;
  residual?: Value | undefined;
}

const MAMBA: Kinds<MambaOptions> = {
  dInner: needed(size),
  dState: needed(size),
  dConv: needed(size),
  dtRank: needed(size),
  bias: flag,
  convBias: flag,
  innerNorms: nested<MambaOptions['innerNorms']>({
    eps,
    names: nested<{ dt: string; B: string; C: string }>({ dt: needed(name), B: needed(name), C: needed(name) }),
  }),
  residual: value,
};

/** A = -exp(A_log), once at load. */
export function negativeExp([aLog]: Float32Array[]): Float32Array {
  const A = new Float32Array(aLog!.length);
  for (let i = 0; i < A.length; i++) A[i] = -Math.exp(aLog![i]!);
  return A;
}

/** A_log of a new layer: log(1 … N) in every row (S4D-Real, Mamba section 3.6). */
export const realInit = (rows: number, dState: number): Init => ({
  values: () => {
    const row = Float32Array.from({ length: dState }, (_, n) => Math.log(1 + n));
    const all = new Float32Array(rows * dState);
    for (let r = 0; r < rows; r++) all.set(row, r * dState);
    return all;
  },
});

/** dt_bias of a new layer: softplus⁻¹ of steps log-uniform in [0.001, 0.1]. */
export const dtBiasInit = (count: number): Init => ({
  values: (random) =>
    Float32Array.from({ length: count }, () => {
      const dt = Math.exp(Math.log(0.001) + random() * Math.log(100));
      return dt + Math.log(-Math.expm1(-dt));
    }),
});

/** Of {@link conv1d}. */
export interface Conv1dOptions {
  /** Taps. */
  dConv: number;
  /** Default: true. */
  bias?: boolean | undefined;
  activation?: 'none' | 'silu' | undefined;
  /** Of the weights; default: conv1d. */
  name?: string | undefined;
}

const CONV1D: Kinds<Conv1dOptions> = { dConv: needed(size), bias: flag, activation: oneOf('none', 'silu'), name };

/**
 * Depthwise causal convolution over time, x (tokens, channels), same shape out; a session keeps its last dConv − 1
 * inputs. Weights: `conv1d.weight` (channels, 1, dConv) and `conv1d.bias` (channels).
 */
export function conv1d(g: Graph, x: Value, w: Weights, o: Conv1dOptions): Value {
  checkKinds('layers.conv1d', o, CONV1D);
  const channels = x.dims[1] as number;
  const name = o.name ?? 'conv1d';
  return g.op(
    'causalConv1d',
    {
      x,
      weight: w.tensor(`${name}.weight`, [channels, o.dConv], {
        stored: [channels, 1, o.dConv],
        matrix: false,
        init: { uniform: 1 / Math.sqrt(o.dConv) },
      }),
      bias: o.bias === false ? undefined : w.tensor(`${name}.bias`, [channels], { init: 'zeros' }),
      state: g.state([channels, o.dConv - 1]),
    },
    { activation: o.activation ?? 'silu' },
  );
}

/**
 * The Mamba mixer (Gu & Dao 2023, section 3.4): x (tokens, d_model) to (tokens, d_model), plus `residual`.
 *
 * Weights: `in_proj` (2E, D), `conv1d` (E, 1, K), `x_proj` (R + 2N, E), `dt_proj` (E, R) with bias, `A_log` (E, N), `D`
 * (E), `out_proj` (D, E), for E = dInner, N = dState, K = dConv, R = dtRank.
 */
export function mamba(g: Graph, x: Value, w: Weights, o: MambaOptions): Value {
  checkKinds('layers.mamba', o, MAMBA);
  const { dInner, dState, dtRank } = o;
  const dModel = x.dims[1] as number;
  const [u, z] = g.split(linear(g, x, w, 'in_proj', 2 * dInner, { bias: o.bias }), 2); // (tokens, d_inner) each
  const h = conv1d(g, u!, w, { dConv: o.dConv, bias: o.convBias });
  const xdbc = linear(g, h, w, 'x_proj', dtRank + 2 * dState); // (tokens, dt_rank + 2 d_state)
  let [dt, B, C] = g.split(xdbc, [dtRank, dState, dState]) as [Value, Value, Value];
  if (o.innerNorms) {
    const { eps, names } = o.innerNorms;
    const norm = (v: Value, name?: string) => rmsNorm(g, v, w, name ?? '', { eps, weight: name !== undefined });
    dt = norm(dt, names?.dt);
    B = norm(B, names?.B);
    C = norm(C, names?.C);
  }
  const delta = linear(g, dt, w, 'dt_proj', dInner); // (tokens, d_inner); its bias joins inside the scan
  const y = g.op(
    'selectiveScan',
    {
      u: h,
      delta,
      A: w.tensor('A_log', [dInner, dState], { transform: negativeExp, init: realInit(dInner, dState) }),
      B: g.reshape(B, 1, dState),
      C: g.reshape(C, 1, dState),
      D: w.tensor('D', [dInner], { init: 'ones' }),
      z,
      deltaBias: w.tensor('dt_proj.bias', [dInner], { init: dtBiasInit(dInner) }),
      state: g.state([dInner, dState]),
    },
    { deltaSoftplus: true },
  );
  return linear(g, y, w, 'out_proj', dModel, { bias: o.bias, residual: o.residual });
}
