import { show } from '../errors.js';
import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { type AttentionLayerOptions, attention } from '../layers/attention.js';
import { addScaled, embedding } from '../layers/linear.js';
import { type Mamba2Options, mamba2 } from '../layers/mamba2.js';
import { gatedMlp } from '../layers/mlp.js';
import { moe } from '../layers/moe.js';
import { rmsNorm } from '../layers/norms.js';
import { onlySilu } from './activation.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';
import { logits } from './ends.js';
import { readHeads } from './heads-config.js';
import { readLayerTypes } from './layer-types.js';
import { readHybridMamba2 } from './mamba2-config.js';
import { readRope } from './rope-config.js';

interface GraniteConfig {
  vocabSize: number;
  dModel: number;
  eps: number;
  tied: boolean;
  kinds: ('linear_attention' | 'full_attention')[];
  attention: AttentionLayerOptions;
  mamba: Mamba2Options;
  /** 0: the shared feed-forward alone. */
  experts: number;
  topK: number;
  dExpert: number;
  dShared: number;
  embeddingMultiplier: number;
  residualMultiplier: number;
  logitsScaling: number;
}

function readConfig(c: ConfigReader): GraniteConfig {
  const dModel = c.size('hidden_size', 4096);
  const nLayers = c.size('num_hidden_layers', 32);
  const eps = c.number('rms_norm_eps', 1e-6);
  const heads = readHeads(c, dModel, { nHeads: 32 });
  const bias = c.boolean('attention_bias', false);
  onlySilu(c);
  const experts = c.count('num_local_experts', 8);
  const topK = c.count('num_experts_per_tok', 2);
  if (experts > 0 && (topK < 1 || topK > experts))
    throw c.error(`num_experts_per_tok ${topK} exceeds num_local_experts ${experts}, or is 0`);
  // A config holds rope_parameters even where no positions are used; those must make sense all the same.
  const positions = c.any('position_embedding_type');
  if (positions !== undefined && typeof positions !== 'string')
    throw c.error(`position_embedding_type: expected a text or null, received ${show(positions)}`);
  const rope = readRope(c, heads.headDim);
  c.only('normalization_function', 'rmsnorm');
  return {
    vocabSize: c.size('vocab_size', 32000),
    dModel,
    eps,
    tied: c.boolean('tie_word_embeddings', false),
    kinds: readLayerTypes(
      c,
      ['layer_types', 'layers_block_type'],
      nLayers,
      ['linear_attention', 'full_attention'],
      () => 'linear_attention',
    ),
    attention: {
      ...heads,
      qkvBias: bias,
      outBias: bias,
      scale: c.positive('attention_multiplier', 1),
      rope: positions === 'rope' ? rope : undefined,
    },
    mamba: readHybridMamba2(c, dModel, eps),
    experts,
    topK,
    dExpert: c.size('intermediate_size', 11008),
    dShared: c.size('shared_intermediate_size', 1024),
    embeddingMultiplier: c.positive('embedding_multiplier', 1),
    residualMultiplier: c.positive('residual_multiplier', 1),
    logitsScaling: c.positive('logits_scaling', 1),
  };
}

const ROUTED = {
  names: { router: 'router.layer', experts: '', gate: 'gate', up: 'up', down: 'down' },
  packed: { gateUp: 'input_linear.weight', down: 'output_linear.weight' },
};
const SHARED = { fused: 'input_linear', names: { gate: '', up: '', down: 'output_linear' } };

/** Routed experts, where there are any, and the feed-forward that every token has, on one input. */
function feedForward(g: Graph, h: Value, layer: Weights, c: GraniteConfig): Value {
  const shared = (residual?: Value) =>
    gatedMlp(g, h, layer.scope('shared_mlp'), { dFf: c.dShared, ...SHARED, residual });
  if (c.experts === 0) return shared();
  const { experts, topK, dExpert: dFf } = c;
  // The softmax of the chosen logits is that of all, divided by the sum of the chosen.
  return shared(moe(g, h, layer.scope('block_sparse_moe'), { experts, topK, dFf, renormalize: true, ...ROUTED }));
}

function build(g: Graph, w: Weights, c: GraniteConfig): Value {
  const model = w.scope('model');
  const table = model.tensor('embed_tokens.weight', [c.vocabSize, c.dModel]);
  let x = embedding(g, table, c.embeddingMultiplier); // (tokens, d_model)
  for (const [i, kind] of c.kinds.entries()) {
    const layer = model.scope('layers', i);
    let h = rmsNorm(g, x, layer, 'input_layernorm', { eps: c.eps });
    const mixed =
      kind === 'full_attention'
        ? attention(g, h, layer.scope('self_attn'), c.attention)
        : mamba2(g, h, layer.scope('mamba'), c.mamba);
    x = addScaled(g, x, mixed, c.residualMultiplier);
    h = rmsNorm(g, x, layer, 'post_attention_layernorm', { eps: c.eps });
    x = addScaled(g, x, feedForward(g, h, layer, c), c.residualMultiplier);
  }
  x = rmsNorm(g, x, model, 'norm', { eps: c.eps });
  return logits(g, x, w, table, c.tied, { scale: 1 / c.logitsScaling });
}

/** Granite 4 (IBM 2025): Mamba-2 and attention by a list, routed experts beside a shared feed-forward, or that alone. */
export const graniteMoeHybrid: ModelDefinition<GraniteConfig> = {
  modelTypes: ['granitemoehybrid'],
  config: readConfig,
  build,
  vocabSize: (c) => c.vocabSize,
};
