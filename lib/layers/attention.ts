import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { type RopeFrequencies, type RopeScaling, ropeFrequencies } from '../rope-frequencies.js';
import {
  checkKinds,
  eps,
  finite,
  flag,
  integer,
  type Kinds,
  name,
  needed,
  nested,
  notNegative,
  object,
  oneOf,
  positive,
  size,
  value,
} from './kinds.js';
import { adapted, type LowRank, linearBy, linearJoined, lowRank, scaled } from './linear.js';
import { headRmsNorm, rmsNorm } from './norms.js';

export interface AttentionOptions {
  nHeads: number;
  nHeadsKv: number;
  headDim: number;
  /** Default: 1/sqrt(headDim). */
  scale?: number | undefined;
  /** Keys that a query sees, itself included. */
  window?: number | undefined;
  softcap?: number | undefined;
  /** False: every query sees every key of the sequence; such a layer cannot stream. */
  causal?: boolean | undefined;
  rope?: RopeOptions | undefined;
}

export interface RopeOptions {
  theta: number;
  /** Default: the whole head. */
  rotaryDim?: number | undefined;
  /** What the exponents of theta are divided by; default rotaryDim. */
  exponentDim?: number | undefined;
  interleaved?: boolean | undefined;
  scaling?: RopeScaling | undefined;
  /** Tokens of a whole sequence, where the frequencies depend on it; default: as many as the short form holds for. */
  length?: number | undefined;
}

const ROPE: Kinds<RopeOptions> = {
  theta: needed(positive),
  rotaryDim: size,
  exponentDim: size,
  interleaved: flag,
  scaling: object,
  length: size,
};

export const ATTEND: Kinds<AttentionOptions> = {
  nHeads: needed(size),
  nHeadsKv: needed(size),
  headDim: needed(size),
  scale: finite,
  window: integer(0),
  softcap: notNegative,
  causal: flag,
  rope: nested<AttentionOptions['rope']>(ROPE),
};

const known = new WeakMap<Graph, Map<string, RopeFrequencies>>();

/** Of all layers that rotate alike, computed once: a power for each pair of channels is what a graph takes longest for. */
export function frequenciesIn(g: Graph, o: RopeOptions & { rotaryDim: number }): RopeFrequencies {
  const ofGraph = known.get(g) ?? new Map<string, RopeFrequencies>();
  known.set(g, ofGraph);
  const key = JSON.stringify([o.theta, o.rotaryDim, o.exponentDim, o.scaling, o.length]);
  const frequencies = ofGraph.get(key) ?? ropeFrequencies(o);
  ofGraph.set(key, frequencies);
  if (frequencies.longest !== undefined) g.limitTo(frequencies.longest, `rope_type ${o.scaling!.type}`);
  g.stretched = frequencies.stretched ?? g.stretched;
  return frequencies;
}

/** Rotates the first rotaryDim channels of heads by position (Su et al. 2021): x (tokens, heads, headdim), same shape out. */
export function rope(g: Graph, x: Value, o: RopeOptions): Value {
  checkKinds('layers.rope', o, ROPE);
  const rotaryDim = o.rotaryDim ?? (x.dims[2] as number);
  const { invFreq, scale } = frequenciesIn(g, { ...o, rotaryDim });
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
  checkKinds('layers.attend', o, ATTEND);
  return attended(g, q, k, v, o);
}

/** The same for layers, whose options say more than that. */
export function attended(g: Graph, q: Value, k: Value, v: Value, o: AttentionOptions): Value {
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
  qkvBias?: boolean | undefined;
  outBias?: boolean | undefined;
  names?: { q: string; k: string; v: string; out: string } | undefined;
  /** The name of one projection that holds the rows of q, k and v. */
  fused?: string | undefined;
  /** RMSNorm of q and k before the rotation: of every head by itself, or of the whole projection. */
  qkNorm?:
    | { eps: number; over: 'head' | 'projection'; unitOffset?: boolean; names?: { q: string; k: string } }
    | undefined;
  /** Factor of the keys. */
  keyScale?: number | undefined;
  /** Low-rank additions to the projections. */
  adapters?: { q: LowRank; k: LowRank; v: LowRank } | undefined;
  /** Width of the result, where it is not that of x. */
  dOut?: number | undefined;
  residual?: Value | undefined;
}

