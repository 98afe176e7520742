import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { type AttentionLayerOptions, attention } from '../layers/attention.js';
import { embedding } from '../layers/linear.js';
import { type MambaOptions, mamba } from '../layers/mamba.js';
import { gatedMlp } from '../layers/mlp.js';
import { moe } from '../layers/moe.js';
import { rmsNorm } from '../layers/norms.js';
import { onlySilu } from './activation.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';
import { logits } from './ends.js';

interface JambaConfig {
  vocabSize: number;
  dModel: number;
  dFf: number;
  nLayers: number;
  eps: number;
  tied: boolean;
  experts: number;
  topK: number;
  isAttention(layer: number): boolean;
  isMoe(layer: number): boolean;
  attention: AttentionLayerOptions;
  mamba: MambaOptions;
}

/** Layers i with i % period == offset. */
function readPattern(c: ConfigReader, name: string, period: number, offset: number): (layer: number) => boolean {
  const p = c.size(`${name}_layer_period`, period);
  const o = c.count(`${name}_layer_offset`, offset);
  if (o >= p) throw c.error(`${name}_layer_offset ${o} must lie below ${name}_layer_period ${p}`);
  return (layer) => layer % p === o;
}

const indices = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
/** transformers 5 writes other names for kinds of layers. */
const KINDS: Readonly<Record<string, string>> = { full_attention: 'attention', linear_attention: 'mamba' };

/** A list that transformers derives from periods and offsets: where it is written down, it must say the same. */
function checkList(c: ConfigReader, key: string, expected: readonly (string | number)[]): void {
  const list = c.any(key);
  if (list === undefined) return;
  const said = Array.isArray(list) ? list.map((x) => KINDS[x] ?? x) : list;
  if (JSON.stringify(said) !== JSON.stringify(expected))
    throw c.error(`${key} contradicts the periods and offsets, which make it ${JSON.stringify(expected)}`);
}

function readConfig(c: ConfigReader): JambaConfig {
  const dModel = c.size('hidden_size', 4096);
  const nHeads = c.size('num_attention_heads', 32);
  const nHeadsKv = c.size('num_key_value_heads', 8);
  if (!c.has('head_dim') && dModel % nHeads !== 0)
    throw c.error(`hidden_size ${dModel} is no multiple of num_attention_heads ${nHeads}`);
  if (nHeads % nHeadsKv !== 0)
    throw c.error(`num_attention_heads ${nHeads} is no multiple of num_key_value_heads ${nHeadsKv}`);
  const eps = c.number('rms_norm_eps', 1e-6);
  const experts = c.size('num_experts', 16);
  const topK = c.size('num_experts_per_tok', 2);
  // transformers writes its default of 2 beside a single expert, to which nothing is routed.
  if (experts > 1 && topK > experts) throw c.error(`num_experts_per_tok ${topK} exceeds num_experts ${experts}`);
  const expertLayer = readPattern(c, 'expert', 2, 1);
  const rank = c.any('mamba_dt_rank');
  onlySilu(c);
  c.only('sliding_window', null);
  c.only('mamba_inner_layernorms', true);
  const nLayers = c.size('num_hidden_layers', 32);
  const isAttention = readPattern(c, 'attn', 8, 4);
  const isMoe = (layer: number) => experts > 1 && expertLayer(layer);
  checkList(c, 'attn_layer_indices', indices(nLayers).filter(isAttention));
  for (const key of ['layers_block_type', 'layer_types'])
    checkList(
      c,
      key,
      indices(nLayers).map((i) => (isAttention(i) ? 'attention' : 'mamba')),
    );
  checkList(
    c,
    'layers_num_experts',
    indices(nLayers).map((i) => (expertLayer(i) ? experts : 1)),
  );
  return {
    vocabSize: c.size('vocab_size', 65536),
    dModel,
    dFf: c.size('intermediate_size', 14336),
    nLayers,
    eps,
    tied: c.boolean('tie_word_embeddings', false),
    experts,
    topK,
    isAttention,
    isMoe,
    attention: { nHeads, nHeadsKv, headDim: c.size('head_dim', Math.floor(dModel / nHeads)) },
    mamba: {
      dInner: c.multiple('mamba_expand', dModel, 2),
      dState: c.size('mamba_d_state', 16),
      dConv: c.size('mamba_d_conv', 4),
      dtRank: rank === undefined || rank === 'auto' ? Math.ceil(dModel / 16) : c.size('mamba_dt_rank'),
      bias: c.boolean('mamba_proj_bias', false),
      convBias: c.boolean('mamba_conv_bias', true),
      innerNorms: { eps, names: { dt: 'dt_layernorm', B: 'b_layernorm', C: 'c_layernorm' } },
    },
  };
}

const EXPERTS = { router: 'router', experts: 'experts', gate: 'gate_proj', up: 'up_proj', down: 'down_proj' };

function build(g: Graph, w: Weights, c: JambaConfig): Value {
  const model = w.scope('model');
  const table = model.tensor('embed_tokens.weight', [c.vocabSize, c.dModel]);
  let x = embedding(g, table); // (tokens, d_model)
  for (let i = 0; i < c.nLayers; i++) {
    const layer = model.scope('layers', i);
    let h = rmsNorm(g, x, layer, 'input_layernorm', { eps: c.eps });
    x = c.isAttention(i)
      ? attention(g, h, layer.scope('self_attn'), { ...c.attention, residual: x })
      : mamba(g, h, layer.scope('mamba'), { ...c.mamba, residual: x });
    h = rmsNorm(g, x, layer, 'pre_ff_layernorm', { eps: c.eps });
    const ff = layer.scope('feed_forward');
    if (c.isMoe(i)) {
      const { experts, topK, dFf } = c;
      x = g.op('add', { a: x, b: moe(g, h, ff, { experts, topK, dFf, renormalize: false, names: EXPERTS }) });
    } else {
      x = gatedMlp(g, h, ff, { dFf: c.dFf, residual: x });
    }
  }
  x = rmsNorm(g, x, model, 'final_layernorm', { eps: c.eps });
  return logits(g, x, w, table, c.tied);
}

/** Jamba (Lieber et al. 2024): Mamba and attention layers by period, dense and routed feed-forwards, no positions. */
export const jamba: ModelDefinition<JambaConfig> = {
  modelTypes: ['jamba'],
  config: readConfig,
  build,
  vocabSize: (c) => c.vocabSize,
};
