import { readActivation } from './activation.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';
import { readHeads } from './heads-config.js';
import { readLayerTypes } from './layer-types.js';
import { buildDecoder, dense, type LlamaConfig } from './llama.js';
import { readRope } from './rope-config.js';

/** The window of layers of kind sliding_attention; undefined where the config turns windows off. */
function readWindow(c: ConfigReader): number | undefined {
  const used = c.boolean('use_sliding_window', false);
  const window = c.has('sliding_window') || !('sliding_window' in c.raw) ? c.size('sliding_window', 4096) : undefined;
  return used ? window : undefined;
}

function readConfig(c: ConfigReader): LlamaConfig {
  const three = c.modelType === 'qwen3';
  const dModel = c.size('hidden_size', 4096);
  const nLayers = c.size('num_hidden_layers', 32);
  const eps = c.number('rms_norm_eps', 1e-6);
  const heads = readHeads(c, dModel, { nHeads: 32, nHeadsKv: 32, headDim: three ? 128 : undefined });
  const window = readWindow(c);
  c.only('use_mrope', false);
  const from = c.count('max_window_layers', 28);
  const kinds = readLayerTypes(c, ['layer_types'], nLayers, ['full_attention', 'sliding_attention'], (i) =>
    window !== undefined && i >= from ? 'sliding_attention' : 'full_attention',
  );
  if (window === undefined && kinds.includes('sliding_attention'))
    throw c.error('layer_types has sliding_attention, but use_sliding_window or sliding_window contradicts it');
  const bias = three ? c.boolean('attention_bias', false) : false;
  return {
    vocabSize: c.size('vocab_size', 151936),
    dModel,
    dFf: c.size('intermediate_size', 22016),
    nLayers,
    eps,
    tied: c.boolean('tie_word_embeddings', false),
    mlpBias: false,
    activation: readActivation(c),
    attention: {
      ...heads,
      qkvBias: !three || bias,
      outBias: bias,
      qkNorm: three ? { eps, over: 'head' } : undefined,
      rope: readRope(c, heads.headDim),
    },
    kinds,
    attentionOf: (i) => (kinds[i] === 'sliding_attention' ? { window } : {}),
  };
}

/** Qwen2, with biases on queries, keys and values, and Qwen3, with norms on queries and keys (Qwen 2024, 2025). */
export const qwen: ModelDefinition<LlamaConfig> = {
  modelTypes: ['qwen2', 'qwen3'],
  config: readConfig,
  build: (g, w, c) => buildDecoder(g, w, c, dense),
  vocabSize: (c) => c.vocabSize,
};
