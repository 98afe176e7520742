import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { type AttentionOptions, attended, rope } from './attention.js';
import { type DeltaHeads, deltaRule, gatedHeadNorm, headDecay } from './delta-net.js';
import { type Activation, linear, linearBy, linearJoined } from './linear.js';
import { conv1d } from './mamba.js';
import { headRmsNorm } from './norms.js';

export interface QwenAttention extends AttentionOptions {
  bias: boolean;
  eps: number;
  residual?: Value | undefined;
}

/** What attention of the heads gives, for a model that masks more than the order of tokens does. */
export type Attend = (q: Value, k: Value, v: Value) => Value;

/**
 * Attention with a gate (Qwen3-Next): q_proj gives [query | gate] of every head; (1 + w) RMSNorm on queries and keys;
 * o_proj(σ(gate) · attention). x (tokens, d_model), same shape out, plus `residual`.
 */
export function gatedAttention(g: Graph, x: Value, w: Weights, o: QwenAttention, attention?: Attend): Value {
  const { nHeads, nHeadsKv, headDim } = o;
  const d = x.dims[1] as number;
  const [dq, dkv] = [nHeads * headDim, nHeadsKv * headDim];
  const heads = Array.from({ length: nHeads }, (_, h) => h);
  // Queries of all heads, then their gates: rows of one tensor in another order.
  const order = [...heads.map((h) => 2 * h), ...heads.map((h) => 2 * h + 1)];
  const sources = (what: 'weight' | 'bias', inner: number[]) => {
    const width = inner[0] ?? 1;
    return [
      ...order.map((block) => ({
        name: `q_proj.${what}`,
        shape: [2 * dq, ...inner],
        span: [block * headDim * width, headDim * width] as const,
      })),
      { name: `k_proj.${what}`, shape: [dkv, ...inner] },
      { name: `v_proj.${what}`, shape: [dkv, ...inner] },
    ];
  };
  const y = linearJoined(g, x, w, sources, o.bias); // [q | gate | k | v]
  const norm = { eps: o.eps, unitOffset: true };
  let q = headRmsNorm(g, g.view(y, 0, nHeads, headDim), w, 'q_norm', norm);
  let k = headRmsNorm(g, g.view(y, 2 * dq, nHeadsKv, headDim), w, 'k_norm', norm);
  const v = g.view(y, 2 * dq + dkv, nHeadsKv, headDim);
  if (o.rope) {
    q = rope(g, q, o.rope);
    k = rope(g, k, o.rope);
  }
  const mixed = g.reshape(attention ? attention(q, k, v) : attended(g, q, k, v, o), dq);
  const gated = g.op('gate', { x: mixed, gate: g.view(y, dq, dq) }, { activation: 'sigmoid' });
  return linear(g, gated, w, 'o_proj', d, { bias: o.bias, residual: o.residual });
}

export interface QwenDelta extends DeltaHeads {
  dConv: number;
  eps: number;
  /** Of the gate behind the norm. */
  gate: Activation;
  /** in_proj_qkvz and in_proj_ba hold [q | k | v | z] and [b | a] of one key head after the other (Qwen3-Next). */
  grouped: boolean;
  residual?: Value | undefined;
}

/** Rows of q of all key heads, then k, v, z, where each key head has its own four together. */
function groupedRows(o: QwenDelta): [number, number][] {
  const share = (o.nValueHeads / o.nKeyHeads) * o.valueDim;
  const sizes = [o.keyDim, o.keyDim, share, share];
  const group = sizes.reduce((a, b) => a + b, 0);
  return sizes.flatMap((size, part) => {
    const first = sizes.slice(0, part).reduce((a, b) => a + b, 0);
    return Array.from({ length: o.nKeyHeads }, (_, h): [number, number] => [h * group + first, size]);
  });
}

/** Log decay and beta where both lie in one projection, key head by key head. */
function groupedGates(g: Graph, x: Value, w: Weights, o: QwenDelta): { decay: Value; beta: Value } {
  const d = x.dims[1] as number;
  const share = o.nValueHeads / o.nKeyHeads;
  const part = (offset: number) =>
    w.rows(
      'in_proj_ba.weight',
      [2 * o.nValueHeads, d],
      Array.from({ length: o.nKeyHeads }, (_, h): [number, number] => [(2 * h + offset) * share, share]),
    );
  return {
    beta: linearBy(g, x, part(0), undefined, { activation: 'sigmoid' }),
    decay: headDecay(g, x, w, part(1)),
  };
}

/**
 * Gated DeltaNet as Qwen3-Next and Qwen3.5 have it: convolved q, k, v; the gated delta rule; RMSNorm of every head times
 * act(z). x (tokens, d_model), same shape out, plus `residual`.
 */
export function gatedDeltaNet(g: Graph, x: Value, w: Weights, o: QwenDelta): Value {
  const { nKeyHeads, nValueHeads, keyDim, valueDim } = o;
  const d = x.dims[1] as number;
  const values = nValueHeads * valueDim;
  const mixed = 2 * nKeyHeads * keyDim + values;
  const all = mixed + values;
  const grouped = groupedRows(o).map(([first, rows]) => ({
    name: 'in_proj_qkvz.weight',
    shape: [all, d],
    span: [first * d, rows * d] as const,
  }));
  const apart = [
    { name: 'in_proj_qkv.weight', shape: [mixed, d] },
    { name: 'in_proj_z.weight', shape: [values, d] },
  ];
  const y = linearJoined(g, x, w, () => (o.grouped ? grouped : apart)); // [q | k | v | z]
  const qkv = conv1d(g, g.view(y, 0, mixed), w, { dConv: o.dConv, bias: false });
  const { decay, beta } = o.grouped
    ? groupedGates(g, x, w, o)
    : {
        decay: headDecay(g, x, w, w.tensor('in_proj_a.weight', [nValueHeads, d])),
        beta: linear(g, x, w, 'in_proj_b', nValueHeads, { activation: 'sigmoid' }),
      };
  const ruled = deltaRule(g, w, { nKeyHeads, nValueHeads, keyDim, valueDim, qkv, decay, beta });
  const gated = gatedHeadNorm(g, ruled, w, 'norm', o.eps, g.view(y, mixed, values), o.gate);
  return linear(g, gated, w, 'out_proj', d, { residual: o.residual });
}
