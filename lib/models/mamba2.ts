import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { embedding } from '../layers/linear.js';
import { type Mamba2Options, mamba2 as mamba2Mixer } from '../layers/mamba2.js';
import { rmsNorm } from '../layers/norms.js';
import { onlySilu } from './activation.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';
import { logits } from './ends.js';
import { embeddingKey } from './mamba.js';

interface Mamba2Config {
  vocabSize: number;
  dModel: number;
  nLayers: number;
  eps: number;
  tied: boolean;
  mixer: Mamba2Options;
}

/** A pair [low, high] that clamps dt. */
export function readLimit(c: ConfigReader, key: string): [number, number] {
  const value = c.any(key) ?? [0, Number.POSITIVE_INFINITY];
  if (
    !Array.isArray(value) ||
    value.length !== 2 ||
    !value.every((v) => typeof v === 'number' && v >= 0) ||
    value[0] > value[1]
  ) {
    throw c.error(`${key}: expected [low, high] with 0 <= low <= high, received ${JSON.stringify(value)}`);
  }
  return value as [number, number];
}

/** What only flash-linear-attention writes, which registers another config under transformers' name. */
const OF_FLA = `norm_eps dt_limit rmsnorm dt_min dt_max dt_init_floor D_has_hdim A_init_range conv_init use_l2warp
  fuse_norm fuse_swiglu fuse_cross_entropy fuse_linear_cross_entropy`.split(/\s+/);

function readConfig(c: ConfigReader): Mamba2Config {
  return OF_FLA.some((key) => c.any(key) !== undefined) ? readFlaConfig(c) : readTransformersConfig(c);
}

/** flash-linear-attention 0.5.2: other names, defaults of its own, a norm of each group that may stand before the gate. */
function readFlaConfig(c: ConfigReader): Mamba2Config {
  const dModel = c.size('hidden_size', 2048);
  const headDim = c.size('head_dim', 64);
  const dInner = c.multiple('expand', dModel, 2);
  if (dInner % headDim !== 0) throw c.error(`expand · hidden_size ${dInner} is no multiple of head_dim ${headDim}`);
  const nHeads = c.size('num_heads', dInner / headDim);
  if (nHeads * headDim !== dInner)
    throw c.error(`num_heads ${nHeads} · head_dim ${headDim} must be expand · hidden_size = ${dInner}`);
  const nGroups = c.size('n_groups', 1);
  if (nHeads % nGroups !== 0) throw c.error(`num_heads ${nHeads} is no multiple of n_groups ${nGroups}`);
  onlySilu(c);
  c.ignore('dt_min', 'dt_max', 'dt_init_floor', 'A_init_range', 'conv_init', 'use_l2warp');
  c.ignore('fuse_norm', 'fuse_swiglu', 'fuse_cross_entropy', 'fuse_linear_cross_entropy');
  // Names of its older releases, which always norm, whatever rms_norm says.
  c.ignore('time_step_rank', 'rms_norm');
  const eps = c.number('norm_eps', 1e-5);
  const normBeforeGate = c.boolean('norm_before_gate', false);
  return {
    vocabSize: c.size('vocab_size', 32000),
    dModel,
    nLayers: c.size('num_hidden_layers', 48),
    eps,
    tied: c.boolean('tie_word_embeddings', false),
    mixer: {
      ...{ dInner, nHeads, headDim, nGroups },
      dState: c.size('state_size', 128),
      dConv: c.size('conv_kernel', 4),
      bias: c.boolean('use_bias', false),
      convBias: c.boolean('use_conv_bias', true),
      dtLimit: readLimit(c, c.any('dt_limit') === undefined ? 'time_step_limit' : 'dt_limit'),
      dPerChannel: c.boolean('D_has_hdim', false),
      norm: c.boolean('rmsnorm', true) ? { eps, groupSize: dInner / nGroups, normBeforeGate } : undefined,
    },
  };
}

function readTransformersConfig(c: ConfigReader): Mamba2Config {
  const dModel = c.size('hidden_size', 4096);
  const nHeads = c.size('num_heads', 128);
  const headDim = c.size('head_dim', 64);
  const dInner = c.multiple('expand', dModel, 2);
  const nGroups = c.size('n_groups', 8);
  if (nHeads * headDim !== dInner) {
    throw c.error(`num_heads ${nHeads} · head_dim ${headDim} must be expand · hidden_size = ${dInner}`);
  }
  if (nHeads % nGroups !== 0) throw c.error(`num_heads ${nHeads} is no multiple of n_groups ${nGroups}`);
  onlySilu(c);
  if (c.has('intermediate_size') && c.integer('intermediate_size') !== dInner)
    throw c.error(`intermediate_size contradicts expand · hidden_size = ${dInner}`);
  // transformers reads none of these: its norm stands behind the gate, always.
  c.ignore('time_step_rank', 'norm_before_gate', 'rms_norm');
  const eps = c.number('layer_norm_epsilon', 1e-5);
  // No key of transformers: a GGUF file means the original's norm, over each group by itself.
  const normGroups = c.size('norm_groups', 1);
  if (dInner % normGroups !== 0)
    throw c.error(`expand · hidden_size ${dInner} is no multiple of norm_groups ${normGroups}`);
  return {
    vocabSize: c.size('vocab_size', 32768),
    dModel,
    nLayers: c.size('num_hidden_layers', 64),
    eps,
    tied: c.boolean('tie_word_embeddings', false),
    mixer: {
      dInner,
      nHeads,
      headDim,
      dState: c.size('state_size', 128),
      nGroups,
      dConv: c.size('conv_kernel', 4),
      bias: c.boolean('use_bias', false),
      convBias: c.boolean('use_conv_bias', true),
      dtLimit: readLimit(c, 'time_step_limit'),
      norm: { eps, groupSize: dInner / normGroups },
    },
  };
}

function build(g: Graph, w: Weights, c: Mamba2Config): Value {
  const backbone = w.scope('backbone');
  const table = backbone.tensor('embeddings.weight', [c.vocabSize, c.dModel]);
  let x = embedding(g, table); // (tokens, d_model)
  for (let i = 0; i < c.nLayers; i++) {
    const layer = backbone.scope('layers', i);
    const h = rmsNorm(g, x, layer, 'norm', { eps: c.eps });
    x = mamba2Mixer(g, h, layer.scope('mixer'), { ...c.mixer, residual: x });
  }
  x = rmsNorm(g, x, backbone, 'norm_f', { eps: c.eps });
  return logits(g, x, w, table, c.tied);
}

/**
 * Mamba-2 (Dao & Gu 2024) in the layout of Hugging Face transformers, whose gated norm spans the whole width unless
 * norm_groups says otherwise, and of flash-linear-attention, which has the same model_type and norms each group.
 */
export const mamba2: ModelDefinition<Mamba2Config> = {
  modelTypes: ['mamba2'],
  config: readConfig,
  build,
  key: (name, _, has) => embeddingKey(name, has),
  vocabSize: (c) => c.vocabSize,
};
