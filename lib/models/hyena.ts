import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { type HyenaOptions, hyena as hyenaLayer } from '../layers/hyena.js';
import { embedding, head } from '../layers/linear.js';
import { mlp } from '../layers/mlp.js';
import { layerNorm } from '../layers/norms.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';

interface OperatorConfig {
  dModel: number;
  operator: HyenaOptions;
}

/** The arguments of safari's HyenaOperator and of its filter. */
function readOperator(c: ConfigReader): HyenaOptions {
  const order = c.size('order', 2);
  const embDim = c.size('emb_dim', 3);
  if (order < 2) throw c.error(`order: expected at least 2, received ${order}`);
  if (embDim < 3 || embDim % 2 === 0) throw c.error(`emb_dim: expected an odd number from 3 on, received ${embDim}`);
  c.only('filter_cls', 'hyena-filter');
  c.only('activation', 'id');
  c.only('num_heads', 1);
  c.only('inner_factor', 1);
  c.only('num_blocks', 1);
  c.only('outer_mixing', false);
  c.only('post_order_ffn', false);
  c.only('return_state', false);
  c.only('normalized', false);
  // Of training, of how the reference computes the same, or (local_order) read by nothing there.
  c.ignore('local_order', 'filter_dropout', 'lr', 'modulation_lr', 'wd', 'layer_idx', 'channels');
  c.ignore('fused_bias_fc', 'fused_fft_conv', 'use_flashfftconv', 'jit_filter');
  return {
    lMax: c.size('l_max', 1024),
    order,
    filterOrder: c.size('filter_order', 64),
    embDim,
    innerMlps: c.count('num_inner_mlps', 2),
    shortFilterOrder: c.size('short_filter_order', 3),
    modulate: c.boolean('modulate', true),
    shift: c.number('shift', 0),
    trainedPositions: c.number('lr_pos_emb', 1e-5) !== 0,
    filterBias: c.boolean('bias', true),
    initial: {
      w: c.number('w', 1),
      fastDecay: c.positive('fast_decay_pct', 0.3),
      slowDecay: c.positive('slow_decay_pct', 1.5),
      target: c.positive('target', 1e-2),
    },
  };
}

/** One sine serves a filter's layers; it is stored with each. */
const LATER_SINES = { names: /(^|\.)implicit_filter\.[1-9]\d*\.freq$/ };

/** One Hyena operator (Poli et al. 2023) over float rows: (tokens, d_model) to (tokens, d_model). */
export const hyenaOperator: ModelDefinition<OperatorConfig> = {
  modelTypes: ['hyena_operator'],
  config: (c) => ({ dModel: c.size('d_model'), operator: readOperator(c) }),
  build: (g, w, c) => hyenaLayer(g, g.input(c.dModel), w, c.operator),
  unread: [LATER_SINES, { names: /^u$/ }], // reference files hold the operator's input beside its weights
};

interface HyenaConfig extends OperatorConfig {
  vocabSize: number;
  paddedVocab: number;
  nLayers: number;
  dFf: number;
  eps: number;
  tied: boolean;
}

function readConfig(c: ConfigReader): HyenaConfig {
  const dModel = c.size(c.either('d_model', 'hidden_size'));
  const vocabSize = c.size('vocab_size');
  const pad = c.size('pad_vocab_size_multiple', 1);
  // safari nests the operator's arguments; a flat config has them beside the others.
  const layer = c.nested('layer');
  const operator = readOperator(layer ?? c);
  if (layer) {
    if (layer.has('d_model') && layer.integer('d_model') !== dModel)
      throw c.error(`layer.d_model contradicts d_model ${dModel}`);
    layer.done();
  }
  if (c.raw.max_position_embeddings) c.only('max_position_embeddings', 0);
  const attention = c.any('attn_layer_idx');
  if (attention !== undefined && !(Array.isArray(attention) && attention.length === 0))
    throw c.error('attn_layer_idx: attention layers are not supported in a Hyena model; expected none');
  c.ignore('attn_cfg', 'embed_dropout', 'resid_dropout', 'dropout_cls', 'initializer_cfg', 'fused_mlp');
  c.ignore('fused_dropout_add_ln', 'sequence_parallel', 'process_group', 'device');
  return {
    vocabSize,
    paddedVocab: Math.ceil(vocabSize / pad) * pad,
    dModel,
    nLayers: c.size(c.either('n_layer', 'n_layers', 'num_hidden_layers')),
    dFf: c.size(c.either('d_inner', 'intermediate_size'), 4 * dModel),
    eps: c.number(c.either('layer_norm_epsilon', 'layer_norm_eps'), 1e-5),
    tied: c.boolean(c.either('tie_word_embeddings', 'tie_embeddings'), true),
    operator,
  };
}

function build(g: Graph, w: Weights, c: HyenaConfig): Value {
  const backbone = w.scope('backbone');
  const table = backbone.tensor('embeddings.word_embeddings.weight', [c.paddedVocab, c.dModel]);
  let x = embedding(g, table); // (tokens, d_model)
  for (let i = 0; i < c.nLayers; i++) {
    const layer = backbone.scope('layers', i);
    let h = layerNorm(g, x, layer, 'norm1', { eps: c.eps });
    x = hyenaLayer(g, h, layer.scope('mixer'), { ...c.operator, residual: x });
    h = layerNorm(g, x, layer, 'norm2', { eps: c.eps });
    x = mlp(g, h, layer.scope('mlp'), { dFf: c.dFf, activation: 'gelu-tanh', residual: x });
  }
  x = layerNorm(g, x, backbone, 'ln_f', { eps: c.eps });
  return head(g, x, c.tied ? table : w.tensor('lm_head.weight', [c.paddedVocab, c.dModel]));
}

/** A language model of Hyena operators and feed-forwards in the layout of safari's ConvLMHeadModel. */
export const hyena: ModelDefinition<HyenaConfig> = {
  modelTypes: ['hyena'],
  config: readConfig,
  build,
  unread: [LATER_SINES],
  vocabSize: (c) => c.vocabSize,
};
