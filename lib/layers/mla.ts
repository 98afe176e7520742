import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { checkKinds, eps, flag, integer, type Kinds, needed, size, value } from './kinds.js';
import { linear, linearBy } from './linear.js';
import { rmsNorm } from './norms.js';

/** Of {@link mla}. */
export interface MlaOptions {
  nHeads: number;
  /** Width of the latent that keys and values are made of. */
  kvRank: number;
  /** Width of the latent that queries are made of; undefined: none. */
  qRank?: number | undefined;
  /** Channels of a head's key of its own, and of the part that all heads share. */
  nopeDim: number;
  ropeDim: number;
  valueDim: number;
  /** Of the norms of the latents. */
  eps: number;
  /** Biases of the first projections and of o_proj. */
  bias?: boolean | undefined;
  residual?: Value | undefined;
}

const MLA: Kinds<MlaOptions> = {
  nHeads: needed(size),
  kvRank: needed(size),
  qRank: size,
  nopeDim: needed(size),
  ropeDim: needed(integer(0)),
  valueDim: needed(size),
  eps,
  bias: flag,
  residual: value,
};

/** Queries against the cached rows (tokens, heads, kvRank + ropeDim) and those rows, one head, to what attention gives. */
export type LatentAttend = (q: Value, rows: Value, queryLatent: Value | undefined) => Value;

/** Rows `from` to `from + count` of head h in kv_b_proj, transposed: (kvRank, count). */
const transposedRows = (width: number, from: number, count: number) => ({
  part: `T${from}`,
  matrix: true,
  transform: ([all]: Float32Array[]): Float32Array => {
    const out = new Float32Array(width * count);
    for (let r = 0; r < count; r++) for (let c = 0; c < width; c++) out[c * count + r] = all![(from + r) * width + c]!;
    return out;
  },
});

/**
 * Multi-head latent attention (DeepSeek-V2 2024) without positions, as Kimi Linear has it: a session keeps one latent of
 * kvRank channels a token, and ropeDim that all heads share. Keys and values are never made: queries are taken to the
 * latent's space by the rows that would make keys, and what attention gives is taken to values after it. x (tokens,
 * d_model) to (tokens, d_model), plus `residual`.
 *
 * Weights: `q_proj` (H·(nope + rope), D), or `q_a_proj`, `q_a_layernorm` and `q_b_proj`; `kv_a_proj_with_mqa` (kvRank +
 * rope, D), `kv_a_layernorm`, `kv_b_proj` (H·(nope + v), kvRank), `o_proj` (D, H·v).
 */
export function mla(g: Graph, x: Value, w: Weights, o: MlaOptions, attention?: LatentAttend): Value {
  checkKinds('layers.mla', o, MLA);
  const { nHeads, kvRank, nopeDim, ropeDim, valueDim, eps } = o;
  const bias = o.bias ?? false;
  const d = x.dims[1] as number;
  const keyDim = nopeDim + ropeDim;
  const latentQ = o.qRank
    ? rmsNorm(g, linear(g, x, w, 'q_a_proj', o.qRank, { bias }), w, 'q_a_layernorm', { eps })
    : undefined;
  const q = latentQ ? linear(g, latentQ, w, 'q_b_proj', nHeads * keyDim) : linear(g, x, w, 'q_proj', nHeads * keyDim); // (tokens, heads · keyDim)

  const projected = linear(g, x, w, 'kv_a_proj_with_mqa', kvRank + ropeDim, { bias });
  const width = kvRank + ropeDim;
  const rows = g.buffer('tokens', width); // what the session keeps of a token
  const normWeight = w.tensor('kv_a_layernorm.weight', [kvRank], { init: 'ones' });
  g.op('rmsNorm', { x: g.view(projected, 0, kvRank), weight: normWeight }, { eps }, g.view(rows, 0, kvRank));
  if (ropeDim > 0) g.op('activate', { x: g.view(projected, kvRank, ropeDim) }, {}, g.view(rows, kvRank, ropeDim));

  const perHead = nopeDim + valueDim;
  const stored = [nHeads * perHead, kvRank];
  const queries = g.buffer('tokens', nHeads * width);
  for (let h = 0; h < nHeads; h++) {
    const weight = w.tensor('kv_b_proj.weight', [kvRank, nopeDim], {
      stored,
      init: { uniform: 1 / Math.sqrt(kvRank) },
      ...transposedRows(kvRank, h * perHead, nopeDim),
    });
    g.op('linear', { x: g.view(q, h * keyDim, nopeDim), weight }, {}, g.view(queries, h * width, kvRank));
    if (ropeDim > 0)
      g.op(
        'activate',
        { x: g.view(q, h * keyDim + nopeDim, ropeDim) },
        {},
        g.view(queries, h * width + kvRank, ropeDim),
      );
  }
  const heads = g.reshape(queries, nHeads, width);
  const latent = g.reshape(rows, 1, width);
  const attended = attention
    ? attention(heads, latent, latentQ)
    : attendLatent(g, heads, latent, 1 / Math.sqrt(keyDim));
  const values = g.buffer('tokens', nHeads * valueDim);
  for (let h = 0; h < nHeads; h++) {
    const weight = w.rows('kv_b_proj.weight', stored, [[h * perHead + nopeDim, valueDim]]);
    const part = g.view(g.reshape(attended, nHeads * width), h * width, kvRank);
    g.op('linear', { x: part, weight }, {}, g.view(values, h * valueDim, valueDim));
  }
  const outBias = bias ? w.tensor('o_proj.bias', [d], { init: 'zeros' }) : undefined;
  const weight = w.tensor('o_proj.weight', [d, nHeads * valueDim]);
  return linearBy(g, values, weight, outBias, { residual: o.residual });
}

/** Attention whose keys and values are the same cached rows: q (tokens, heads, width), rows (tokens, 1, width). */
function attendLatent(g: Graph, q: Value, rows: Value, scale: number): Value {
  const pages = g.cache(1, rows.dims[2] as number);
  g.op('cacheAppend', { k: rows, v: rows, kPages: pages, vPages: pages });
  return g.op('attention', { q, k: pages, v: pages }, { causal: true, scale });
}
