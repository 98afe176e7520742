import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { type AttentionLayerOptions, attention } from '../layers/attention.js';
import { type DeltaNetOptions, deltaNet } from '../layers/delta-net.js';
import { embedding } from '../layers/linear.js';
import { gatedMlp } from '../layers/mlp.js';
import { rmsNorm } from '../layers/norms.js';
import { onlySilu } from './activation.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';
import { logits } from './ends.js';
import { readHeads } from './heads-config.js';
import { readLayerTypes } from './layer-types.js';
import { readRope, ropeGiven } from './rope-config.js';

interface OlmoHybridConfig {
  vocabSize: number;
  dModel: number;
  dFf: number;
  eps: number;
  tied: boolean;
  kinds: ('linear_attention' | 'full_attention')[];
  attention: AttentionLayerOptions;
  delta: DeltaNetOptions;
}

function readConfig(c: ConfigReader): OlmoHybridConfig {
  const dModel = c.size('hidden_size', 3840);
  const nLayers = c.size('num_hidden_layers', 32);
  const eps = c.number('rms_norm_eps', 1e-6);
  const heads = readHeads(c, dModel, { nHeads: 30 });
  onlySilu(c);
  const bias = c.boolean('attention_bias', false);
  const nKeyHeads = c.size('linear_num_key_heads', heads.nHeads);
  const nValueHeads = c.size('linear_num_value_heads', heads.nHeads);
  if (nValueHeads % nKeyHeads !== 0)
    throw c.error(`linear_num_value_heads ${nValueHeads} is no multiple of linear_num_key_heads ${nKeyHeads}`);
  const keyDim = c.size('linear_key_head_dim', Math.floor((0.75 * dModel) / nKeyHeads));
  // How the reference draws decays and steps.
  c.ignore('linear_a_log_min', 'linear_a_log_max', 'linear_dt_min', 'linear_dt_max', 'linear_dt_init_floor');
  // No positions where their base is null; where nothing names it, transformers has 10,000.
  const given = ropeGiven(c)?.raw;
  const { rope_theta: theta } = given && 'rope_theta' in given ? given : c.raw;
  const rope = readRope(c, heads.headDim);
  return {
    vocabSize: c.size('vocab_size', 100352),
    dModel,
    dFf: c.size('intermediate_size', 11008),
    eps,
    tied: c.boolean('tie_word_embeddings', false),
    kinds: readLayerTypes(c, ['layer_types'], nLayers, ['linear_attention', 'full_attention'], (i) =>
      i % 4 === 3 || (nLayers < 4 && i === nLayers - 1) ? 'full_attention' : 'linear_attention',
    ),
    attention: {
      ...heads,
      qkvBias: bias,
      outBias: bias,
      qkNorm: { eps, over: 'projection' },
      rope: theta === null ? undefined : rope,
    },
    delta: {
      nKeyHeads,
      nValueHeads,
      keyDim,
      valueDim: c.size('linear_value_head_dim', 2 * keyDim),
      dConv: c.size('linear_conv_kernel_dim', 4),
      betaFactor: c.boolean('linear_allow_neg_eigval', true) ? 2 : 1,
      eps: 1e-5, // the norm behind the rule has its own
    },
  };
}

function build(g: Graph, w: Weights, c: OlmoHybridConfig): Value {
  const model = w.scope('model');
  const table = model.tensor('embed_tokens.weight', [c.vocabSize, c.dModel]);
  const norm = (x: Value, layer: Weights, name: string) => rmsNorm(g, x, layer, name, { eps: c.eps });
  let x = embedding(g, table); // (tokens, d_model)
  for (const [i, kind] of c.kinds.entries()) {
    const layer = model.scope('layers', i);
    const mlp = layer.scope('mlp');
    if (kind === 'linear_attention') {
      x = deltaNet(g, norm(x, layer, 'attention_layer_norm'), layer.scope('linear_attn'), { ...c.delta, residual: x });
      x = gatedMlp(g, norm(x, layer, 'feedforward_layer_norm'), mlp, { dFf: c.dFf, residual: x });
      continue;
    }
    // Norms stand behind attention and feed-forward here, and before neither.
    const attended = attention(g, x, layer.scope('self_attn'), c.attention);
    x = g.op('add', { a: x, b: norm(attended, layer, 'post_attention_layernorm') });
    const fed = gatedMlp(g, x, mlp, { dFf: c.dFf });
    x = g.op('add', { a: x, b: norm(fed, layer, 'post_feedforward_layernorm') });
  }
  return logits(g, norm(x, model, 'norm'), w, table, c.tied);
}

/** Norms by the names of modules, where a file does not have those of the release. */
const OTHER: Readonly<Record<string, string>> = {
  attention_layer_norm: 'input_layernorm',
  feedforward_layer_norm: 'post_attention_layernorm',
  // transformers writes the norm behind attention under the name of another.
  post_attention_layernorm: 'feedforward_layer_norm',
};

/** OLMo hybrid (Ai2 2026): gated DeltaNet layers, every fourth one attention with norms behind its parts. */
export const olmoHybrid: ModelDefinition<OlmoHybridConfig> = {
  modelTypes: ['olmo_hybrid'],
  config: readConfig,
  build,
  key(name, _, has) {
    if (has(name)) return name;
    const other = name.replace(/\.(\w+)\.weight$/, (all, norm: string) =>
      OTHER[norm] ? `.${OTHER[norm]}.weight` : all,
    );
    return has(other) ? other : name;
  },
  vocabSize: (c) => c.vocabSize,
};
