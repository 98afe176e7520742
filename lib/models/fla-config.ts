import { show } from '../errors.js';
import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { embedding } from '../layers/linear.js';
import { gatedMlp } from '../layers/mlp.js';
import { rmsNorm } from '../layers/norms.js';
import { onlySilu } from './activation.js';
import type { ConfigReader } from './config.js';
import { logits } from './ends.js';

/** What the models of flash-linear-attention share around their mixers. */
export interface FlaConfig {
  vocabSize: number;
  dModel: number;
  dFf: number;
  nLayers: number;
  eps: number;
  tied: boolean;
}

/** Choices between kernels of one function, and of training. */
const KERNELS = ['attn_mode', 'fuse_norm', 'fuse_swiglu', 'fuse_cross_entropy', 'fuse_linear_cross_entropy'];

export function readFla(c: ConfigReader, standard: { nLayers: number; eps: number }): FlaConfig {
  const dModel = c.size('hidden_size', 2048);
  const ratio = c.has('hidden_ratio') ? c.positive('hidden_ratio') : 4;
  const derived = Math.ceil(Math.floor((dModel * ratio * 2) / 3) / 256) * 256;
  onlySilu(c);
  c.ignore(...KERNELS, 'use_l2warp');
  const attention = c.any('attn');
  if (attention !== undefined)
    throw c.error(`attn: ${show(attention)} is not supported; layers of softmax attention are not read`);
  c.only('attnres_block_size', null);
  // Older files call it rms_norm_eps, or both.
  const eps = c.number('norm_eps', c.number('rms_norm_eps', standard.eps));
  return {
    vocabSize: c.size('vocab_size', 32000),
    dModel,
    dFf: c.size('intermediate_size', derived),
    nLayers: c.size('num_hidden_layers', standard.nLayers),
    eps,
    tied: c.boolean('tie_word_embeddings', false),
  };
}

export type FlaMixer = (g: Graph, h: Value, attn: Weights, residual: Value) => Value;

/** Embedding, blocks of a mixer and a SwiGLU, norm and head. */
export function buildFla(g: Graph, w: Weights, c: FlaConfig, mixer: FlaMixer): Value {
  const model = w.scope('model');
  const table = model.tensor('embeddings.weight', [c.vocabSize, c.dModel]);
  let x = embedding(g, table); // (tokens, d_model)
  for (let i = 0; i < c.nLayers; i++) {
    const layer = model.scope('layers', i);
    x = mixer(g, rmsNorm(g, x, layer, 'attn_norm', { eps: c.eps }), layer.scope('attn'), x);
    const h = rmsNorm(g, x, layer, 'mlp_norm', { eps: c.eps });
    x = gatedMlp(g, h, layer.scope('mlp'), { dFf: c.dFf, residual: x });
  }
  return logits(g, rmsNorm(g, x, model, 'norm', { eps: c.eps }), w, table, c.tied);
}
