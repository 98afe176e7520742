import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { checkKinds, eps, finite, flag, type Kinds, needed, size, value } from './kinds.js';
import { type Activation, linear, linearBy, scaled } from './linear.js';
import { dtBiasInit, negativeExp } from './mamba.js';
import { headRmsNorm } from './norms.js';

/** Heads of the delta rule: value head h reads key head h / (nValueHeads / nKeyHeads). */
export interface DeltaHeads {
  nKeyHeads: number;
  nValueHeads: number;
  keyDim: number;
  valueDim: number;
}

/**
 * Rows of unit length, head by head: x (tokens, heads · dim) to x / sqrt(Σ x² + 1e-6) over each head's dim, same shape.
 */
export function unitHeads(g: Graph, w: Weights, x: Value, dim: number): Value {
  const width = x.dims[1] as number;
  // x / sqrt(Σ x² + ε) is RMSNorm's x / sqrt(mean x² + ε / dim), divided by sqrt(dim).
  const weight = w.constant(() => new Float32Array(width).fill(1 / Math.sqrt(dim)), [width]);
  return g.op('rmsNorm', { x, weight }, { eps: 1e-6 / dim, groupSize: dim });
}

/**
 * The log decay of every head, -e^{A_log} softplus(W x + dt_bias): x (tokens, d_model) to (tokens, heads), W (heads, D).
 * Weights: `A_log` and `dt_bias` (heads).
 */
export function headDecay(g: Graph, x: Value, w: Weights, weight: Value): Value {
  const heads = weight.dims[0] as number;
  const dt = linearBy(g, x, weight, w.tensor('dt_bias', [heads], { init: dtBiasInit(heads) }), {
    activation: 'softplus',
  });
  const A = w.tensor('A_log', [heads], { transform: negativeExp, init: aLogInit(heads) });
  return g.op('affine', { x: dt, scale: A });
}

/** A_log of a new layer: decays e^{A_log} from 1 to 16, as the reference draws them. */
export const aLogInit = (count: number) => ({
  values: (random: () => number): Float32Array =>
    Float32Array.from({ length: count }, () => Math.log(1 + 15 * random())),
});

/**
 * The gated delta rule (Yang et al. 2024) over convolved rows qkv (tokens, [q | k | v]) to (tokens, nValueHeads, valueDim);
 * q and k are normalised here. decay: the log decay, (tokens, nValueHeads), or one a key, (tokens, nValueHeads, keyDim);
 * beta (tokens, nValueHeads).
 */
export function deltaRule(g: Graph, w: Weights, o: DeltaHeads & { qkv: Value; decay: Value; beta: Value }): Value {
  const { nKeyHeads, nValueHeads, keyDim, valueDim, qkv, decay, beta } = o;
  const keys = nKeyHeads * keyDim;
  const qk = unitHeads(g, w, g.view(qkv, 0, 2 * keys), keyDim);
  return g.op(
    'gatedDeltaRule',
    {
      q: g.view(qk, 0, nKeyHeads, keyDim),
      k: g.view(qk, keys, nKeyHeads, keyDim),
      v: g.view(qkv, 2 * keys, nValueHeads, valueDim),
      g: decay,
      beta,
      state: g.state([nValueHeads, keyDim, valueDim]),
    },
    { mode: 'chunked' },
  );
}

/**
 * Depthwise causal convolutions of q, k and v as one, with silu: x (tokens, Σ widths), same shape out. Weights: `q_conv1d`,
 * `k_conv1d` and `v_conv1d` (width, 1, K) in the order of x; a file may cut the rows elsewhere than between q, k and v,
 * as transformers writes them.
 */
export function qkvConv(g: Graph, x: Value, w: Weights, o: { dConv: number; widths: readonly number[] }): Value {
  const channels = x.dims[1] as number;
  const names = ['q_conv1d.weight', 'k_conv1d.weight', 'v_conv1d.weight'];
  const sources = names.map((name, i) => ({ name, shape: [w.stored(name)?.[0] ?? o.widths[i]!, 1, o.dConv] }));
  const weight = w.combined(sources, [channels, o.dConv], {
    matrix: false,
    init: { uniform: 1 / Math.sqrt(o.dConv) },
  });
  return g.op('causalConv1d', { x, weight, state: g.state([channels, o.dConv - 1]) }, { activation: 'silu' });
}

