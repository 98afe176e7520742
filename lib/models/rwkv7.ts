import { show } from '../errors.js';
import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { embedding } from '../layers/linear.js';
import { layerNorm } from '../layers/norms.js';
import { rwkvChannelMix } from '../layers/rwkv.js';
import { type Rwkv7Options, rwkv7 as timeMix } from '../layers/rwkv7.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';
import { logits } from './ends.js';
import { buildRwkv, type RwkvConfig, readHeads, readOfficial } from './rwkv-stack.js';

interface Rwkv7Config extends RwkvConfig {
  mixer: Rwkv7Options;
}

function readConfig(c: ConfigReader): Rwkv7Config {
  const official = readOfficial(c, 7);
  // The constants D_DECAY_LORA, D_AAA_LORA, D_MV_LORA and D_GATE_LORA of the training code.
  const rank = (key: string) => (c.has(key) ? c.size(key) : undefined);
  const ranks = {
    decay: rank('d_decay_lora'),
    rate: rank('d_aaa_lora'),
    value: rank('d_mv_lora'),
    gate: rank('d_gate_lora'),
  };
  // A key that flash-linear-attention's configs have, in files that were made of its checkpoints.
  const roundedKeys = c.boolean('fuse_norm', false);
  return { ...official, mixer: { ...readHeads(c, official.dModel), roundedKeys, ranks } };
}

/** The layout of flash-linear-attention, whose config names sizes as transformers does. */
function readFla(c: ConfigReader): Rwkv7FlaConfig {
  const dModel = c.size('hidden_size', 2048);
  const headSize = c.size('head_dim', 64);
  if (dModel % headSize !== 0) throw c.error(`hidden_size ${dModel} is no multiple of head_dim ${headSize}`);
  const nLayers = c.size('num_hidden_layers', 24);
  const eps = c.number('norm_eps', 1e-5);
  const nHeads = dModel / headSize;
  c.agrees('num_heads', nHeads);
  c.oneOf('hidden_act', ['sqrelu', 'relu2'], 'sqrelu');
  const wide = c.any('value_dim');
  if (wide !== undefined && wide !== dModel) c.agrees('value_dim', new Array(nLayers).fill(dModel));
  const attention = c.any('attn');
  if (attention !== undefined)
    throw c.error(`attn: ${show(attention)} is not supported; layers of attention are not read`);
  c.ignore('attn_mode', 'fuse_cross_entropy', 'fuse_linear_cross_entropy', 'use_l2warp');
  const ratio = c.has('hidden_ratio') ? c.positive('hidden_ratio') : 4;
  const rank = (key: string) => (c.has(key) ? c.size(key) : undefined);
  return {
    fla: true,
    vocabSize: c.size('vocab_size', 32000),
    dModel,
    nLayers,
    eps,
    dFf: c.size('intermediate_size', Math.ceil(Math.floor(dModel * ratio) / 32) * 32),
    tied: c.boolean('tie_word_embeddings', false),
    normBias: c.boolean('norm_bias', true),
    normFirst: c.boolean('norm_first', true),
    mixer: {
      nHeads,
      headSize,
      eps: headSize * eps,
      layout: 'fla',
      roundedKeys: c.boolean('fuse_norm', true),
      ranks: {
        decay: rank('decay_low_rank_dim'),
        rate: rank('a_low_rank_dim'),
        value: rank('v_low_rank_dim'),
        gate: rank('gate_low_rank_dim'),
      },
    },
  };
}

interface Rwkv7FlaConfig {
  fla: true;
  vocabSize: number;
  dModel: number;
  dFf: number;
  nLayers: number;
  eps: number;
  tied: boolean;
  normBias: boolean;
  normFirst: boolean;
  mixer: Rwkv7Options;
}

function buildFla(g: Graph, w: Weights, c: Rwkv7FlaConfig): Value {
  const model = w.scope('model');
  const norm = (x: Value, scope: Weights, name: string) =>
    layerNorm(g, x, scope, name, { eps: c.eps, bias: c.normBias });
  const table = model.tensor('embeddings.weight', [c.vocabSize, c.dModel]);
  let x = embedding(g, table); // (tokens, d_model)
  let firstValues: Value | undefined;
  for (let i = 0; i < c.nLayers; i++) {
    const layer = model.scope('layers', i);
    if (i === 0 && c.normFirst) x = norm(x, layer, 'pre_norm');
    const mixed = timeMix(g, norm(x, layer, 'attn_norm'), layer.scope('attn'), {
      ...c.mixer,
      firstValues,
      residual: x,
    });
    firstValues ??= mixed.values;
    const h = norm(mixed.y, layer, 'ffn_norm');
    x = rwkvChannelMix(g, h, layer.scope('ffn'), { version: 7, dFf: c.dFf, residual: mixed.y });
  }
  return logits(g, norm(x, model, 'norm'), w, table, c.tied);
}

function buildOfficial(g: Graph, w: Weights, c: Rwkv7Config): Value {
  let firstValues: Value | undefined;
  return buildRwkv(g, w, c, (g, x, att, _, residual) => {
    const { y, values } = timeMix(g, x, att, { ...c.mixer, firstValues, residual });
    firstValues ??= values;
    return y;
  });
}

/** RWKV-7, Goose (Peng et al. 2025), in the names of its official checkpoints and in flash-linear-attention's. */
export const rwkv7: ModelDefinition<Rwkv7Config | Rwkv7FlaConfig> = {
  modelTypes: ['rwkv7'],
  config: (c) => ('hidden_size' in c.raw && !('n_embd' in c.raw) ? readFla(c) : readConfig(c)),
  build: (g, w, c) => ('fla' in c ? buildFla(g, w, c) : buildOfficial(g, w, c)),
  vocabSize: (c) => c.vocabSize,
};
