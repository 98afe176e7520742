import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { type AttentionLayerOptions, attention } from '../layers/attention.js';
import { embedding } from '../layers/linear.js';
import { gatedMlp } from '../layers/mlp.js';
import { type MoeOptions, moe } from '../layers/moe.js';
import { rmsNorm } from '../layers/norms.js';
import { shortConv } from '../layers/short-conv.js';
import { type ConfigReader, MOST_ROUTED } from './config.js';
import type { ModelDefinition } from './definition.js';
import { logits } from './ends.js';
import { readHeads } from './heads-config.js';
import { readLayerNumbers, readLayerTypes } from './layer-types.js';
import { readRope } from './rope-config.js';

interface Lfm2Config {
  vocabSize: number;
  dModel: number;
  dFf: number;
  eps: number;
  tied: boolean;
  kinds: ('conv' | 'full_attention')[];
  attention: AttentionLayerOptions;
  conv: { dConv: number; bias: boolean };
  moe?: MoeOptions;
  /** The first layer with experts. */
  moeFrom: number;
}

/** The feed-forward's width: two thirds of the one that is written down, times a factor, rounded up to a multiple. */
function readWidth(c: ConfigReader): number {
  const own = c.size('intermediate_size', 12288);
  const written = c.size('block_ff_dim', own); // which counts in transformers where both are there
  const multiple = c.size('block_multiple_of', 256);
  const factor = c.positive('block_ffn_dim_multiplier', 1);
  if (!c.boolean('block_auto_adjust_ff_dim', true)) return written;
  const width = Math.ceil(Math.floor(factor * Math.floor((2 * written) / 3)) / multiple) * multiple;
  if (!(width > 0 && width < 2 ** 31)) throw c.error(`block_ffn_dim_multiplier: ${factor} makes a width of ${width}`);
  return width;
}

/** Keys of the first releases that say again what others say, or how weights were drawn; transformers reads none. */
function readOldKeys(c: ConfigReader): void {
  c.ignore('block_dim', 'conv_dim', 'conv_dim_out');
  for (const key of ['block_use_swiglu', 'use_pos_enc']) c.only(key, true);
  c.ignore('block_mlp_init_scale', 'block_out_init_scale', 'block_use_xavier_init', 'conv_use_xavier_init', 'theta');
  c.ignore('block_norm_eps', 'num_heads');
}

const EXPERTS = { router: 'gate', experts: 'experts', gate: 'w1', up: 'w3', down: 'w2' };

function readMoe(c: ConfigReader): MoeOptions {
  const experts = c.size('num_experts', 32, MOST_ROUTED);
  const topK = c.size('num_experts_per_tok', 4);
  if (topK > experts) throw c.error(`num_experts_per_tok ${topK} exceeds num_experts ${experts}`);
  const biased = c.boolean('use_expert_bias', true);
  return {
    experts,
    topK,
    dFf: c.size('moe_intermediate_size', 1792),
    renormalize: c.boolean('norm_topk_prob', true),
    routing: {
      score: 'sigmoid',
      eps: 1e-6,
      scale: c.positive('routed_scaling_factor', 1),
      bias: biased ? 'expert_bias' : undefined,
    },
    names: EXPERTS,
  };
}

function readConfig(c: ConfigReader): Lfm2Config {
  const routed = c.modelType === 'lfm2_moe';
  const dModel = c.size('hidden_size', routed ? 2048 : 2560);
  const nLayers = c.size('num_hidden_layers', 32);
  const eps = c.number('norm_eps', 1e-5);
  const heads = readHeads(c, dModel, { nHeads: 32, nHeadsKv: 8 });
  const attends = readLayerNumbers(c, 'full_attn_idxs', nLayers);
  readOldKeys(c);
  return {
    vocabSize: c.size('vocab_size', 65536),
    dModel,
    dFf: routed ? c.size('intermediate_size', 7168) : readWidth(c),
    eps,
    tied: c.boolean('tie_embedding', c.boolean('tie_word_embeddings', true)),
    kinds: readLayerTypes(c, ['layer_types'], nLayers, ['conv', 'full_attention'], (i) =>
      !attends || attends.has(i) ? 'full_attention' : 'conv',
    ),
    attention: {
      ...heads,
      names: { q: 'q_proj', k: 'k_proj', v: 'v_proj', out: 'out_proj' },
      qkNorm: { eps, over: 'head', names: { q: 'q_layernorm', k: 'k_layernorm' } },
      rope: readRope(c, heads.headDim, { theta: 1e6 }),
    },
    conv: { dConv: c.size('conv_L_cache', 3), bias: c.boolean('conv_bias', false) },
    moe: routed ? readMoe(c) : undefined,
    moeFrom: routed ? c.count('num_dense_layers', 2) : 0,
  };
}

function build(g: Graph, w: Weights, c: Lfm2Config): Value {
  const model = w.scope('model');
  const table = model.tensor('embed_tokens.weight', [c.vocabSize, c.dModel]);
  let x = embedding(g, table); // (tokens, d_model)
  for (const [i, kind] of c.kinds.entries()) {
    const layer = model.scope('layers', i);
    let h = rmsNorm(g, x, layer, 'operator_norm', { eps: c.eps });
    x =
      kind === 'conv'
        ? shortConv(g, h, layer.scope('conv'), { ...c.conv, residual: x })
        : attention(g, h, layer.scope('self_attn'), { ...c.attention, residual: x });
    h = rmsNorm(g, x, layer, 'ffn_norm', { eps: c.eps });
    const ff = layer.scope('feed_forward');
    x =
      c.moe && i >= c.moeFrom
        ? g.op('add', { a: x, b: moe(g, h, ff, c.moe) })
        : gatedMlp(g, h, ff, { dFf: c.dFf, names: { gate: 'w1', up: 'w3', down: 'w2' }, residual: x });
  }
  return logits(g, rmsNorm(g, x, model, 'embedding_norm', { eps: c.eps }), w, table, c.tied);
}

/** LFM2 and LFM2-MoE (Liquid AI 2025): gated short convolutions, and attention by a list. */
export const lfm2: ModelDefinition<Lfm2Config> = {
  modelTypes: ['lfm2', 'lfm2_moe'],
  config: readConfig,
  build,
  vocabSize: (c) => c.vocabSize,
};
