import { show } from '../errors.js';
import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { type KdaOptions, kda } from '../layers/kda.js';
import { concat, embedding, linear, scaled } from '../layers/linear.js';
import { type MlaOptions, mla } from '../layers/mla.js';
import { gatedMlp } from '../layers/mlp.js';
import { type MoeOptions, moe } from '../layers/moe.js';
import { layerNorm, rmsNorm } from '../layers/norms.js';
import { cacheRows, type Indexer, sparseAttend } from '../layers/sparse-attention.js';
import { onlySilu } from './activation.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';
import { logits } from './ends.js';
import { readNoaux } from './kimi-linear.js';
import { readLayerTypes } from './layer-types.js';

type Kind = 'linear_attention' | 'indexed_attention';

interface GlmConfig {
  vocabSize: number;
  dModel: number;
  dFf: number;
  eps: number;
  tied: boolean;
  limit: number;
  kinds: Kind[];
  feedForwards: ('dense' | 'sparse')[];
  /** A layer of its own choice of keys, or the last one's. */
  indexers: ('full' | 'shared')[];
  kda: KdaOptions;
  mla: MlaOptions;
  index: { heads: number; dim: number; pool: number; top: number };
  moe: MoeOptions;
  dShared: number;
  streams: { count: number; eps: number; iterations: number };
}

/** How older files say which layers choose keys: a letter each, or every so many layers from one on. */
function readSchedule(c: ConfigReader, nLayers: number): GlmConfig['indexers'] {
  const every = Math.max(1, c.integer('index_topk_freq', 1));
  const first = c.integer('index_skip_topk_offset', 2) - 1;
  const pattern = c.any('index_topk_pattern');
  if (pattern === undefined)
    return Array.from({ length: nLayers }, (_, i) => (Math.max(i - first, 0) % every === 0 ? 'full' : 'shared'));
  const letters: readonly unknown[] =
    typeof pattern === 'string' ? [...pattern] : Array.isArray(pattern) ? pattern : [];
  const words = letters.map((l) => (l === 'F' ? 'full' : l === 'S' ? 'shared' : l));
  if (words.length !== nLayers || !words.every((w) => w === 'full' || w === 'shared'))
    throw c.error(`index_topk_pattern: expected F or S for each of ${nLayers} layers, received ${show(pattern)}`);
  return words as GlmConfig['indexers'];
}

/** Sizes of linear attention: keys of their own, which an object of the first files overrules, as in transformers. */
function readLinear(c: ConfigReader, eps: number): KdaOptions {
  const old = c.nested('linear_attn_config');
  old?.ignore('kda_layers', 'full_attn_layers'); // layer_types says it
  const size = (key: string, inner: string, standard: number) => {
    const own = c.size(key, standard);
    return old ? old.size(inner, own) : own;
  };
  let lowerBound =
    'linear_lower_bound' in c.raw && !c.has('linear_lower_bound') ? undefined : c.number('linear_lower_bound', -5);
  if (old?.has('gate_lower_bound')) lowerBound = old.number('gate_lower_bound');
  else if (old && 'gate_lower_bound' in old.raw) lowerBound = undefined;
  if (old?.boolean('safe_gate', true)) lowerBound ??= -5;
  const kda = {
    nHeads: size('linear_num_heads', 'num_heads', 64),
    headDim: size('linear_head_dim', 'head_dim', 128),
    dConv: size('linear_conv_kernel_dim', 'short_conv_kernel_size', 4),
    eps,
    lowerBound,
  };
  old?.done();
  return kda;
}

function readIndexers(c: ConfigReader, kinds: Kind[]): GlmConfig['indexers'] {
  const scheduled = readSchedule(c, kinds.length);
  const types = readLayerTypes(c, ['indexer_types'], kinds.length, ['full', 'shared'], (i) => scheduled[i]!);
  let known = false;
  for (const [i, kind] of kinds.entries()) {
    if (kind === 'linear_attention') known = false;
    else if (types[i] === 'full') known = true;
    else if (!known)
      throw c.error(
        `indexer_types: layer ${i} is shared, but no layer right before it has an indexer; must follow one`,
      );
  }
  return types;
}

