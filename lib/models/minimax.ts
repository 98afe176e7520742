import { show } from '../errors.js';
import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { type AttentionLayerOptions, attention } from '../layers/attention.js';
import { embedding, linear, linearBy } from '../layers/linear.js';
import { type MoeOptions, moe } from '../layers/moe.js';
import { rmsNorm } from '../layers/norms.js';
import { onlySilu } from './activation.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';
import { logits } from './ends.js';
import { type Heads, readHeads } from './heads-config.js';
import { readLayerTypes } from './layer-types.js';
import { readRope } from './rope-config.js';

type Kind = 'linear_attention' | 'full_attention';

interface MiniMaxConfig {
  vocabSize: number;
  dModel: number;
  eps: number;
  tied: boolean;
  kinds: Kind[];
  attention: AttentionLayerOptions;
  heads: Heads;
  moe: MoeOptions;
  /** Factors of a part's normed input, which is also its residual, and of what it gives. */
  factors: Record<Kind | 'mlp', { alpha: number; beta: number }>;
}

/** layer_types, or attn_type_list of the first release, of which transformers takes no notice: 0 linear, 1 softmax. */
function readKinds(c: ConfigReader, nLayers: number): Kind[] {
  const list = c.has('layer_types') ? undefined : c.any('attn_type_list');
  c.ignore('attn_type_list');
  const isList = Array.isArray(list) && list.length === nLayers && list.every((kind) => kind === 0 || kind === 1);
  if (list !== undefined && !isList)
    throw c.error(`attn_type_list: expected 0 or 1 for each of ${nLayers} layers, received ${show(list)}`);
  return readLayerTypes(c, ['layer_types'], nLayers, ['linear_attention', 'full_attention'], (i) =>
    (list ? list[i] === 1 : i % 2 === 0) ? 'full_attention' : 'linear_attention',
  );
}

function readConfig(c: ConfigReader): MiniMaxConfig {
  const dModel = c.size('hidden_size', 4096);
  const nLayers = c.size('num_hidden_layers', 32);
  const heads = readHeads(c, dModel, { nHeads: 32, nHeadsKv: 8 });
  const experts = c.size('num_local_experts', 8);
  const topK = c.size('num_experts_per_tok', 2);
  if (topK > experts) throw c.error(`num_experts_per_tok ${topK} exceeds num_local_experts ${experts}`);
  onlySilu(c);
  c.only('sliding_window', null);
  c.only('attention_bias', false);
  // As first released: other words for the factors, and a residual that is the normed input only where the config says so.
  const isFirst = c.modelType !== 'minimax';
  c.only('postnorm', true);
  if (isFirst && !c.has('postnorm')) throw c.error('postnorm is missing, which says false there; expected true');
  c.only('shared_intermediate_size', 0);
  c.ignore('block_size', 'shared_moe_mode'); // of the chunks that the reference computes in; of no shared expert
  // transformers knows no rotary_dim; the model's own code, with which it was trained, rotates so many channels.
  const rotated = c.has('rotary_dim') && { partial: Math.min(1, c.size('rotary_dim') / heads.headDim) };
  const factor = (name: string, first: string) => {
    const read = (which: 'alpha' | 'beta') =>
      c.positive(
        isFirst ? c.either(`layernorm_${first}_${which}`, `${name}_${which}_factor`) : `${name}_${which}_factor`,
        1,
      );
    return { alpha: read('alpha'), beta: read('beta') };
  };
  return {
    vocabSize: c.size('vocab_size', 32000),
    dModel,
    eps: c.number('rms_norm_eps', 1e-5),
    tied: c.boolean('tie_word_embeddings', false),
    kinds: readKinds(c, nLayers),
    attention: { ...heads, rope: readRope(c, heads.headDim, { theta: 1e6, ...rotated }) },
    heads,
    moe: {
      experts,
      topK,
      dFf: c.size('intermediate_size', 14336),
      renormalize: true,
      names: { router: 'gate', experts: 'experts', gate: 'w1', up: 'w3', down: 'w2' },
    },
    factors: {
      linear_attention: factor('linear_attn', 'linear_attention'),
      full_attention: factor('full_attn', 'full_attention'),
      mlp: factor('mlp', 'mlp'),
    },
  };
}

/** Lightning attention: linear attention with one decay a head, faster in earlier layers; RMSNorm, and a gate of x. */
function lightning(g: Graph, x: Value, w: Weights, layer: number, c: MiniMaxConfig): Value {
  const { nHeads, headDim } = c.heads;
  const d = x.dims[1] as number;
  const width = nHeads * headDim;
  // qkv_proj holds q, k and v of one head after the other; here all q, all k, all v.
  const rows = [0, 1, 2].flatMap((part) =>
    Array.from({ length: nHeads }, (_, h): [number, number] => [(3 * h + part) * headDim, headDim]),
  );
  const qkv = linearBy(g, x, w.rows('qkv_proj.weight', [3 * width, d], rows), undefined, { activation: 'silu' });
  const [q, k, v] = [0, 1, 2].map((i) => g.view(qkv, i * width, nHeads, headDim)) as [Value, Value, Value];
  const slower = 1 - layer / (c.kinds.length - 1 + 1e-5) + 1e-5;
  const logDecay = w.constant(
    () => Float32Array.from({ length: nHeads }, (_, h) => -(2 ** ((-8 * (h + 1)) / nHeads)) * slower),
    [nHeads],
  );
  const state = g.state([nHeads, headDim, headDim]);
  const y = g.op('retention', { q, k, v, logDecay, state }, { scale: 1 });
  const normed = rmsNorm(g, g.reshape(y, width), w, 'norm', { eps: 1e-6 });
  const gate = linear(g, x, w, 'output_gate', width);
  return linear(g, g.op('gate', { x: normed, gate }, { activation: 'sigmoid' }), w, 'out_proj', d);
}

function build(g: Graph, w: Weights, c: MiniMaxConfig): Value {
  const model = w.scope('model');
  const table = model.tensor('embed_tokens.weight', [c.vocabSize, c.dModel]);
  let x = embedding(g, table); // (tokens, d_model)
  for (const [i, kind] of c.kinds.entries()) {
    const layer = model.scope('layers', i);
    const attn = layer.scope('self_attn');
    let h = rmsNorm(g, x, layer, 'input_layernorm', { eps: c.eps });
    const mixed = kind === 'full_attention' ? attention(g, h, attn, c.attention) : lightning(g, h, attn, i, c);
    x = g.op('add', { a: h, b: mixed }, c.factors[kind]); // what is added to is the normed input
    h = rmsNorm(g, x, layer, 'post_attention_layernorm', { eps: c.eps });
    x = g.op('add', { a: h, b: moe(g, h, layer.scope('block_sparse_moe'), c.moe) }, c.factors.mlp);
  }
  return logits(g, rmsNorm(g, x, model, 'norm', { eps: c.eps }), w, table, c.tied);
}

/**
 * MiniMax-01 (MiniMax 2025): lightning attention, softmax attention by a list, and experts in every layer. MiniMax-Text-01
 * and M1 as first released have other words in their configs and the same tensors.
 */
export const minimax: ModelDefinition<MiniMaxConfig> = {
  modelTypes: ['minimax', 'minimax_text_01', 'minimax_m1'],
  config: readConfig,
  build,
  unread: [{ names: /\.self_attn\.(slope_rate|query_decay|key_decay|diagonal_decay)$/ }], // follow from the config
  vocabSize: (c) => c.vocabSize,
};
