import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { type AttentionLayerOptions, attention } from '../layers/attention.js';
import { type Activation, concat, embedding, type LowRank, linear } from '../layers/linear.js';
import { type Mamba2Options, mamba2 } from '../layers/mamba2.js';
import { gatedMlp } from '../layers/mlp.js';
import { rmsNorm } from '../layers/norms.js';
import { activationOf } from './activation.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';
import { logits } from './ends.js';
import { readLayerTypes } from './layer-types.js';
import { readRope } from './rope-config.js';
import { readSharedAttention, sharedBy, ZAMBA_KINDS, type ZambaKind } from './zamba.js';

interface Zamba2Config {
  vocabSize: number;
  dModel: number;
  dFf: number;
  eps: number;
  tied: boolean;
  bias: boolean;
  kinds: ZambaKind[];
  activation: Activation;
  attention: AttentionLayerOptions;
  mamba: Mamba2Options;
  /** Shared blocks, which the hybrid layers take in turn. */
  blocks: number;
  adapterRank: number;
  adaptsAttention: boolean;
}

/** The layers of the 2.7B model: one hybrid after every five, but for the last ones. */
const standardKind = (i: number): ZambaKind =>
  (i < 43 && i % 6 === 0 && i > 0) || i === 47 || i === 51 ? 'hybrid' : 'linear_attention';

function readMamba(c: ConfigReader, dModel: number, bias: boolean): Mamba2Options {
  const dInner = c.multiple('mamba_expand', dModel, 2);
  const nHeads = c.size('n_mamba_heads', 8);
  const headDim = Math.floor(dInner / nHeads);
  const nGroups = c.size('mamba_ngroups', 1);
  if (nHeads * headDim !== dInner)
    throw c.error(`mamba_expand · hidden_size = ${dInner} is no multiple of n_mamba_heads ${nHeads}`);
  if (nHeads % nGroups !== 0) throw c.error(`n_mamba_heads ${nHeads} is no multiple of mamba_ngroups ${nGroups}`);
  c.agrees('mamba_headdim', headDim);
  c.ignore('use_conv_bias', 'use_mem_eff_path', 'time_step_limit'); // the reference reads none: there is always a bias
  return {
    dInner,
    nHeads,
    headDim,
    nGroups,
    dState: c.size('mamba_d_state', 64),
    dConv: c.size('mamba_d_conv', 4),
    bias,
    convBias: true,
    dtLimit: [c.number('time_step_min', 0.001), Number.POSITIVE_INFINITY],
    norm: { eps: 1e-5, groupSize: dInner / nGroups },
  };
}

function readConfig(c: ConfigReader): Zamba2Config {
  const dModel = c.size('hidden_size', 2560);
  const bias = c.boolean('add_bias_linear', false);
  const kinds = readLayerTypes(
    c,
    ['layers_block_type', 'layer_types'],
    c.size('num_hidden_layers', 54),
    ZAMBA_KINDS,
    standardKind,
  );
  const hybrids = kinds.flatMap((kind, i) => (kind === 'hybrid' ? [i] : []));
  c.agrees('hybrid_layer_ids', hybrids);
  const attention = readSharedAttention(c, dModel, 32);
  const rotates = c.boolean('use_mem_rope', false);
  const rope = rotates ? readRope(c, attention.headDim) : undefined;
  c.ignore('rope_theta', 'rope_scaling', 'rope_parameters', 'partial_rotary_factor');
  // transformers only warns that rope_theta must be the longer one's; sizes that follow from others.
  c.ignore('use_long_context', 'kv_channels', 'num_query_groups', 'conv_kernel', 'd_model', 'd_state', 'expand');
  const dFf = c.size('intermediate_size', 4 * dModel);
  c.agrees('ffn_hidden_size', dFf);
  c.only('use_shared_mlp_adapter', true); // the reference has no other
  return {
    vocabSize: c.size('vocab_size', 32000),
    dModel,
    dFf,
    eps: c.number('rms_norm_eps', 1e-5),
    tied: c.boolean('tie_word_embeddings', true),
    bias,
    kinds,
    activation: activationOf(c, 'hidden_act', 'gelu'),
    attention: { ...attention, rope },
    mamba: readMamba(c, dModel, bias),
    blocks: c.size('num_mem_blocks', 1),
    adapterRank: c.size('adapter_rank', 128),
    adaptsAttention: c.boolean('use_shared_attention_adapter', false),
  };
}

/** The shared block as hybrid layer number `use` has it: its own adapters on weights that others use too. */
function sharedBlock(g: Graph, both: Value, shared: Weights, use: number, c: Zamba2Config): Value {
  const { eps, activation, dFf, bias, adapterRank: rank } = c;
  const adapter = (list: string): LowRank => ({
    rank,
    down: `${list}_adapter_list.${use}.0`,
    up: `${list}_adapter_list.${use}.1`,
  });
  const adapters = c.adaptsAttention
    ? { q: adapter('linear_q'), k: adapter('linear_k'), v: adapter('linear_v') }
    : undefined;
  let h = rmsNorm(g, both, shared, 'input_layernorm', { eps });
  h = attention(g, h, shared.scope('self_attn'), { ...c.attention, adapters }); // no residual, here nor below
  h = rmsNorm(g, h, shared, 'pre_ff_layernorm', { eps });
  const names = { gate: '', up: '', down: 'down_proj' };
  const fused = 'gate_up_proj';
  return gatedMlp(g, h, shared.scope('feed_forward'), {
    ...{ dFf, activation, bias, names, fused, adapter: adapter(fused) },
  });
}

function build(g: Graph, w: Weights, c: Zamba2Config): Value {
  const model = w.scope('model');
  const table = model.tensor('embed_tokens.weight', [c.vocabSize, c.dModel]);
  const e = embedding(g, table); // (tokens, d_model)
  const hybrids = c.kinds.flatMap((kind, i) => (kind === 'hybrid' ? [i] : []));
  let x = e;
  for (const [i, kind] of c.kinds.entries()) {
    const layer = model.scope('layers', i);
    let scope = layer;
    let input = x;
    if (kind === 'hybrid') {
      const use = hybrids.indexOf(i);
      const shared = sharedBy(model, 'shared_transformer', i, hybrids[use % c.blocks]!, c.tied);
      const y = sharedBlock(g, concat(g, [x, e]), shared, use, c);
      input = linear(g, y, layer, 'linear', c.dModel, { residual: x }); // what is added does not join the residual
      scope = layer.scope('mamba_decoder');
    }
    const h = rmsNorm(g, input, scope, 'input_layernorm', { eps: c.eps });
    x = mamba2(g, h, scope.scope('mamba'), { ...c.mamba, residual: x });
  }
  return logits(g, rmsNorm(g, x, model, 'final_layernorm', { eps: c.eps }), w, table, c.tied);
}

/** Zamba2 (Zyphra 2024): Mamba-2 layers, some of which first add one of a few shared attention blocks with adapters. */
export const zamba2: ModelDefinition<Zamba2Config> = {
  modelTypes: ['zamba2'],
  config: readConfig,
  build,
  // A block that is a layer's own holds the adapters of all that could have shared it.
  unread: (c) =>
    c.tied
      ? []
      : [{ names: c.adaptsAttention ? /shared_transformer\..+_adapter_list\./ : /\.gate_up_proj_adapter_list\./ }],
  vocabSize: (c) => c.vocabSize,
};