/**
 * RMSNorm of every head times act(z), or by itself without z: y (tokens, heads, dim), z (tokens, heads · dim), to (tokens,
 * heads · dim).
 */
export function gatedHeadNorm(
  g: Graph,
  y: Value,
  w: Weights,
  name: string,
  eps: number,
  z: Value | undefined,
  act: Activation,
): Value {
  const [heads, dim] = y.dims.slice(1) as [number, number];
  const width = heads * dim;
  if (!z) return g.reshape(headRmsNorm(g, y, w, name, { eps }), width);
  if (act === 'silu') return g.reshape(headRmsNorm(g, y, w, name, { eps, z, normBeforeGate: true }), width);
  return g.op('gate', { x: g.reshape(headRmsNorm(g, y, w, name, { eps }), width), gate: z }, { activation: act });
}

/** Of {@link deltaNet}. */
export interface DeltaNetOptions extends DeltaHeads {
  dConv: number;
  /** 2 where a value may be written the other way round (eigenvalues down to -1). */
  betaFactor: number;
  /** Of the norm behind the rule. */
  eps: number;
  residual?: Value | undefined;
  /** Without a convolution q, k and v go through silu alone. */
  convolves?: boolean | undefined;
  /** Without a gate the norm stands alone. */
  gated?: boolean | undefined;
}

const DELTA_NET: Kinds<DeltaNetOptions> = {
  nKeyHeads: needed(size),
  nValueHeads: needed(size),
  keyDim: needed(size),
  valueDim: needed(size),
  dConv: needed(size),
  betaFactor: needed(finite),
  eps,
  residual: value,
  convolves: flag,
  gated: flag,
};

/**
 * Gated DeltaNet (Yang et al. 2024) with projections of their own: x (tokens, d_model), same shape out, plus `residual`.
 *
 * Weights: `q_proj`, `k_proj`, `v_proj`, `g_proj`, `a_proj` and `b_proj`, `{q,k,v}_conv1d`, `A_log`, `dt_bias`, `o_norm`,
 * `o_proj`.
 */
export function deltaNet(g: Graph, x: Value, w: Weights, o: DeltaNetOptions): Value {
  checkKinds('layers.deltaNet', o, DELTA_NET);
  const d = x.dims[1] as number;
  const keys = o.nKeyHeads * o.keyDim;
  const values = o.nValueHeads * o.valueDim;
  const widths = [keys, keys, values, ...(o.gated === false ? [] : [values])];
  const names = ['q_proj', 'k_proj', 'v_proj', 'g_proj'];
  const all = widths.reduce((a, b) => a + b, 0);
  const weight = w.combined(
    widths.map((width, i) => ({ name: `${names[i]}.weight`, shape: [width, d] })),
    [all, d],
  );
  const y = linearBy(g, x, weight); // [q | k | v | gate]
  const mixed = g.view(y, 0, 2 * keys + values);
  const qkv =
    o.convolves === false
      ? g.op('activate', { x: mixed }, { activation: 'silu' })
      : qkvConv(g, mixed, w, { dConv: o.dConv, widths });
  const ruled = deltaRule(g, w, {
    ...{ nKeyHeads: o.nKeyHeads, nValueHeads: o.nValueHeads, keyDim: o.keyDim, valueDim: o.valueDim, qkv },
    decay: headDecay(g, x, w, w.tensor('a_proj.weight', [o.nValueHeads, d])),
    beta: scaled(g, linear(g, x, w, 'b_proj', o.nValueHeads, { activation: 'sigmoid' }), o.betaFactor),
  });
  const z = o.gated === false ? undefined : g.view(y, 2 * keys + values, values);
  return linear(g, gatedHeadNorm(g, ruled, w, 'o_norm', o.eps, z, 'silu'), w, 'o_proj', d, { residual: o.residual });
}
