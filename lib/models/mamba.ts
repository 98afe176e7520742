import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { embedding } from '../layers/linear.js';
import { type MambaOptions, mamba as mambaMixer } from '../layers/mamba.js';
import { rmsNorm } from '../layers/norms.js';
import { onlySilu } from './activation.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';
import { logits } from './ends.js';

interface MambaConfig {
  vocabSize: number;
  dModel: number;
  nLayers: number;
  eps: number;
  tied: boolean;
  mixer: MambaOptions;
}

/** What flash-linear-attention writes, which registers a config of its own under transformers' name. */
const OF_FLA = ['norm_eps', 'use_l2warp', 'fuse_norm', 'fuse_cross_entropy', 'fuse_linear_cross_entropy'];

/** What both have of a mixer. */
function readMixer(c: ConfigReader, dModel: number, dInner: number) {
  const rank = c.any('time_step_rank');
  return {
    dInner,
    dState: c.size('state_size', 16),
    dConv: c.size('conv_kernel', 4),
    dtRank: rank === undefined || rank === 'auto' ? Math.ceil(dModel / 16) : c.size('time_step_rank'),
    bias: c.boolean('use_bias', false),
  };
}

/** flash-linear-attention 0.5.2: the same network under other names and defaults; its convolution always has a bias. */
function readFlaConfig(c: ConfigReader): MambaConfig {
  const dModel = c.size('hidden_size', 2048);
  const dInner = c.multiple('expand', dModel, 2);
  c.agrees('intermediate_size', dInner);
  onlySilu(c);
  c.ignore(...OF_FLA, 'use_conv_bias');
  return {
    vocabSize: c.size('vocab_size', 32000),
    dModel,
    nLayers: c.size('num_hidden_layers', 48),
    eps: c.number('norm_eps', 1e-5),
    tied: c.boolean('tie_word_embeddings', false),
    mixer: {
      ...readMixer(c, dModel, dInner),
      convBias: true,
    },
  };
}

function readConfig(c: ConfigReader): MambaConfig {
  const isFla = c.modelType === 'mamba' && OF_FLA.some((key) => c.any(key) !== undefined);
  return isFla ? readFlaConfig(c) : readTransformersConfig(c);
}

function readTransformersConfig(c: ConfigReader): MambaConfig {
  const dModel = c.size(c.either('hidden_size', 'd_model'), 768);
  const dInner = c.size('intermediate_size', c.multiple('expand', dModel, 2));
  onlySilu(c);
  // The first conversions carried the original's keys along.
  c.only('rms_norm', true);
  c.ignore('ssm_cfg', 'pad_vocab_size_multiple', 'use_falcon_mambapy');
  if (c.has('d_inner') && c.integer('d_inner') !== dInner)
    throw c.error(`d_inner contradicts intermediate_size ${dInner}`);
  const nLayers = c.size(c.either('num_hidden_layers', 'n_layer'), 32);
  return {
    vocabSize: c.size('vocab_size', 50280),
    dModel,
    nLayers,
    eps: c.number('layer_norm_epsilon', 1e-5),
    tied: c.boolean('tie_word_embeddings', true),
    mixer: {
      ...readMixer(c, dModel, dInner),
      convBias: c.boolean('use_conv_bias', true),
      innerNorms: c.modelType === 'falcon_mamba' ? { eps: c.number('mixer_rms_eps', 1e-6) } : undefined,
    },
  };
}

function build(g: Graph, w: Weights, c: MambaConfig): Value {
  const backbone = w.scope('backbone');
  const table = backbone.tensor('embeddings.weight', [c.vocabSize, c.dModel]);
  let x = embedding(g, table); // (tokens, d_model)
  for (let i = 0; i < c.nLayers; i++) {
    const layer = backbone.scope('layers', i);
    const h = rmsNorm(g, x, layer, 'norm', { eps: c.eps });
    x = mambaMixer(g, h, layer.scope('mixer'), { ...c.mixer, residual: x });
  }
  x = rmsNorm(g, x, backbone, 'norm_f', { eps: c.eps });
  return logits(g, x, w, table, c.tied);
}

/** transformers takes the original package's name of the embedding as well. */
export function embeddingKey(name: string, has: (name: string) => boolean): string {
  const original = name.replace(/^backbone\.embeddings\./, 'backbone.embedding.');
  return has(original) && !has(name) ? original : name;
}

/**
 * Mamba (Gu & Dao 2023) in the layout of Hugging Face transformers, and of flash-linear-attention under the same
 * model_type; FalconMamba adds weightless norms in the mixer.
 */
export const mamba: ModelDefinition<MambaConfig> = {
  modelTypes: ['mamba', 'falcon_mamba'],
  config: readConfig,
  build,
  key: (name, _, has) => embeddingKey(name, has),
  vocabSize: (c) => c.vocabSize,
};
