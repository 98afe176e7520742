import { show } from '../errors.js';
import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { type AttentionLayerOptions, attention } from '../layers/attention.js';
import { normal } from '../layers/initial.js';
import { type Activation, embedding, linear } from '../layers/linear.js';
import { conv1d } from '../layers/mamba.js';
import { gatedMlp } from '../layers/mlp.js';
import { rmsNorm } from '../layers/norms.js';
import { activationOf } from './activation.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';
import { logits } from './ends.js';
import { roundToBf16 } from './gemma.js';
import { readHeads } from './heads-config.js';
import { readRope } from './rope-config.js';

interface RecurrentGemmaConfig {
  vocabSize: number;
  dModel: number;
  dFf: number;
  eps: number;
  tied: boolean;
  softcap: number;
  activation: Activation;
  kinds: ('recurrent' | 'attention')[];
  attention: AttentionLayerOptions;
  lru: { width: number; nHeads: number; dConv: number };
}

/** One block type a layer: the list, from its beginning again and again. */
function readKinds(c: ConfigReader, nLayers: number): RecurrentGemmaConfig['kinds'] {
  const list = c.any('block_types') ?? ['recurrent', 'recurrent', 'attention'];
  if (!Array.isArray(list) || list.length === 0)
    throw c.error(`block_types: expected a list of recurrent and attention, received ${show(list)}`);
  for (const kind of list)
    if (kind !== 'recurrent' && kind !== 'attention')
      throw c.error(`block_types: ${show(kind)} is not supported; supported: recurrent, attention`);
  return Array.from({ length: nLayers }, (_, i) => list[i % list.length]);
}

function readConfig(c: ConfigReader): RecurrentGemmaConfig {
  const dModel = c.size('hidden_size', 2560);
  const heads = readHeads(c, dModel, { nHeads: 10 });
  const width = c.size('lru_width', dModel);
  if (width % heads.nHeads !== 0)
    throw c.error(`lru_width ${width} is no multiple of num_attention_heads ${heads.nHeads}`);
  const dFf = c.size('intermediate_size', 7680);
  if (dFf % 2 !== 0) throw c.error(`intermediate_size ${dFf} is no multiple of 2`);
  c.only('embeddings_scale_by_sqrt_dim', true);
  c.ignore('w_init_variance_scale', 'final_w_init_variance_scale');
  return {
    vocabSize: c.size('vocab_size', 256000),
    dModel,
    dFf: dFf / 2,
    eps: c.number('rms_norm_eps', 1e-6),
    tied: c.boolean('tie_word_embeddings', true),
    softcap: c.positive('logits_soft_cap', 30),
    activation: activationOf(c, 'hidden_activation', 'gelu_pytorch_tanh'),
    kinds: readKinds(c, c.size('num_hidden_layers', 26)),
    attention: {
      ...heads,
      qkvBias: c.boolean('attention_bias', false),
      outBias: true,
      window: c.size('attention_window_size', 2048),
      rope: readRope(c, heads.headDim, { partial: 0.5 }),
    },
    lru: { width, nHeads: heads.nHeads, dConv: c.size('conv1d_width', 4) },
  };
}

/** The recurrent block of Griffin (De et al. 2024): linear_out(RG-LRU(conv(linear_x h)) · gelu(linear_y h)). */
function recurrent(g: Graph, h: Value, w: Weights, c: RecurrentGemmaConfig, residual: Value): Value {
  const { width, nHeads, dConv } = c.lru;
  const headDim = width / nHeads;
  const y = linear(g, h, w, 'linear_y', width, { bias: true });
  const x = linear(g, h, w, 'linear_x', width, { bias: true });
  const mixed = conv1d(g, x, w, { dConv, activation: 'none', name: 'conv_1d' });
  const lru = w.scope('rg_lru');
  const matrix = (name: string) =>
    lru.tensor(name, [nHeads, headDim, headDim], {
      matrix: false,
      init: normal(width * headDim, 1 / Math.sqrt(headDim)),
    });
  const bias = (name: string) => lru.tensor(name, [nHeads, headDim], { matrix: false, init: 'zeros' });
  const scanned = g.op('rgLru', {
    x: mixed,
    inputGateWeight: matrix('input_gate_weight'),
    inputGateBias: bias('input_gate_bias'),
    recurrentGateWeight: matrix('recurrent_gate_weight'),
    recurrentGateBias: bias('recurrent_gate_bias'),
    recurrentParam: lru.tensor('recurrent_param', [width], { init: decayInit(width) }),
    state: g.state([width]),
  });
  const gated = g.op('gate', { x: scanned, gate: y }, { activation: c.activation });
  return linear(g, gated, w, 'linear_out', c.dModel, { bias: true, residual });
}

/** softplus⁻¹ of what makes a² uniform in [0.81, 0.998]. */
const decayInit = (count: number) => ({
  values: (random: () => number) =>
    Float32Array.from({ length: count }, () => Math.log(Math.expm1(-Math.log(0.81 + 0.188 * random()) / 16))),
});

function build(g: Graph, w: Weights, c: RecurrentGemmaConfig): Value {
  const model = w.scope('model');
  const norm = { eps: c.eps, unitOffset: true };
  const table = model.tensor('embed_tokens.weight', [c.vocabSize, c.dModel]);
  // The reference holds this factor in bf16, whatever the type of the model.
  let x = embedding(g, table, roundToBf16(Math.sqrt(c.dModel))); // (tokens, d_model)
  for (const [i, kind] of c.kinds.entries()) {
    const layer = model.scope('layers', i);
    const block = layer.scope('temporal_block');
    let h = rmsNorm(g, x, layer, 'temporal_pre_norm', norm);
    x = kind === 'attention' ? attention(g, h, block, { ...c.attention, residual: x }) : recurrent(g, h, block, c, x);
    h = rmsNorm(g, x, layer, 'channel_pre_norm', norm);
    const { dFf, activation } = c;
    x = gatedMlp(g, h, layer.scope('mlp_block'), { dFf, activation, bias: true, residual: x });
  }
  return logits(g, rmsNorm(g, x, model, 'final_norm', norm), w, table, c.tied, { softcap: c.softcap });
}

/** RecurrentGemma (Botev et al. 2024): Griffin's gated linear recurrences, and attention with a window. */
export const recurrentGemma: ModelDefinition<RecurrentGemmaConfig> = {
  modelTypes: ['recurrent_gemma'],
  config: readConfig,
  build,
  vocabSize: (c) => c.vocabSize,
};
