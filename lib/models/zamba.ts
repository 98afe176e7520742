import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { type AttentionLayerOptions, attention } from '../layers/attention.js';
import { type Activation, concat, embedding, linear, linearBy } from '../layers/linear.js';
import { conv1d, dtBiasInit, negativeExp, realInit } from '../layers/mamba.js';
import { gatedMlp } from '../layers/mlp.js';
import { rmsNorm } from '../layers/norms.js';
import { activationOf } from './activation.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';
import { logits } from './ends.js';
import { readLayerTypes } from './layer-types.js';

export type ZambaKind = 'linear_attention' | 'hybrid';
export const ZAMBA_KINDS: readonly ZambaKind[] = ['linear_attention', 'hybrid'];

interface Mixer {
  dInner: number;
  nHeads: number;
  dState: number;
  dConv: number;
  dtRank: number;
  bias: boolean;
  convBias: boolean;
}

interface ZambaConfig {
  vocabSize: number;
  dModel: number;
  dFf: number;
  eps: number;
  tied: boolean;
  kinds: ZambaKind[];
  activation: Activation;
  attention: AttentionLayerOptions;
  mixer: Mixer;
}

/**
 * Heads of the shared attention, over twice the width: derived, and where they are written down that must agree. Scores
 * are scaled as for heads of half their size.
 */
export function readSharedAttention(c: ConfigReader, dModel: number, standardHeads: number): AttentionLayerOptions {
  const nHeads = c.size('num_attention_heads', standardHeads);
  const nHeadsKv = c.size('num_key_value_heads', nHeads);
  if ((2 * dModel) % nHeads !== 0)
    throw c.error(`2 · hidden_size ${2 * dModel} is no multiple of num_attention_heads ${nHeads}`);
  if (nHeads % nHeadsKv !== 0)
    throw c.error(`num_attention_heads ${nHeads} is no multiple of num_key_value_heads ${nHeadsKv}`);
  const headDim = c.size(c.either('attention_head_dim', 'head_dim'), (2 * dModel) / nHeads);
  c.agrees('attention_hidden_size', 2 * dModel);
  return { nHeads, nHeadsKv, headDim, dOut: dModel, scale: 1 / Math.sqrt(headDim / 2) };
}

function readMixer(c: ConfigReader, dModel: number): Mixer {
  const rank = c.any('mamba_dt_rank');
  const dInner = c.multiple('mamba_expand', dModel, 2);
  const nHeads = c.size('n_mamba_heads', 2);
  if (dInner % nHeads !== 0)
    throw c.error(`mamba_expand · hidden_size = ${dInner} is no multiple of n_mamba_heads ${nHeads}`);
  return {
    dInner,
    nHeads,
    dState: c.size('mamba_d_state', 16),
    dConv: c.size('mamba_d_conv', 4),
    dtRank: rank === undefined || rank === 'auto' ? Math.ceil(dModel / 16) : c.size('mamba_dt_rank'),
    bias: c.boolean('mamba_proj_bias', false),
    convBias: c.boolean('mamba_conv_bias', true),
  };
}

function readConfig(c: ConfigReader): ZambaConfig {
  const dModel = c.size('hidden_size', 3712);
  const period = c.size('attn_layer_period', 6);
  const offset = c.count('attn_layer_offset', 4);
  c.oneOf('hidden_mamba_act', ['silu', 'swish'], 'silu');
  return {
    vocabSize: c.size('vocab_size', 32000),
    dModel,
    dFf: c.size('intermediate_size', 14848),
    eps: c.number('rms_norm_eps', 1e-5),
    tied: c.boolean('tie_word_embeddings', true),
    kinds: readLayerTypes(c, ['layers_block_type', 'layer_types'], c.size('num_hidden_layers', 76), ZAMBA_KINDS, (i) =>
      i === 2 || (i > 2 && (i - 3) % period === offset) ? 'hybrid' : 'linear_attention',
    ),
    activation: activationOf(c, 'hidden_act', 'gelu'),
    attention: readSharedAttention(c, dModel, 16),
    mixer: readMixer(c, dModel),
  };
}

/** Rows 2c of in_proj give channel c, rows 2c + 1 its gate: here all channels, then all gates. */
const apart = (rows: number, width: number) => ({
  transform: ([all]: Float32Array[]): Float32Array => {
    const out = new Float32Array(all!.length);
    for (let r = 0; r < rows; r++) {
      const to = (r % 2) * (rows / 2) + Math.floor(r / 2);
      out.set(all!.subarray(r * width, (r + 1) * width), to * width);
    }
    return out;
  },
});