function readConfig(c: ConfigReader): GlmConfig {
  const dModel = c.size('hidden_size', 4096);
  const nLayers = c.size('num_hidden_layers', 45);
  const eps = c.number('rms_norm_eps', 1e-5);
  onlySilu(c);
  const raw = c.raw.layer_types;
  const renamed = Array.isArray(raw) && raw.includes('full_attention');
  const listed = readLayerTypes<Kind | 'full_attention'>(
    c,
    ['layer_types'],
    nLayers,
    renamed ? ['linear_attention', 'indexed_attention', 'full_attention'] : ['linear_attention', 'indexed_attention'],
    (i) => (i % 4 === 3 ? 'indexed_attention' : 'linear_attention'),
  );
  const kinds = listed.map((kind): Kind => (kind === 'full_attention' ? 'indexed_attention' : kind));
  const names = {
    experts: c.either('n_routed_experts', 'num_local_experts'),
    topK: 'num_experts_per_tok',
    groups: 'n_group',
    renormalize: 'norm_topk_prob',
  };
  const limit = c.positive('swiglu_limit', 10);
  const routed = readNoaux(c, names, { experts: 288, topK: 8, dFf: 2048, scale: 2.5 });
  const pool = c.size('index_kpool', 16);
  const nHeads = c.size('num_attention_heads', 64);
  c.agrees('num_key_value_heads', nHeads);
  c.only('index_kpool_always_select_tail', true);
  c.only('qk_rope_head_dim', 0);
  c.ignore('head_dim', 'qk_head_dim', 'index_share_for_mtp_iteration', 'num_nextn_predict_layers');
  const topTokens = c.size('index_topk', 2048);
  if (topTokens < pool) throw c.error(`index_kpool ${pool} exceeds index_topk ${topTokens}`);
  return {
    vocabSize: c.size('vocab_size', 154880),
    dModel,
    dFf: c.size('intermediate_size', 12288),
    eps,
    tied: c.boolean('tie_word_embeddings', false),
    limit,
    kinds,
    feedForwards: readLayerTypes(c, ['mlp_layer_types'], nLayers, ['dense', 'sparse'], (i) =>
      i < 3 ? 'dense' : 'sparse',
    ),
    indexers: readIndexers(c, kinds),
    kda: readLinear(c, eps),
    mla: {
      nHeads,
      kvRank: c.size('kv_lora_rank', 512),
      qRank: c.size('q_lora_rank', 1536),
      nopeDim: c.size('qk_nope_head_dim', 256),
      ropeDim: 0,
      valueDim: c.size('v_head_dim', 256),
      eps,
      bias: c.boolean('attention_bias', false),
    },
    index: {
      heads: c.size('index_n_heads', 32),
      dim: c.size('index_head_dim', 128),
      pool,
      top: Math.floor(topTokens / pool),
    },
    moe: {
      ...routed,
      limit,
      names: { router: 'gate', experts: 'experts', gate: 'gate_proj', up: 'up_proj', down: 'down_proj' },
    },
    dShared: routed.dFf * c.size('n_shared_experts', 1),
    streams: {
      count: c.size('hc_mult', 4, 64), // what the op sinkhorn takes, as below
      eps: c.number('hc_eps', 1e-6),
      iterations: c.size('hc_sinkhorn_iters', 20, 10_000),
    },
  };
}

/** What stands around a part: the row that it reads, and the streams with what it gives. */
function connection(g: Graph, x: Value, w: Weights, name: string, c: GlmConfig) {
  const { count: n, eps, iterations } = c.streams;
  const d = c.dModel;
  const total = 2 * n + n * n; // [pre | post | mix]
  const unit = g.op('rmsNorm', { x }, { eps: c.eps });
  const f = g.op('linear', { x: unit, weight: w.tensor(`${name}_fn`, [total, n * d], { matrix: false }) });
  const part = (i: number) => (i < n ? 0 : i < 2 * n ? 1 : 2);
  const scale = w.tensor(`${name}_scale`, [total], {
    stored: [3],
    init: 'ones',
    transform: ([s]) => Float32Array.from({ length: total }, (_, i) => s![part(i)]!),
  });
  const shift = w.tensor(`${name}_base`, [total], { init: 'zeros' });
  const all = g.op('affine', { x: f, scale, shift });
  const [pre, post, mix] = g.split(all, [n, n, n * n]) as [Value, Value, Value];
  const open = (v: Value) => g.op('activate', { x: v }, { activation: 'sigmoid' });
  const ones = w.constant(() => new Float32Array(n).fill(1), [n]);
  const weights = g.op('affine', {
    x: open(pre),
    scale: ones,
    shift: w.constant(() => new Float32Array(n).fill(eps), [n]),
  });
  const streams = g.reshape(x, n, d);
  const balanced = g.op('sinkhorn', { x: g.reshape(mix, n, n) }, { iterations, eps });
  return {
    input: g.op('joinStreams', { x: streams, weights }),
    output: (out: Value) =>
      g.reshape(g.op('mixStreams', { x: streams, mix: balanced, out, gain: scaled(g, open(post), 2) }), n * d),
  };
}

