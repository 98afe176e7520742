import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { embedding, linear } from '../layers/linear.js';
import { gatedMlp } from '../layers/mlp.js';
import { type MoeOptions, moe, weightedExpert } from '../layers/moe.js';
import { rmsNorm } from '../layers/norms.js';
import { gatedAttention, gatedDeltaNet, type QwenAttention, type QwenDelta } from '../layers/qwen-mixers.js';
import { onlySilu } from './activation.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';
import { logits } from './ends.js';
import { readHeads } from './heads-config.js';
import { readLayerNumbers, readLayerTypes } from './layer-types.js';
import { readRope } from './rope-config.js';

interface QwenConfig {
  vocabSize: number;
  dModel: number;
  dFf: number;
  eps: number;
  tied: boolean;
  kinds: ('linear_attention' | 'full_attention')[];
  attention: QwenAttention;
  delta: QwenDelta;
  isMoe(layer: number): boolean;
  moe: MoeOptions;
  dShared: number;
}

const EXPERTS = { router: 'gate', experts: 'experts', gate: 'gate_proj', up: 'up_proj', down: 'down_proj' };

/** Sizes that the released models of a family share. */
interface Standard {
  vocabSize: number;
  dModel: number;
  dFf: number;
  nLayers: number;
  nHeadsKv: number;
  experts: number;
  topK: number;
}

const STANDARD: Readonly<Record<string, Standard>> = {
  qwen3_next: { ...{ vocabSize: 151936, dModel: 2048, dFf: 5632, nLayers: 48 }, nHeadsKv: 2, experts: 512, topK: 10 },
  qwen3_5_text: { ...{ vocabSize: 248320, dModel: 4096, dFf: 12288, nLayers: 32 }, nHeadsKv: 4, experts: 0, topK: 0 },
  qwen3_5_moe_text: {
    ...{ vocabSize: 248320, dModel: 2048, dFf: 5632, nLayers: 40 },
    nHeadsKv: 2,
    experts: 256,
    topK: 8,
  },
};

/** linear_* keys: the heads of the delta rule. */
export function readDelta(c: ConfigReader, eps: number): QwenDelta {
  const nKeyHeads = c.size('linear_num_key_heads', 16);
  const nValueHeads = c.size('linear_num_value_heads', 32);
  if (nValueHeads % nKeyHeads !== 0)
    throw c.error(`linear_num_value_heads ${nValueHeads} is no multiple of linear_num_key_heads ${nKeyHeads}`);
  return {
    nKeyHeads,
    nValueHeads,
    keyDim: c.size('linear_key_head_dim', 128),
    valueDim: c.size('linear_value_head_dim', 128),
    dConv: c.size('linear_conv_kernel_dim', 4),
    eps,
    gate: 'silu',
    grouped: false,
  };
}

/** Which layers attend: the list, or every so many. */
export function readKinds(c: ConfigReader, nLayers: number): QwenConfig['kinds'] {
  const interval = c.size('full_attention_interval', 4);
  return readLayerTypes(c, ['layer_types'], nLayers, ['linear_attention', 'full_attention'], (i) =>
    (i + 1) % interval === 0 ? 'full_attention' : 'linear_attention',
  );
}

/** Routed experts and one that all tokens have, behind a gate of its own. */
export function readQwenMoe(
  c: ConfigReader,
  standard: { experts: number; topK: number },
  renormalize: boolean,
): MoeOptions {
  const experts = c.size('num_experts', standard.experts);
  const topK = c.size('num_experts_per_tok', standard.topK);
  if (topK > experts) throw c.error(`num_experts_per_tok ${topK} exceeds num_experts ${experts}`);
  return { experts, topK, dFf: c.size('moe_intermediate_size', 512), renormalize, names: EXPERTS };
}