/** Mamba's mixer with heads: each computes dt, B and C of its own channels, which the scan reads by groups. */
function mixer(g: Graph, x: Value, w: Weights, o: Mixer, residual: Value): Value {
  const { dInner, nHeads, dState, dtRank } = o;
  const d = x.dims[1] as number;
  const width = dInner / nHeads;
  const rows = dtRank + 2 * dState;
  const weight = w.tensor('in_proj.weight', [2 * dInner, d], { matrix: true, ...apart(2 * dInner, d) });
  const bias = o.bias ? w.tensor('in_proj.bias', [2 * dInner], { init: 'zeros', ...apart(2 * dInner, 1) }) : undefined;
  const [u, z] = g.split(linearBy(g, x, weight, bias), 2) as [Value, Value]; // (tokens, d_inner) each
  const h = conv1d(g, u, w, { dConv: o.dConv, bias: o.convBias });
  const delta = g.buffer('tokens', dInner);
  const B = g.buffer('tokens', nHeads * dState);
  const C = g.buffer('tokens', nHeads * dState);
  for (let head = 0; head < nHeads; head++) {
    const part = g.view(h, head * width, width);
    const slice = (from: number, count: number) =>
      w.rows('x_proj_weight', [nHeads, rows, width], [[head * rows + from, count]]);
    const dt = linearBy(g, part, slice(0, dtRank)); // (tokens, dt_rank)
    const wide = w.rows('dt_proj_weight', [nHeads, width, dtRank], [[head * width, width]]);
    g.op('linear', { x: dt, weight: wide }, {}, g.view(delta, head * width, width));
    g.op('linear', { x: part, weight: slice(dtRank, dState) }, {}, g.view(B, head * dState, dState));
    g.op('linear', { x: part, weight: slice(dtRank + dState, dState) }, {}, g.view(C, head * dState, dState));
  }
  const A = {
    stored: [nHeads, width, dState],
    matrix: false,
    transform: negativeExp,
    init: realInit(dInner, dState),
  };
  const perChannel = { stored: [nHeads, width], matrix: false };
  const y = g.op(
    'selectiveScan',
    {
      u: h,
      delta,
      A: w.tensor('A_log', [dInner, dState], A),
      B: g.reshape(B, nHeads, dState),
      C: g.reshape(C, nHeads, dState),
      D: w.tensor('D', [dInner], { ...perChannel, init: 'ones' }),
      z,
      deltaBias: w.tensor('dt_proj_bias', [dInner], { ...perChannel, init: dtBiasInit(dInner) }),
      state: g.state([dInner, dState]),
    },
    { deltaSoftplus: true },
  );
  return linear(g, y, w, 'out_proj', d, { bias: o.bias, residual });
}

/**
 * The layer whose copy of the shared block a hybrid layer uses: its own where the file has one, or where embeddings are
 * not tied and transformers unties the block with them; else the first of those that share it.
 */
export function sharedBy(model: Weights, name: string, layer: number, first: number, tied: boolean): Weights {
  const own = model.scope('layers', layer, name);
  const shared = model.scope('layers', first, name);
  const key = 'input_layernorm.weight';
  if (own.stored(key)) return own;
  return shared.stored(key) || tied ? shared.sharedWith(own) : own;
}

/** The shared block (x beside the embeddings) and the layer's own projection of what it gives. */
function sharedBlock(g: Graph, x: Value, e: Value, shared: Weights, layer: Weights, c: ZambaConfig): Value {
  const { eps, dFf, activation } = c;
  let h = rmsNorm(g, concat(g, [x, e]), shared, 'input_layernorm', { eps }); // (tokens, 2 d_model)
  h = attention(g, h, shared.scope('self_attn'), c.attention); // no residual, here nor below
  h = rmsNorm(g, h, shared, 'pre_ff_layernorm', { eps });
  return linear(g, gatedMlp(g, h, shared.scope('feed_forward'), { dFf, activation }), layer, 'linear', c.dModel);
}

function build(g: Graph, w: Weights, c: ZambaConfig): Value {
  const model = w.scope('model');
  const table = model.tensor('embed_tokens.weight', [c.vocabSize, c.dModel]);
  const e = embedding(g, table); // (tokens, d_model)
  const first = c.kinds.indexOf('hybrid');
  let x = e;
  for (const [i, kind] of c.kinds.entries()) {
    const layer = model.scope('layers', i);
    const hybrid = kind === 'hybrid';
    const shared = () => sharedBlock(g, x, e, sharedBy(model, 'shared_transf', i, first, c.tied), layer, c);
    const input: Value = hybrid ? g.op('add', { a: x, b: shared() }) : x; // what is added does not join the residual
    const scope = hybrid ? layer.scope('mamba_decoder') : layer;
    const h = rmsNorm(g, input, scope, 'input_layernorm', { eps: c.eps });
    x = mixer(g, h, scope.scope('mamba'), c.mixer, x);
  }
  return logits(g, rmsNorm(g, x, model, 'final_layernorm', { eps: c.eps }), w, table, c.tied);
}

/** Zamba (Zyphra 2024): Mamba layers with heads, some of which first add one attention block that all of them share. */
export const zamba: ModelDefinition<ZambaConfig> = {
  modelTypes: ['zamba'],
  config: readConfig,
  build,
  vocabSize: (c) => c.vocabSize,
};
