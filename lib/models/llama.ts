import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { type AttentionLayerOptions, attention } from '../layers/attention.js';
import { type Activation, embedding, head } from '../layers/linear.js';
import { gatedMlp } from '../layers/mlp.js';
import { rmsNorm } from '../layers/norms.js';
import { readActivation } from './activation.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';
import { readRope } from './rope-config.js';

export interface LlamaConfig {
  vocabSize: number;
  dModel: number;
  dFf: number;
  nLayers: number;
  eps: number;
  tied: boolean;
  mlpBias: boolean;
  activation: Activation;
  attention: AttentionLayerOptions;
}

/** What a family takes where its config says nothing. */
interface Defaults {
  dFf: number;
  nHeadsKv?: number;
  eps: number;
  theta: number;
  window?: number;
}

const DEFAULTS: Readonly<Record<string, Defaults>> = {
  llama: { dFf: 11008, eps: 1e-6, theta: 1e4 },
  mistral: { dFf: 14336, nHeadsKv: 8, eps: 1e-6, theta: 1e4, window: 4096 },
  mixtral: { dFf: 14336, nHeadsKv: 8, eps: 1e-5, theta: 1e6 },
};

/** The keys that Llama and its descendants share. */
export function readLlamaConfig(c: ConfigReader): LlamaConfig {
  const standard = DEFAULTS[c.modelType]!;
  const dModel = c.size('hidden_size', 4096);
  const nHeads = c.size('num_attention_heads', 32);
  // null says as many as there are heads.
  const nHeadsKv = c.size(
    'num_key_value_heads',
    'num_key_value_heads' in c.raw ? nHeads : (standard.nHeadsKv ?? nHeads),
  );
  if (!c.has('head_dim') && dModel % nHeads !== 0)
    throw c.error(`hidden_size ${dModel} is no multiple of num_attention_heads ${nHeads}`);
  if (nHeads % nHeadsKv !== 0)
    throw c.error(`num_attention_heads ${nHeads} is no multiple of num_key_value_heads ${nHeadsKv}`);
  const headDim = c.size('head_dim', Math.floor(dModel / nHeads));
  const bias = c.boolean('attention_bias', false);
  return {
    vocabSize: c.size('vocab_size', 32000),
    dModel,
    dFf: c.size('intermediate_size', standard.dFf),
    nLayers: c.size('num_hidden_layers', 32),
    eps: c.number('rms_norm_eps', standard.eps),
    tied: c.boolean('tie_word_embeddings', false),
    mlpBias: c.boolean('mlp_bias', false),
    activation: readActivation(c),
    attention: {
      nHeads,
      nHeadsKv,
      headDim,
      window: readWindow(c, standard.window),
      qkvBias: bias,
      outBias: bias,
      rope: readRope(c, headDim, { theta: standard.theta }),
    },
  };
}

/** Mistral's sliding window, null where there is none; Llama has no such key. */
function readWindow(c: ConfigReader, standard?: number): number | undefined {
  if (c.modelType === 'llama') return undefined;
  if (!('sliding_window' in c.raw)) return standard;
  return c.has('sliding_window') ? c.size('sliding_window') : undefined;
}

type FeedForward = (g: Graph, h: Value, layer: Weights, c: LlamaConfig, residual: Value) => Value;

const dense: FeedForward = (g, h, layer, c, residual) =>
  gatedMlp(g, h, layer.scope('mlp'), { dFf: c.dFf, activation: c.activation, bias: c.mlpBias, residual });

/** The decoder that Llama, Mistral and Mixtral share; they differ by their feed-forward. */
export function buildDecoder(g: Graph, w: Weights, c: LlamaConfig, feedForward: FeedForward): Value {
  const model = w.scope('model');
  const table = model.tensor('embed_tokens.weight', [c.vocabSize, c.dModel]);
  let x = embedding(g, table); // (tokens, d_model)
  for (let i = 0; i < c.nLayers; i++) {
    const layer = model.scope('layers', i);
    let h = rmsNorm(g, x, layer, 'input_layernorm', { eps: c.eps });
    x = attention(g, h, layer.scope('self_attn'), { ...c.attention, residual: x });
    h = rmsNorm(g, x, layer, 'post_attention_layernorm', { eps: c.eps });
    x = feedForward(g, h, layer, c, x);
  }
  x = rmsNorm(g, x, model, 'norm', { eps: c.eps });
  return head(g, x, c.tied ? table : w.tensor('lm_head.weight', [c.vocabSize, c.dModel]));
}

/** Llama (Touvron et al. 2023) and Mistral (Jiang et al. 2023) in the layout of Hugging Face transformers. */
export const llama: ModelDefinition<LlamaConfig> = {
  modelTypes: ['llama', 'mistral'],
  config: readLlamaConfig,
  build: (g, w, c) => buildDecoder(g, w, c, dense),
  vocabSize: (c) => c.vocabSize,
};