/** How a layer chooses the pools of keys that its queries see. */
function indexer(g: Graph, h: Value, latent: Value, w: Weights, c: GlmConfig): Indexer {
  const { heads, dim, pool, top } = c.index;
  const q = g.reshape(linear(g, latent, w, 'wq_b', heads * dim), heads, dim);
  const key = layerNorm(g, linear(g, h, w, 'wk', dim), w, 'k_norm', { eps: 1e-6 });
  const gate = g.op('linear', { x: h, weight: w.tensor('index_kpool_compress_gate', [dim, c.dModel]) });
  return {
    q,
    weights: scaled(g, linear(g, h, w, 'weights_proj', heads), 1 / Math.sqrt(heads)),
    keys: cacheRows(g, concat(g, [key, gate])),
    blockSize: pool,
    topBlocks: top,
    scale: 1 / Math.sqrt(dim),
    ape: w.tensor('index_kpool_compress_ape', [pool, dim], { matrix: false }),
  };
}

function build(g: Graph, w: Weights, c: GlmConfig): Value {
  const model = w.scope('model');
  const { count: n } = c.streams;
  const table = model.tensor('embed_tokens.weight', [c.vocabSize, c.dModel]);
  const e = embedding(g, table);
  let x = concat(g, new Array<Value>(n).fill(e)); // (tokens, streams · d_model)
  let chosen: Indexer | undefined;
  for (const [i, kind] of c.kinds.entries()) {
    const layer = model.scope('layers', i);
    const attn = layer.scope('self_attn');
    let around = connection(g, x, layer, 'hc_attn', c);
    let h = rmsNorm(g, around.input, layer, 'input_layernorm', { eps: c.eps });
    if (kind === 'linear_attention') {
      x = around.output(kda(g, h, attn, c.kda));
    } else {
      const input = h;
      const attended = mla(g, h, attn, c.mla, (q, rows, latent) => {
        if (c.indexers[i] === 'full') chosen = indexer(g, input, latent!, attn.scope('indexer'), c);
        const pages = cacheRows(g, rows);
        g.layers.push('attention');
        return sparseAttend(g, q, pages, pages, { scale: 1 / Math.sqrt(c.mla.nopeDim), indexer: chosen });
      });
      x = around.output(attended);
    }
    around = connection(g, x, layer, 'hc_ffn', c);
    h = rmsNorm(g, around.input, layer, 'post_attention_layernorm', { eps: c.eps });
    const mlp = layer.scope('mlp');
    const { limit } = c;
    if (c.feedForwards[i] === 'dense') x = around.output(gatedMlp(g, h, mlp, { dFf: c.dFf, limit }));
    else {
      const shared = gatedMlp(g, h, mlp.scope('shared_experts'), { dFf: c.dShared, limit });
      x = around.output(g.op('add', { a: shared, b: moe(g, h, mlp, c.moe) }));
    }
  }
  let mean = g.view(x, 0, c.dModel);
  for (let s = 1; s < n; s++) mean = g.op('add', { a: mean, b: g.view(x, s * c.dModel, c.dModel) });
  return logits(g, rmsNorm(g, scaled(g, mean, 1 / n), model, 'norm', { eps: c.eps }), w, table, c.tied);
}

/** GLM-5.3's text model (Z.ai 2026): streams with hyper-connections, Kimi delta attention, latents of chosen pools. */
export const glm5Next: ModelDefinition<GlmConfig> = {
  modelTypes: ['glm5_next_text'],
  wrappers: { glm5_next: 'glm5_next_text' },
  config: readConfig,
  build,
  vocabSize: (c) => c.vocabSize,
};
