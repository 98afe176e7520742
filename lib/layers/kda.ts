import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { aLogInit, deltaRule, gatedHeadNorm, qkvConv } from './delta-net.js';
import { checkKinds, eps, finite, type Kinds, needed, size, value } from './kinds.js';
import { linear, linearBy, scaled } from './linear.js';
import { dtBiasInit } from './mamba.js';

/** Of {@link kda}. */
export interface KdaOptions {
  nHeads: number;
  headDim: number;
  dConv: number;
  /** Of the norm behind the rule. */
  eps: number;
  /** Below 0: the log decay is this times σ(e^{A_log} (f + dt_bias)); undefined: -e^{A_log} softplus(f + dt_bias). */
  lowerBound?: number | undefined;
  residual?: Value | undefined;
}

const KDA: Kinds<KdaOptions> = {
  nHeads: needed(size),
  headDim: needed(size),
  dConv: needed(size),
  eps,
  lowerBound: finite,
  residual: value,
};

/** e^{A_log} of its head for every channel, times a sign. */
const ofChannels = (headDim: number, sign: 1 | -1) => ({
  part: sign,
  terms: (c: number) => [{ factor: sign, exp: Math.floor(c / headDim) }],
});

/** e^{A_log} of its head times dt_bias, which lies behind it. */
const scaledBias = (headDim: number, nHeads: number) => ({
  terms: (c: number) => [{ exp: Math.floor(c / headDim), values: [nHeads + c] }],
});

/** The log decay of every channel: x (tokens, d_model) to (tokens, heads, headDim). */
function channelDecay(g: Graph, x: Value, w: Weights, o: KdaOptions): Value {
  const { nHeads, headDim } = o;
  const width = nHeads * headDim;
  const inner = linear(g, x, w, 'f_a_proj', headDim);
  const aLog = { name: 'A_log', shape: w.stored('A_log') ?? [nHeads], init: aLogInit(nHeads) };
  const bias = { name: 'dt_bias', shape: [width], init: dtBiasInit(width) };
  if (o.lowerBound === undefined) {
    const dt = linearBy(g, inner, w.tensor('f_b_proj.weight', [width, headDim]), w.combined([bias], [width]), {
      activation: 'softplus',
    });
    const scale = w.combined([aLog], [width], ofChannels(headDim, -1));
    return g.reshape(g.op('affine', { x: dt, scale }), nHeads, headDim);
  }
  const f = linear(g, inner, w, 'f_b_proj', width);
  const scale = w.combined([aLog], [width], ofChannels(headDim, 1));
  const shift = w.combined([aLog, bias], [width], scaledBias(headDim, nHeads));
  const open = g.op('activate', { x: g.op('affine', { x: f, scale, shift }) }, { activation: 'sigmoid' });
  return g.reshape(scaled(g, open, o.lowerBound), nHeads, headDim);
}

/**
 * Kimi delta attention (Kimi 2025): the delta rule with a decay for every channel of a key, from a low-rank projection;
 * RMSNorm of every head times σ of a low-rank gate. x (tokens, d_model), same shape out, plus `residual`.
 *
 * Weights, for H heads of D: `q_proj`, `k_proj` and `v_proj` (H·D, d_model), `{q,k,v}_conv1d` (H·D, 1, K), `f_a_proj` (D,
 * d_model), `f_b_proj` (H·D, D), `A_log` (H), `dt_bias` (H·D), `b_proj` (H, d_model), `g_a_proj`, `g_b_proj`, `o_norm` (D),
 * `o_proj` (d_model, H·D).
 */
export function kda(g: Graph, x: Value, w: Weights, o: KdaOptions): Value {
  checkKinds('layers.kda', o, KDA);
  const { nHeads, headDim } = o;
  const d = x.dims[1] as number;
  const width = nHeads * headDim;
  const weight = w.stacked(['q_proj.weight', 'k_proj.weight', 'v_proj.weight'], [width, d]);
  const qkv = qkvConv(g, linearBy(g, x, weight), w, { dConv: o.dConv, widths: [width, width, width] });
  const y = deltaRule(g, w, {
    ...{ nKeyHeads: nHeads, nValueHeads: nHeads, keyDim: headDim, valueDim: headDim, qkv },
    decay: channelDecay(g, x, w, o),
    beta: linear(g, x, w, 'b_proj', nHeads, { activation: 'sigmoid' }),
  });
  const gate = linear(g, linear(g, x, w, 'g_a_proj', headDim), w, 'g_b_proj', width);
  const gated = gatedHeadNorm(g, y, w, 'o_norm', o.eps, gate, 'sigmoid');
  return linear(g, gated, w, 'o_proj', d, { residual: o.residual });
}
