import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { frequenciesIn } from '../layers/attention.js';
import { concat, embedding, linear, scaled } from '../layers/linear.js';
import type { MoeOptions } from '../layers/moe.js';
import { type Lookup, lookedUp } from '../layers/ngram-lookup.js';
import { headRmsNorm } from '../layers/norms.js';
import { gatedAttention, gatedDeltaNet, type QwenAttention, type QwenDelta } from '../layers/qwen-mixers.js';
import { cacheRows, type Indexer, sparseAttend } from '../layers/sparse-attention.js';
import { onlySilu } from './activation.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';
import { logits } from './ends.js';
import { readHeads } from './heads-config.js';
import { readLayerTypes } from './layer-types.js';
import { readLookups } from './ngram-config.js';
import { qwenMoe, readDelta, readQwenMoe } from './qwen3-next.js';
import { readRope } from './rope-config.js';

type Kind = 'linear_attention' | 'indexed_attention';

interface Qwen4Config {
  vocabSize: number;
  dModel: number;
  eps: number;
  tied: boolean;
  kinds: Kind[];
  attention: QwenAttention;
  index: { heads: number; dim: number; block: number; top: number };
  delta: QwenDelta;
  moe: MoeOptions;
  dShared: number;
  /** Layers that add rows of a table for the n-grams that end in a token. */
  lookups: Map<number, Lookup>;
  streams: number;
  rank: number;
}

/** An index head is turned as the attention's are, on as many channels. */
function readIndex(c: ConfigReader, rotaryDim: number): Qwen4Config['index'] {
  c.agrees('indexer_kv_heads', 1);
  const block = c.size('indexer_compress_ratio');
  const budget = c.size('indexer_budget');
  if (budget % block !== 0)
    throw c.error(`indexer_budget: expected a multiple of indexer_compress_ratio ${block}, received ${budget}`);
  const dim = c.size('indexer_head_dim');
  if (rotaryDim > dim)
    throw c.error(
      `indexer_head_dim ${dim} is less than the ${rotaryDim} channels that the attention turns; ` +
        `rope_parameters.partial_rotary_factor gives fewer`,
    );
  return { heads: c.size('indexer_n_heads'), dim, block, top: budget / block };
}

function readConfig(c: ConfigReader): Qwen4Config {
  const dModel = c.size('hidden_size', 2048);
  const nLayers = c.size('num_hidden_layers', 40);
  const eps = c.number('rms_norm_eps', 1e-6);
  const heads = readHeads(c, dModel, { nHeads: 16, nHeadsKv: 2, headDim: 256 });
  onlySilu(c);
  c.ignore('number_of_conv_states');
  const interval = c.size('full_attention_interval', 4);
  const listed = readLayerTypes<Kind | 'full_attention'>(
    c,
    ['layer_types'],
    nLayers,
    ['linear_attention', 'indexed_attention', 'full_attention'],
    (i) => ((i + 1) % interval === 0 ? 'indexed_attention' : 'linear_attention'),
  );
  const kinds = listed.map((kind): Kind => (kind === 'full_attention' ? 'indexed_attention' : kind));
  const rope = readRope(c, heads.headDim, { partial: 1 }); // of all channels where no share is given, unlike Qwen3.5
  const gate = c.has('output_gate_type') ? c.oneOf('output_gate_type', ['sigmoid', 'silu', 'swish'], 'silu') : 'silu';
  const vocabSize = c.size('vocab_size', 248320);
  return {
    vocabSize,
    dModel,
    eps,
    tied: c.boolean('tie_word_embeddings', false),
    kinds,
    attention: { ...heads, bias: c.boolean('attention_bias', false), eps, rope },
    index: readIndex(c, rope.rotaryDim!),
    delta: { ...readDelta(c, eps), gate: gate === 'swish' ? 'silu' : gate },
    moe: readQwenMoe(c, { experts: 512, topK: 10 }, c.boolean('norm_topk_prob', true)),
    dShared: c.size('shared_expert_intermediate_size', 512),
    lookups: readLookups(c, nLayers, kinds, vocabSize),
    streams: c.size('hc_count', 4),
    rank: c.size('hc_lowrank', 320),
  };
}

/** The normed streams, and the row that a part reads: their mean, weighed channel by channel by a low-rank gate. */
function mixedInput(g: Graph, x: Value, w: Weights, c: Qwen4Config): { unit: Value; input: Value } {
  const { streams: n, dModel: d } = c;
  const weight = w.tensor('hc_norm.weight', [n * d], { init: 'zeros' });
  const unit = g.op('rmsNorm', { x, weight }, { eps: c.eps, unitOffset: true, groupSize: d });
  const down = scaled(g, linear(g, unit, w, 'input_mix_weight_down', c.rank), 1 / n);
  const inner = g.op('activate', { x: down }, { activation: 'silu' });
  const gate = linear(g, inner, w, 'input_mix_weight_up', n * d);
  const weighed = g.op('gate', { x: unit, gate }, { activation: 'sigmoid' });
  let sum = g.view(weighed, 0, d);
  for (let s = 1; s < n; s++) sum = g.op('add', { a: sum, b: g.view(weighed, s * d, d) });
  return { unit, input: scaled(g, sum, 1 / n) };
}

