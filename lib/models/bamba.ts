import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { type AttentionLayerOptions, attention } from '../layers/attention.js';
import { embedding } from '../layers/linear.js';
import { type Mamba2Options, mamba2 } from '../layers/mamba2.js';
import { gatedMlp } from '../layers/mlp.js';
import { rmsNorm } from '../layers/norms.js';
import { onlySilu } from './activation.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';
import { logits } from './ends.js';
import { readHeads } from './heads-config.js';
import { readLayerNumbers } from './layer-types.js';
import { readHybridMamba2 } from './mamba2-config.js';
import { readRope } from './rope-config.js';

interface BambaConfig {
  vocabSize: number;
  dModel: number;
  dFf: number;
  nLayers: number;
  eps: number;
  tied: boolean;
  mlpBias: boolean;
  attentionLayers: ReadonlySet<number>;
  attention: AttentionLayerOptions;
  mamba: Mamba2Options;
}

function readConfig(c: ConfigReader): BambaConfig {
  const dModel = c.size('hidden_size', 4096);
  const nLayers = c.size('num_hidden_layers', 32);
  const eps = c.number('rms_norm_eps', 1e-5);
  const heads = readHeads(c, dModel, { nHeads: 32, nHeadsKv: 8 });
  const bias = c.boolean('attention_bias', false);
  onlySilu(c);
  // Of training; and of the original's code: transformers turns half of each head.
  c.ignore('z_loss_coefficient', 'attn_rotary_emb', 'mamba_dt_rank');
  // transformers overrules the partial_rotary_factor beside rope_parameters, and reads the one inside.
  const rope = readRope(c, heads.headDim, { partial: 0.5, ignoreOuterPartial: true });
  return {
    vocabSize: c.size('vocab_size', 128000),
    dModel,
    dFf: c.size('intermediate_size', 14336),
    nLayers,
    eps,
    tied: c.boolean('tie_word_embeddings', false),
    mlpBias: c.boolean('mlp_bias', false),
    attentionLayers: readLayerNumbers(c, 'attn_layer_indices', nLayers) ?? new Set(),
    attention: { ...heads, qkvBias: bias, outBias: bias, rope },
    mamba: readHybridMamba2(c, dModel, eps),
  };
}

function build(g: Graph, w: Weights, c: BambaConfig): Value {
  const model = w.scope('model');
  const table = model.tensor('embed_tokens.weight', [c.vocabSize, c.dModel]);
  let x = embedding(g, table); // (tokens, d_model)
  for (let i = 0; i < c.nLayers; i++) {
    const layer = model.scope('layers', i);
    let h = rmsNorm(g, x, layer, 'input_layernorm', { eps: c.eps });
    x = c.attentionLayers.has(i)
      ? attention(g, h, layer.scope('self_attn'), { ...c.attention, residual: x })
      : mamba2(g, h, layer.scope('mamba'), { ...c.mamba, residual: x });
    h = rmsNorm(g, x, layer, 'pre_ff_layernorm', { eps: c.eps });
    x = gatedMlp(g, h, layer.scope('feed_forward'), { dFf: c.dFf, bias: c.mlpBias, residual: x });
  }
  return logits(g, rmsNorm(g, x, model, 'final_layernorm', { eps: c.eps }), w, table, c.tied);
}

/** Bamba (IBM 2024): Mamba-2 and attention layers by a list, rotary positions on half of each head. */
export const bamba: ModelDefinition<BambaConfig> = {
  modelTypes: ['bamba'],
  config: readConfig,
  build,
  vocabSize: (c) => c.vocabSize,
};
