import { show } from '../errors.js';
import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { type KdaOptions, kda } from '../layers/kda.js';
import { embedding } from '../layers/linear.js';
import { type MlaOptions, mla } from '../layers/mla.js';
import { gatedMlp } from '../layers/mlp.js';
import { type MoeOptions, moe } from '../layers/moe.js';
import { rmsNorm } from '../layers/norms.js';
import { onlySilu } from './activation.js';
import { type ConfigReader, MOST_ROUTED, MOST_ROUTING_GROUPS } from './config.js';
import type { ModelDefinition } from './definition.js';
import { logits } from './ends.js';
import { readLayerTypes } from './layer-types.js';

interface KimiConfig {
  vocabSize: number;
  dModel: number;
  dFf: number;
  eps: number;
  tied: boolean;
  kinds: ('linear_attention' | 'full_attention')[];
  feedForwards: ('dense' | 'sparse')[];
  kda: KdaOptions;
  mla: MlaOptions;
  moe: MoeOptions;
  dShared: number;
}

/** Keys of the router that DeepSeek-V3 and its descendants share, by the names that this family knows them under. */
export function readNoaux(
  c: ConfigReader,
  names: { experts: string; topK: string; groups: string; renormalize: string },
  standard: { experts: number; topK: number; dFf: number; scale: number },
): MoeOptions {
  const experts = c.size(names.experts, standard.experts, MOST_ROUTED);
  const topK = c.size(names.topK, standard.topK);
  const groups = c.size(names.groups, 1, MOST_ROUTING_GROUPS);
  const topkGroups = c.size('topk_group', 1);
  if (experts % groups !== 0) throw c.error(`${names.experts} ${experts} is no multiple of ${names.groups} ${groups}`);
  if (topkGroups > groups) throw c.error(`topk_group ${topkGroups} exceeds ${names.groups} ${groups}`);
  if (topK > (experts / groups) * topkGroups)
    throw c.error(`${names.topK} ${topK} exceeds the experts of topk_group ${topkGroups} groups`);
  return {
    experts,
    topK,
    dFf: c.size('moe_intermediate_size', standard.dFf),
    renormalize: c.boolean(names.renormalize, true),
    routing: {
      score: 'sigmoid',
      eps: 1e-20,
      scale: c.positive('routed_scaling_factor', standard.scale),
      groups,
      topkGroups,
      bias: 'gate.e_score_correction_bias',
    },
    names: { router: 'gate', experts: 'experts', gate: 'w1', up: 'w3', down: 'w2' },
  };
}

/** linear_attn_config of the first release: sizes, and layers numbered from 1. */
function readOld(c: ConfigReader, nLayers: number) {
  const old = c.nestedOrEmpty('linear_attn_config');
  const list = (key: string): number[] | undefined => {
    const layers = old.any(key);
    if (layers === undefined) return undefined;
    if (!Array.isArray(layers) || !layers.every((l) => Number.isInteger(l) && l >= 1 && l <= nLayers))
      throw c.error(`linear_attn_config.${key}: expected layer numbers from 1 to ${nLayers}, received ${show(layers)}`);
    return layers;
  };
  const full = list('full_attn_layers');
  list('kda_layers');
  const sizes = {
    headDim: old.size('head_dim', 128),
    nHeads: old.size('num_heads', 32),
    dConv: old.size('short_conv_kernel_size', 4),
  };
  old.done();
  return { full, ...sizes };
}

