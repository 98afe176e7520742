import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { type RopeScaling, ropeFrequencies } from '../rope-frequencies.js';
import { linearBy } from './linear.js';

export interface AttentionOptions {
  nHeads: number;
  nHeadsKv: number;
  headDim: number;
  /** Default: 1/sqrt(headDim). */
  scale?: number;
  /** Keys that a query sees, itself included. */
  window?: number;
  softcap?: number;
  /** False: every query sees every key of the sequence; such a layer cannot stream. */
  causal?: boolean;
  rope?: { theta: number; rotaryDim?: number; interleaved?: boolean; scaling?: RopeScaling };
}

/** Rotates the first rotaryDim channels of heads by position (Su et al. 2021): x (tokens, heads, headdim), same shape out. */
export function rope(
  g: Graph,
  x: Value,
  o: { theta: number; rotaryDim?: number; interleaved?: boolean; scaling?: RopeScaling },
): Value {
  const rotaryDim = o.rotaryDim ?? (x.dims[2] as number);
  const { invFreq, scale } = ropeFrequencies({ theta: o.theta, rotaryDim, scaling: o.scaling });
  const table = g.weight({ sources: [], matrix: false, transform: () => invFreq, init: [], activeShare: 1 }, [
    invFreq.length,
  ]);
  return g.op('rope', { x, invFreq: table }, { interleaved: o.interleaved, mscale: scale });
}

/**
 * Attention by itself: q (tokens, nHeads, headDim), k and v (tokens, nHeadsKv, headDim) to (tokens, nHeads, headDim), over
 * all that the session has seen. k and v join its cache; not causal, they do not, and sequences come whole.
 */
export function attend(g: Graph, q: Value, k: Value, v: Value, o: AttentionOptions): Value {
  const attrs = {
    causal: o.causal ?? true,
    scale: o.scale ?? 1 / Math.sqrt(o.headDim),
    window: o.window ?? 0,
    softcap: o.softcap ?? 0,
  };
  if (o.causal === false) return g.op('attention', { q, k, v }, attrs);
  const kPages = g.cache(o.nHeadsKv, o.headDim);
  const vPages = g.cache(o.nHeadsKv, o.headDim);
  g.op('cacheAppend', { k, v, kPages, vPages });
  return g.op('attention', { q, k: kPages, v: vPages }, attrs);
}

export interface AttentionLayerOptions extends AttentionOptions {
  qkvBias?: boolean;
  outBias?: boolean;
  names?: { q: string; k: string; v: string; out: string };
  residual?: Value;
}

/**
 * Grouped-query attention with separate projections (Vaswani et al. 2017, Ainslie et al. 2023): x (tokens, d_model) to
 * (tokens, d_model), plus `residual`.
 *
 * Weights: `q_proj` (nHeads·headDim, D), `k_proj` and `v_proj` (nHeadsKv·headDim, D), `o_proj` (D, nHeads·headDim), with
 * biases where qkvBias or outBias say so.
 */
export function attention(g: Graph, x: Value, w: Weights, o: AttentionLayerOptions): Value {
  const names = o.names ?? { q: 'q_proj', k: 'k_proj', v: 'v_proj', out: 'o_proj' };
  const dModel = x.dims[1] as number;
  const dq = o.nHeads * o.headDim;
  const dkv = o.nHeadsKv * o.headDim;
  const parts = (what: 'weight' | 'bias', inner: number[]) => [
    { name: `${names.q}.${what}`, shape: [dq, ...inner] },
    { name: `${names.k}.${what}`, shape: [dkv, ...inner] },
    { name: `${names.v}.${what}`, shape: [dkv, ...inner] },
  ];
  const weight = w.combined(parts('weight', [dModel]), [dq + 2 * dkv, dModel]);
  const bias = o.qkvBias ? w.combined(parts('bias', []), [dq + 2 * dkv], { init: 'zeros' }) : undefined;
  const qkv = linearBy(g, x, weight, bias); // (tokens, dq + 2 dkv)
  let q = g.view(qkv, 0, o.nHeads, o.headDim);
  let k = g.view(qkv, dq, o.nHeadsKv, o.headDim);
  const v = g.view(qkv, dq + dkv, o.nHeadsKv, o.headDim);
  if (o.rope) {
    q = rope(g, q, o.rope);
    k = rope(g, k, o.rope);
  }
  const y = g.reshape(attend(g, q, k, v, o), dq);
  const outBias = o.outBias ? w.tensor(`${names.out}.bias`, [dModel], { init: 'zeros' }) : undefined;
  return linearBy(g, y, w.tensor(`${names.out}.weight`, [dModel, dq]), outBias, { residual: o.residual });
}
