import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { type AttentionLayerOptions, attention } from '../layers/attention.js';
import { type Activation, embedding } from '../layers/linear.js';
import { gatedMlp } from '../layers/mlp.js';
import { rmsNorm } from '../layers/norms.js';
import { readActivation } from './activation.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';
import { logits } from './ends.js';
import { readHeads } from './heads-config.js';
import { readRope } from './rope-config.js';

export type AttentionKind = 'full_attention' | 'sliding_attention';

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
  /** What attention of one layer has otherwise: a window, another rotation. */
  attentionOf?(layer: number): Partial<AttentionLayerOptions>;
  /** Of each layer, where there are several. */
  kinds?: readonly AttentionKind[];
  /**
   * Where RMSNorms stand: before attention and feed-forward (default), behind them and before neither (OLMo 2), or both
   * (Gemma).
   */
  norms?: 'before' | 'behind' | 'both';
  /** Norms multiply by 1 + w. */
  unitOffset?: boolean;
  /** The rows of gate and up in one tensor of this name. */
  fusedMlp?: string;
  embeddingScale?: number;
  softcap?: number;
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
  const heads = readHeads(c, dModel, { nHeads: 32, nHeadsKv: standard.nHeadsKv });
  const bias = c.boolean('attention_bias', false);
  c.only('rope_interleaved', false);
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
      ...heads,
      window: readWindow(c, standard.window),
      qkvBias: bias,
      outBias: bias,
      rope: readRope(c, heads.headDim, { theta: standard.theta }),
    },
  };
}

/** Mistral's sliding window, null where there is none; Llama has no such key. */
function readWindow(c: ConfigReader, standard?: number): number | undefined {
  if (c.modelType === 'llama') return undefined;
  if (!('sliding_window' in c.raw)) return standard;
  return c.has('sliding_window') ? c.size('sliding_window') : undefined;
}

type FeedForward = (g: Graph, h: Value, layer: Weights, c: LlamaConfig, residual?: Value) => Value;

export const dense: FeedForward = (g, h, layer, c, residual) =>
  gatedMlp(g, h, layer.scope('mlp'), {
    dFf: c.dFf,
    activation: c.activation,
    bias: c.mlpBias,
    fused: c.fusedMlp,
    residual,
  });

/** The decoder that Llama and its descendants share; they differ by their feed-forward and where their norms stand. */
export function buildDecoder(g: Graph, w: Weights, c: LlamaConfig, feedForward: FeedForward): Value {
  const model = w.scope('model');
  const norm = (x: Value, scope: Weights, name: string) =>
    rmsNorm(g, x, scope, name, { eps: c.eps, unitOffset: c.unitOffset });
  const added = (x: Value, y: Value, layer: Weights, name: string) => g.op('add', { a: x, b: norm(y, layer, name) });
  const both = c.norms === 'both';
  const table = model.tensor('embed_tokens.weight', [c.vocabSize, c.dModel]);
  let x = embedding(g, table, c.embeddingScale); // (tokens, d_model)
  for (let i = 0; i < c.nLayers; i++) {
    const layer = model.scope('layers', i);
    const options = { ...c.attention, ...c.attentionOf?.(i) };
    const attend = (h: Value, residual?: Value) => attention(g, h, layer.scope('self_attn'), { ...options, residual });
    if (c.norms === 'behind' || both) {
      const h = both ? norm(x, layer, 'input_layernorm') : x;
      x = added(x, attend(h), layer, 'post_attention_layernorm');
      const f = both ? norm(x, layer, 'pre_feedforward_layernorm') : x;
      x = added(x, feedForward(g, f, layer, c), layer, 'post_feedforward_layernorm');
      continue;
    }
    x = attend(norm(x, layer, 'input_layernorm'), x);
    x = feedForward(g, norm(x, layer, 'post_attention_layernorm'), layer, c, x);
  }
  return logits(g, norm(x, model, 'norm'), w, table, c.tied, { softcap: c.softcap });
}

/** Llama (Touvron et al. 2023) and Mistral (Jiang et al. 2023) in the layout of Hugging Face transformers. */
export const llama: ModelDefinition<LlamaConfig> = {
  modelTypes: ['llama', 'mistral'],
  config: readLlamaConfig,
  build: (g, w, c) => buildDecoder(g, w, c, dense),
  vocabSize: (c) => c.vocabSize,
};