function readConfig(c: ConfigReader): KimiConfig {
  const dModel = c.size('hidden_size', 2304);
  const nLayers = c.size('num_hidden_layers', 27);
  const eps = c.number('rms_norm_eps', 1e-5);
  onlySilu(c);
  const old = readOld(c, nLayers);
  const firstSparse = c.count('first_k_dense_replace', 1);
  const frequency = c.size('moe_layer_freq', 1);
  const names = {
    experts: c.either('num_experts', 'num_local_experts', 'n_routed_experts'),
    topK: c.either('num_experts_per_token', 'num_experts_per_tok'),
    groups: c.either('num_expert_group', 'n_group'),
    renormalize: c.either('moe_renormalize', 'norm_topk_prob'),
  };
  const moe = readNoaux(c, names, { experts: 256, topK: 8, dFf: 1024, scale: 2.446 });
  c.oneOf('moe_router_activation_func', ['sigmoid'], 'sigmoid');
  c.oneOf('topk_method', ['noaux_tc'], 'noaux_tc');
  c.only('mla_use_nope', true);
  c.only('num_nextn_predict_layers', 0);
  c.only('rope_scaling', null);
  c.ignore('use_grouped_topk', 'head_dim', 'qk_head_dim', 'model_max_length', 'rope_theta', 'rope_parameters');
  const nHeads = c.size('num_attention_heads', 32);
  c.agrees('num_key_value_heads', nHeads);
  return {
    vocabSize: c.size('vocab_size', 163840),
    dModel,
    dFf: c.size('intermediate_size', 9216),
    eps,
    tied: c.boolean('tie_word_embeddings', false),
    kinds: readLayerTypes(c, ['layer_types'], nLayers, ['linear_attention', 'full_attention'], (i) =>
      (old.full ? old.full.includes(i + 1) : i > 0 && i % 4 === 0) ? 'full_attention' : 'linear_attention',
    ),
    feedForwards: readLayerTypes(c, ['mlp_layer_types'], nLayers, ['dense', 'sparse'], (i) =>
      i >= firstSparse && i % frequency === 0 ? 'sparse' : 'dense',
    ),
    kda: {
      nHeads: c.size('linear_num_heads', old.nHeads),
      headDim: c.size('linear_head_dim', old.headDim),
      dConv: c.size('linear_conv_kernel_dim', old.dConv),
      eps,
    },
    mla: {
      nHeads,
      kvRank: c.size('kv_lora_rank', 512),
      qRank: c.has('q_lora_rank') ? c.size('q_lora_rank') : undefined,
      nopeDim: c.size('qk_nope_head_dim', 128),
      ropeDim: c.count('qk_rope_head_dim', 64),
      valueDim: c.size('v_head_dim', 128),
      eps: 1e-6, // not rms_norm_eps
      bias: c.boolean('attention_bias', false),
    },
    moe,
    dShared: moe.dFf * c.size(c.either('num_shared_experts', 'n_shared_experts'), 1),
  };
}

function build(g: Graph, w: Weights, c: KimiConfig): Value {
  const model = w.scope('model');
  const table = model.tensor('embed_tokens.weight', [c.vocabSize, c.dModel]);
  let x = embedding(g, table); // (tokens, d_model)
  for (const [i, kind] of c.kinds.entries()) {
    const layer = model.scope('layers', i);
    const attn = layer.scope('self_attn');
    let h = rmsNorm(g, x, layer, 'input_layernorm', { eps: c.eps });
    x =
      kind === 'full_attention'
        ? mla(g, h, attn, { ...c.mla, residual: x })
        : kda(g, h, attn, { ...c.kda, residual: x });
    h = rmsNorm(g, x, layer, 'post_attention_layernorm', { eps: c.eps });
    if (c.feedForwards[i] === 'dense') {
      x = gatedMlp(g, h, layer.scope('mlp'), { dFf: c.dFf, residual: x });
      continue;
    }
    const block = layer.scope('block_sparse_moe');
    x = gatedMlp(g, h, block.scope('shared_experts'), { dFf: c.dShared, residual: x });
    x = g.op('add', { a: x, b: moe(g, h, block, c.moe) });
  }
  return logits(g, rmsNorm(g, x, model, 'norm', { eps: c.eps }), w, table, c.tied);
}

/** Kimi Linear (Moonshot 2025): Kimi delta attention, every fourth layer latent attention without positions, experts. */
export const kimiLinear: ModelDefinition<KimiConfig> = {
  modelTypes: ['kimi_linear'],
  config: readConfig,
  build,
  key(name, _, has) {
    if (has(name)) return name;
    // transformers writes dense feed-forwards under the name of the routed ones.
    const other = name.replace('.mlp.', '.block_sparse_moe.');
    return has(other) ? other : name;
  },
  vocabSize: (c) => c.vocabSize,
};
