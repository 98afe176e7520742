import { show } from '../errors.js';
import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { type AttentionLayerOptions, attention } from '../layers/attention.js';
import { addScaled, embedding, scaled } from '../layers/linear.js';
import { type Mamba2Options, mamba2 } from '../layers/mamba2.js';
import { gatedMlp, type MlpOptions } from '../layers/mlp.js';
import { rmsNorm } from '../layers/norms.js';
import { onlySilu } from './activation.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';
import { logits } from './ends.js';
import { readHeads } from './heads-config.js';
import { readHybridMamba2 } from './mamba2-config.js';
import { readRope } from './rope-config.js';

interface FalconH1Config {
  vocabSize: number;
  dModel: number;
  nLayers: number;
  eps: number;
  tied: boolean;
  attention: AttentionLayerOptions;
  mamba: Mamba2Options;
  mlp: MlpOptions;
  multipliers: {
    embedding: number;
    head: number;
    attentionIn: number;
    attentionOut: number;
    ssmIn: number;
    ssmOut: number;
  };
}

/** A list of so many numbers, all 1 where it is not there. */
function readFactors(c: ConfigReader, key: string, count: number): number[] {
  const list = c.any(key) ?? new Array(count).fill(1);
  if (!Array.isArray(list) || list.length !== count || !list.every((x) => typeof x === 'number'))
    throw c.error(`${key}: expected ${count} numbers, received ${show(list)}`);
  return list;
}

function readConfig(c: ConfigReader): FalconH1Config {
  const dModel = c.size('hidden_size', 4096);
  const eps = c.number('rms_norm_eps', 1e-5);
  const heads = readHeads(c, dModel, { nHeads: 32, nHeadsKv: 8 });
  const bias = c.boolean('attention_bias', false);
  onlySilu(c);
  const factor = (key: string) => c.positive(key, 1);
  // null: the width of the expansion.
  const wide = 'mamba_d_ssm' in c.raw && !c.has('mamba_d_ssm');
  const mamba = readHybridMamba2(c, dModel, eps, wide ? undefined : c.size('mamba_d_ssm', 1024));
  const normBeforeGate = c.boolean('mamba_norm_before_gate', true);
  const rms = c.boolean('mamba_rms_norm', false);
  const groupSize = mamba.dInner / mamba.nGroups;
  c.only('mamba_use_mlp', true);
  c.ignore('mlp_expansion_factor', 'expansion_factor'); // what intermediate_size came from
  return {
    vocabSize: c.size('vocab_size', 128000),
    dModel,
    nLayers: c.size('num_hidden_layers', 32),
    eps,
    tied: c.boolean('tie_word_embeddings', false),
    attention: {
      ...heads,
      qkvBias: bias,
      outBias: bias,
      rope: readRope(c, heads.headDim),
      keyScale: factor('key_multiplier'),
    },
    mamba: {
      ...mamba,
      outBias: c.boolean('projectors_bias', false),
      norm: rms ? { eps, groupSize, normBeforeGate } : undefined,
      multipliers: readFactors(c, 'ssm_multipliers', 5),
    },
    mlp: {
      dFf: c.size('intermediate_size', 14336),
      bias: c.boolean('mlp_bias', false),
      multipliers: readFactors(c, 'mlp_multipliers', 2) as [number, number],
    },
    multipliers: {
      embedding: factor('embedding_multiplier'),
      head: factor('lm_head_multiplier'),
      attentionIn: factor('attention_in_multiplier'),
      attentionOut: factor('attention_out_multiplier'),
      ssmIn: factor('ssm_in_multiplier'),
      ssmOut: factor('ssm_out_multiplier'),
    },
  };
}

function build(g: Graph, w: Weights, c: FalconH1Config): Value {
  const m = c.multipliers;
  const model = w.scope('model');
  const table = model.tensor('embed_tokens.weight', [c.vocabSize, c.dModel]);
  let x = embedding(g, table, m.embedding); // (tokens, d_model)
  for (let i = 0; i < c.nLayers; i++) {
    const layer = model.scope('layers', i);
    let h = rmsNorm(g, x, layer, 'input_layernorm', { eps: c.eps });
    const scanned = mamba2(g, scaled(g, h, m.ssmIn), layer.scope('mamba'), c.mamba);
    const attended = attention(g, scaled(g, h, m.attentionIn), layer.scope('self_attn'), c.attention);
    x = addScaled(g, addScaled(g, x, scanned, m.ssmOut), attended, m.attentionOut);
    h = rmsNorm(g, x, layer, 'pre_ff_layernorm', { eps: c.eps });
    x = gatedMlp(g, h, layer.scope('feed_forward'), { ...c.mlp, residual: x });
  }
  x = rmsNorm(g, x, model, 'final_layernorm', { eps: c.eps });
  return logits(g, x, w, table, c.tied, { scale: m.head });
}

/** Falcon-H1 (TII 2025): attention and Mamba-2 side by side in every layer, with factors in place of tuned scales. */
export const falconH1: ModelDefinition<FalconH1Config> = {
  modelTypes: ['falcon_h1'],
  config: readConfig,
  build,
  vocabSize: (c) => c.vocabSize,
};