const ATTENTION: Kinds<AttentionLayerOptions> = {
  ...ATTEND,
  qkvBias: flag,
  outBias: flag,
  names: nested<AttentionLayerOptions['names']>({
    q: needed(name),
    k: needed(name),
    v: needed(name),
    out: needed(name),
  }),
  fused: name,
  qkNorm: nested<AttentionLayerOptions['qkNorm']>({
    eps,
    over: needed(oneOf('head', 'projection')),
    unitOffset: flag,
    names: nested<{ q: string; k: string }>({ q: needed(name), k: needed(name) }),
  }),
  keyScale: finite,
  adapters: nested<AttentionLayerOptions['adapters']>({
    q: needed(lowRank),
    k: needed(lowRank),
    v: needed(lowRank),
  }),
  dOut: size,
  residual: value,
};

const NAMES = { q: 'q_proj', k: 'k_proj', v: 'v_proj', out: 'o_proj' };

/** q, k and v (tokens, heads, headdim) of x, by one product. */
function project(g: Graph, x: Value, w: Weights, o: AttentionLayerOptions): [Value, Value, Value] {
  const names = o.names ?? NAMES;
  const dq = o.nHeads * o.headDim;
  const dkv = o.nHeadsKv * o.headDim;
  const all = dq + 2 * dkv;
  const parts = (what: 'weight' | 'bias', inner: number[]) =>
    o.fused
      ? [{ name: `${o.fused}.${what}`, shape: [all, ...inner] }]
      : [
          { name: `${names.q}.${what}`, shape: [dq, ...inner] },
          { name: `${names.k}.${what}`, shape: [dkv, ...inner] },
          { name: `${names.v}.${what}`, shape: [dkv, ...inner] },
        ];
  const qkv = linearJoined(g, x, w, parts, o.qkvBias); // (tokens, dq + 2 dkv)
  const part = (at: number, nHeads: number, adapter?: LowRank) => {
    if (!adapter) return g.view(qkv, at, nHeads, o.headDim);
    return g.reshape(adapted(g, g.view(qkv, at, nHeads * o.headDim), x, w, adapter), nHeads, o.headDim);
  };
  const { q, k, v } = o.adapters ?? {};
  return [part(0, o.nHeads, q), part(dq, o.nHeadsKv, k), part(dq + dkv, o.nHeadsKv, v)];
}

/** RMSNorm of queries or keys (tokens, heads, headdim). */
function normed(g: Graph, x: Value, w: Weights, name: string, o: NonNullable<AttentionLayerOptions['qkNorm']>): Value {
  const { eps, unitOffset } = o;
  if (o.over === 'head') return headRmsNorm(g, x, w, name, { eps, unitOffset });
  const [nHeads, headDim] = x.dims.slice(1) as [number, number];
  return g.reshape(rmsNorm(g, g.reshape(x, nHeads * headDim), w, name, { eps, unitOffset }), nHeads, headDim);
}

/**
 * Grouped-query attention with separate projections (Vaswani et al. 2017, Ainslie et al. 2023): x (tokens, d_model) to
 * (tokens, d_model), plus `residual`.
 *
 * Weights: `q_proj` (nHeads·headDim, D), `k_proj` and `v_proj` (nHeadsKv·headDim, D), `o_proj` (D, nHeads·headDim), with
 * biases where qkvBias or outBias say so; with qkNorm `q_norm` and `k_norm` (headDim, or all heads' channels).
 */
export function attention(g: Graph, x: Value, w: Weights, o: AttentionLayerOptions): Value {
  checkKinds('layers.attention', o, ATTENTION);
  const dOut = o.dOut ?? (x.dims[1] as number);
  const dq = o.nHeads * o.headDim;
  const [projected, keys, v] = project(g, x, w, o);
  let [q, k] = [projected, keys];
  if (o.keyScale !== undefined && o.keyScale !== 1) {
    const dkv = o.nHeadsKv * o.headDim;
    k = g.reshape(scaled(g, g.reshape(k, dkv), o.keyScale), o.nHeadsKv, o.headDim);
  }
  if (o.qkNorm) {
    const names = o.qkNorm.names ?? { q: 'q_norm', k: 'k_norm' };
    q = normed(g, q, w, names.q, o.qkNorm);
    k = normed(g, k, w, names.k, o.qkNorm);
  }
  if (o.rope) {
    q = rope(g, q, o.rope);
    k = rope(g, k, o.rope);
  }
  const y = g.reshape(attended(g, q, k, v, o), dq);
  const out = (o.names ?? NAMES).out;
  const outBias = o.outBias ? w.tensor(`${out}.bias`, [dOut], { init: 'zeros' }) : undefined;
  return linearBy(g, y, w.tensor(`${out}.weight`, [dOut, dq]), outBias, { residual: o.residual });
}