/** The streams after a part, each with its share of what the part makes of their mixed row. */
function connected(g: Graph, x: Value, w: Weights, c: Qwen4Config, part: (input: Value) => Value): Value {
  const { streams: n, dModel: d } = c;
  const { unit, input } = mixedInput(g, x, w, c);
  const share = scaled(g, linear(g, unit, w, 'block_inject_weight', n), 1 / n);
  const gain = scaled(g, g.op('activate', { x: share }, { activation: 'sigmoid' }), 2);
  return g.reshape(g.op('mixStreams', { x: g.reshape(x, n, d), out: part(input), gain }), n * d);
}

/** How a layer chooses the blocks of keys that its queries see. */
function indexer(g: Graph, h: Value, w: Weights, c: Qwen4Config): Indexer {
  const { heads, dim, block, top } = c.index;
  const rows = linear(g, h, w, 'index_qk_proj', (heads + 1) * dim); // [q of every head | k]
  const q = headRmsNorm(g, g.view(rows, 0, heads, dim), w, 'q_layernorm', { eps: c.eps, unitOffset: true });
  const turned = c.attention.rope!;
  const { invFreq, scale } = frequenciesIn(g, { ...turned, rotaryDim: turned.rotaryDim! });
  const freq = w.constant(() => invFreq, [invFreq.length]);
  return {
    // Yarn makes what it turns longer, here on either side; sparseAttention turns keys as they are.
    q: g.op('rope', { x: q, invFreq: freq }, { mscale: scale * scale }),
    keys: cacheRows(g, g.view(rows, heads * dim, dim)),
    blockSize: block,
    topBlocks: top,
    scale: 1 / Math.sqrt(dim),
    eps: c.eps,
    norm: w.tensor('k_layernorm.weight', [dim], { init: 'zeros' }),
    freq,
  };
}

function attention(g: Graph, h: Value, w: Weights, c: Qwen4Config): Value {
  const { nHeadsKv, headDim } = c.attention;
  return gatedAttention(g, h, w, c.attention, (q, k, v) => {
    const [kPages, vPages] = [g.cache(nHeadsKv, headDim), g.cache(nHeadsKv, headDim)];
    g.op('cacheAppend', { k, v, kPages, vPages });
    g.layers.push('attention');
    const chosen = indexer(g, h, w.scope('indexer'), c);
    return sparseAttend(g, q, kPages, vPages, { scale: 1 / Math.sqrt(headDim), indexer: chosen });
  });
}

function build(g: Graph, w: Weights, c: Qwen4Config): Value {
  const model = w.scope('model');
  const table = model.tensor('embed_tokens.weight', [c.vocabSize, c.dModel]);
  let x = concat(g, new Array<Value>(c.streams).fill(embedding(g, table))); // (tokens, streams · d_model)
  for (const [i, kind] of c.kinds.entries()) {
    const layer = model.scope('layers', i);
    const lookup = c.lookups.get(i);
    if (lookup) x = g.op('add', { a: x, b: lookedUp(g, x, layer.scope('ple'), lookup, c) });
    x = connected(g, x, layer.scope('attn_hyper_connection'), c, (h) =>
      kind === 'linear_attention'
        ? gatedDeltaNet(g, h, layer.scope('linear_attn'), c.delta)
        : attention(g, h, layer.scope('self_attn'), c),
    );
    x = connected(g, x, layer.scope('mlp_hyper_connection'), c, (h) =>
      qwenMoe(g, h, layer.scope('mlp'), c.moe, c.dShared),
    );
  }
  return logits(g, mixedInput(g, x, model.scope('hyper_connection_mixer'), c).input, w, table, c.tied);
}

/** Qwen4-Exp's text model (Qwen 2026): streams with hyper-connections, gated DeltaNet, attention to chosen blocks. */
export const qwen4Exp: ModelDefinition<Qwen4Config> = {
  modelTypes: ['qwen4_exp_text'],
  wrappers: { qwen4_exp: 'qwen4_exp_text' },
  config: readConfig,
  build,
  unread: [{ names: /(^|\.)mtp\./, what: 'the head that predicts further tokens (mtp)' }],
  vocabSize: (c) => c.vocabSize,
};
