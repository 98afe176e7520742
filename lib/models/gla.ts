import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { qkvConv } from '../layers/delta-net.js';
import { type Activation, linear, linearBy, scaled } from '../layers/linear.js';
import { headRmsNorm } from '../layers/norms.js';
import { activationOf } from './activation.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';
import { buildFla, type FlaConfig, readFla } from './fla-config.js';

interface Mixer {
  nHeads: number;
  nHeadsKv: number;
  keyDim: number;
  valueDim: number;
  dConv?: number;
  featureMap: Activation;
  clampMin?: number;
  gated: boolean;
  affine: boolean;
  eps: number;
}

interface GlaConfig extends FlaConfig {
  mixer: Mixer;
}

function readConfig(c: ConfigReader): GlaConfig {
  const shared = readFla(c, { nLayers: 24, eps: 1e-6 });
  const nHeads = c.size('num_heads', 4);
  const nHeadsKv = c.size('num_kv_heads', nHeads);
  if (nHeads % nHeadsKv !== 0) throw c.error(`num_heads ${nHeads} is no multiple of num_kv_heads ${nHeadsKv}`);
  const keys = c.multiple('expand_k', shared.dModel, 0.5);
  const values = c.multiple('expand_v', shared.dModel, 1);
  if (keys % nHeads !== 0 || values % nHeads !== 0)
    throw c.error(`expand_k and expand_v must make multiples of num_heads ${nHeads}, not ${keys} and ${values}`);
  c.only('use_gk', true);
  c.only('use_gv', false);
  const convolves = c.boolean('use_short_conv', false);
  const dConv = c.size('conv_size', 4);
  if (!c.raw.use_short_conv) c.ignore('share_conv_kernel');
  if (c.has('clamp_min')) c.number('clamp_min');
  return {
    ...shared,
    mixer: {
      nHeads,
      nHeadsKv,
      keyDim: keys / nHeads,
      valueDim: values / nHeads,
      dConv: convolves ? dConv : undefined,
      featureMap: c.has('feature_map') ? activationOf(c, 'feature_map', 'linear') : 'none',
      clampMin: c.has('clamp_min') ? c.number('clamp_min') : undefined,
      gated: c.boolean('use_output_gate', true),
      affine: c.boolean('elementwise_affine', true),
      eps: shared.eps,
    },
  };
}

/** log σ(W1 W0 x + b) / 16 of every key, at least clampMin: x (tokens, d_model) to (tokens, keys). */
function logDecay(g: Graph, x: Value, w: Weights, keys: number, clampMin: number | undefined): Value {
  const rank = w.stored('gk_proj.0.weight')?.[0] ?? 16; // not in the config
  const u = linear(g, linear(g, x, w, 'gk_proj.0', rank), w, 'gk_proj.1', keys, { bias: true });
  // log σ(u) = -softplus(-u)
  const decay = scaled(g, g.op('activate', { x: scaled(g, u, -1) }, { activation: 'softplus' }), -1 / 16);
  if (clampMin === undefined) return decay;
  const shift = (x: Value, by: number) => {
    const ones = w.constant(() => new Float32Array(keys).fill(1), [keys]);
    const shifts = w.constant(() => new Float32Array(keys).fill(by), [keys]);
    return g.op('affine', { x, scale: ones, shift: shifts });
  };
  return shift(g.op('activate', { x: shift(decay, -clampMin) }, { activation: 'relu' }), clampMin);
}

/** Gated linear attention with its projections: x (tokens, d_model), same shape out, plus `residual`. */
function mixer(g: Graph, x: Value, w: Weights, o: Mixer, residual: Value): Value {
  const { nHeads, nHeadsKv, keyDim, valueDim } = o;
  const d = x.dims[1] as number;
  const widths = [nHeads * keyDim, nHeadsKv * keyDim, nHeadsKv * valueDim];
  const all = widths.reduce((a, b) => a + b, 0);
  const parts = ['q_proj.weight', 'k_proj.weight', 'v_proj.weight'].map((name, i) => ({
    name,
    shape: [widths[i]!, d],
  }));
  const projected = linearBy(g, x, w.combined(parts, [all, d]));
  const qkv = o.dConv === undefined ? projected : qkvConv(g, projected, w, { dConv: o.dConv, widths });
  const keys = widths[0]! + widths[1]!;
  let qk = g.view(qkv, 0, keys);
  if (o.featureMap !== 'none') qk = g.op('activate', { x: qk }, { activation: o.featureMap });
  const y = g.op(
    'gla',
    {
      q: g.view(qk, 0, nHeads, keyDim),
      k: g.view(qk, widths[0]!, nHeadsKv, keyDim),
      v: g.view(qkv, keys, nHeadsKv, valueDim),
      g: g.reshape(logDecay(g, x, w, widths[1]!, o.clampMin), nHeadsKv, keyDim),
      state: g.state([nHeads, keyDim, valueDim]),
    },
    { mode: 'chunked' },
  );
  const width = nHeads * valueDim;
  const z = o.gated ? linear(g, x, w, 'g_proj', width) : undefined;
  const name = o.gated && !w.stored('g_norm.weight') ? 'g_norm_swish_gate' : 'g_norm';
  const norm = { eps: o.eps, z, normBeforeGate: true };
  const normed = o.affine
    ? g.reshape(headRmsNorm(g, y, w, name, norm), width)
    : g.op('rmsNorm', { x: g.reshape(y, width), z }, { eps: o.eps, normBeforeGate: true, groupSize: valueDim });
  return linear(g, normed, w, 'o_proj', d, { residual });
}

/** Gated linear attention (Yang et al. 2024) in the layout of flash-linear-attention. */
export const gla: ModelDefinition<GlaConfig> = {
  modelTypes: ['gla'],
  config: readConfig,
  build: (g, w, c) => buildFla(g, w, c, (g, h, attn, residual) => mixer(g, h, attn, c.mixer, residual)),
  vocabSize: (c) => c.vocabSize,
};