function readConfig(c: ConfigReader): QwenConfig {
  const standard = STANDARD[c.modelType]!;
  const next = c.modelType === 'qwen3_next';
  const without = next && c.raw.num_experts === 0;
  const routed = c.modelType !== 'qwen3_5_text' && !without;
  const dModel = c.size('hidden_size', standard.dModel);
  const nLayers = c.size('num_hidden_layers', standard.nLayers);
  const eps = c.number('rms_norm_eps', 1e-6);
  const heads = readHeads(c, dModel, { nHeads: 16, nHeadsKv: standard.nHeadsKv, headDim: 256 });
  onlySilu(c);
  if (without)
    c.ignore(
      'num_experts',
      'num_experts_per_tok',
      'moe_intermediate_size',
      'shared_expert_intermediate_size',
      'norm_topk_prob',
    );
  const dense = next ? readLayerNumbers(c, 'mlp_only_layers', nLayers) : undefined;
  const step = next ? c.size('decoder_sparse_step', 1) : 1;
  if (!next) c.only('output_gate_type', null); // of a later family
  c.ignore('mtp_num_hidden_layers', 'mtp_use_dedicated_embeddings', 'mamba_ssm_dtype');
  c.only('attn_output_gate', true);
  c.only('use_sliding_window', false);
  if (!next) c.agrees('mlp_only_layers', []);
  if (c.modelType === 'qwen3_5_moe_text') c.only('norm_topk_prob', true); // the reference always does
  return {
    vocabSize: c.size('vocab_size', standard.vocabSize),
    dModel,
    dFf: c.size('intermediate_size', standard.dFf),
    eps,
    tied: c.boolean('tie_word_embeddings', false),
    kinds: readKinds(c, nLayers),
    attention: {
      ...heads,
      bias: c.boolean('attention_bias', false),
      eps,
      rope: readRope(c, heads.headDim, { partial: 0.25 }),
    },
    delta: { ...readDelta(c, eps), grouped: next },
    isMoe: (i) => routed && !dense?.has(i) && (i + 1) % step === 0,
    moe: routed
      ? readQwenMoe(c, standard, next ? c.boolean('norm_topk_prob', true) : true)
      : { experts: 1, topK: 1, dFf: 1, renormalize: false, names: EXPERTS },
    dShared: routed ? c.size('shared_expert_intermediate_size', 512) : 0,
  };
}

/** Routed experts, and the shared one times σ of its gate. */
export function qwenMoe(g: Graph, h: Value, w: Weights, o: MoeOptions, dShared: number): Value {
  const gate = linear(g, h, w, 'shared_expert_gate', 1, { activation: 'sigmoid' }); // (tokens, 1)
  const shared = weightedExpert(g, h, w.scope('shared_expert'), gate, dShared);
  return g.op('add', { a: shared, b: moe(g, h, w, o) });
}

function build(g: Graph, w: Weights, c: QwenConfig): Value {
  const model = w.scope('model');
  const table = model.tensor('embed_tokens.weight', [c.vocabSize, c.dModel]);
  const norm = { eps: c.eps, unitOffset: true };
  let x = embedding(g, table); // (tokens, d_model)
  for (const [i, kind] of c.kinds.entries()) {
    const layer = model.scope('layers', i);
    let h = rmsNorm(g, x, layer, 'input_layernorm', norm);
    x =
      kind === 'full_attention'
        ? gatedAttention(g, h, layer.scope('self_attn'), { ...c.attention, residual: x })
        : gatedDeltaNet(g, h, layer.scope('linear_attn'), { ...c.delta, residual: x });
    h = rmsNorm(g, x, layer, 'post_attention_layernorm', norm);
    const ff = layer.scope('mlp');
    x = c.isMoe(i)
      ? g.op('add', { a: x, b: qwenMoe(g, h, ff, c.moe, c.dShared) })
      : gatedMlp(g, h, ff, { dFf: c.dFf, residual: x });
  }
  return logits(g, rmsNorm(g, x, model, 'norm', norm), w, table, c.tied);
}

/** Qwen3-Next and the text models of Qwen3.5 (Qwen 2025): gated DeltaNet layers, every fourth one gated attention. */
export const qwen3Next: ModelDefinition<QwenConfig> = {
  modelTypes: ['qwen3_next', 'qwen3_5_text', 'qwen3_5_moe_text'],
  config: readConfig,
  build,
  wrappers: { qwen3_5: 'qwen3_5_text', qwen3_5_moe: 'qwen3_5_moe_text' },
  unread: [{ names: /(^|\.)mtp\./, what: 'the head that predicts further tokens (mtp)' }],
  vocabSize: (c) => c.vocabSize,
};
