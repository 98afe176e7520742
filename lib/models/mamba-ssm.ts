import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { type AttentionOptions, attended, rope } from '../layers/attention.js';
import { embedding, head, linear } from '../layers/linear.js';
import { conv1d, type MambaOptions, mamba } from '../layers/mamba.js';
import { type Mamba2Options, mamba2 } from '../layers/mamba2.js';
import { type Mamba3Options, mamba3 } from '../layers/mamba3.js';
import { layerNorm, rmsNorm } from '../layers/norms.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';
import { readLimit } from './mamba2.js';

const EPS = 1e-5; // not in the config: the package's constant

interface HybridAttention extends AttentionOptions {
  dConv: number;
  mlpDim: number;
  qkvBias: boolean;
  outBias: boolean;
}

interface MambaSsmConfig {
  vocabSize: number;
  paddedVocab: number;
  dModel: number;
  nLayers: number;
  dFf: number;
  rms: boolean;
  tied: boolean;
  mamba1?: MambaOptions;
  mamba2?: Mamba2Options;
  mamba3?: Mamba3Options;
  attentionLayers: ReadonlySet<number>;
  attention?: HybridAttention;
}

function readMamba1(c: ConfigReader, dModel: number): MambaOptions {
  const rank = c.any('dt_rank');
  return {
    dInner: c.multiple('expand', dModel, 2),
    dState: c.size('d_state', 16),
    dConv: c.size('d_conv', 4),
    dtRank: rank === undefined || rank === 'auto' ? Math.ceil(dModel / 16) : c.size('dt_rank'),
    bias: c.boolean('bias', false),
    convBias: c.boolean('conv_bias', true),
  };
}

function readMamba2(c: ConfigReader, dModel: number): Mamba2Options {
  const dInner = c.multiple('expand', dModel, 2);
  const dSsm = c.size('d_ssm', dInner);
  const headDim = c.size('headdim', 64);
  const nGroups = c.size('ngroups', 1);
  if (dSsm > dInner) throw c.error(`d_ssm ${dSsm} exceeds expand · d_model = ${dInner}`);
  if (dSsm % headDim !== 0) throw c.error(`d_ssm ${dSsm} is no multiple of headdim ${headDim}`);
  const nHeads = dSsm / headDim;
  if (nHeads % nGroups !== 0) throw c.error(`${nHeads} heads are no multiple of ngroups ${nGroups}`);
  const normBeforeGate = c.boolean('norm_before_gate', false);
  c.only('activation', 'swish');
  return {
    dInner: dSsm,
    dMlp: dInner - dSsm,
    nHeads,
    headDim,
    nGroups,
    dState: c.size('d_state', 128),
    dConv: c.size('d_conv', 4),
    bias: c.boolean('bias', false),
    convBias: c.boolean('conv_bias', true),
    dtLimit: readLimit(c, 'dt_limit'),
    dPerChannel: c.boolean('D_has_hdim', false),
    norm: c.boolean('rmsnorm', true) ? { eps: EPS, groupSize: dSsm / nGroups, normBeforeGate } : undefined,
  };
}

function readMamba3(c: ConfigReader, dModel: number): Mamba3Options {
  const fraction = c.number('rope_fraction', 0.5);
  if (fraction !== 0.5 && fraction !== 1)
    throw c.error(`rope_fraction: ${fraction} is not supported; supported: 0.5, 1`);
  const headDim = c.size('headdim', 64);
  const dInner = c.multiple('expand', dModel, 2);
  if (dInner % headDim !== 0) throw c.error(`expand · d_model = ${dInner} is no multiple of headdim ${headDim}`);
  const nHeads = dInner / headDim;
  const nGroups = c.size('ngroups', 1);
  if (nHeads % nGroups !== 0) throw c.error(`${nHeads} heads are no multiple of ngroups ${nGroups}`);
  const dState = c.size('d_state', 128);
  const angles = Math.floor(Math.floor(dState * fraction) / 2);
  if (angles < 1) throw c.error(`d_state ${dState} has no pair of channels to rotate; rope_fraction exceeds it`);
  const rank = c.size('mimo_rank', 4);
  c.ignore('fuse_pregate_headwise_norm', 'chunk_size', 'dropout'); // kernels of one function
  return {
    ...{ nHeads, headDim, nGroups, dState, angles },
    rank: c.boolean('is_mimo', false) ? rank : undefined,
    aFloor: c.positive('A_floor', 1e-4),
    outNorm: c.boolean('is_outproj_norm', false),
    eps: EPS,
  };
}

function readAttention(c: ConfigReader, dModel: number): HybridAttention {
  const nHeads = c.size('num_heads');
  const nHeadsKv = c.size('num_heads_kv', nHeads);
  const headDim = c.size('head_dim', Math.floor(dModel / nHeads));
  if (nHeads % nHeadsKv !== 0) throw c.error(`num_heads ${nHeads} is no multiple of num_heads_kv ${nHeadsKv}`);
  if (!c.boolean('causal', false)) throw c.error('causal: false is not supported in a language model; expected true');
  const rotaryDim = c.count('rotary_emb_dim', 0);
  if (rotaryDim % 2 !== 0 || rotaryDim > headDim)
    throw c.error(`rotary_emb_dim: expected an even number from 0 to ${headDim}, received ${rotaryDim}`);
  const interleaved = c.boolean('rotary_emb_interleaved', false);
  const theta = c.number('rotary_emb_base', 10000);
  const scale = c.any('softmax_scale');
  return {
    nHeads,
    nHeadsKv,
    headDim,
    scale: scale === undefined ? undefined : c.number('softmax_scale'),
    dConv: c.count('d_conv', 0),
    mlpDim: mlpWidth(c),
    qkvBias: c.boolean('qkv_proj_bias', true),
    outBias: c.boolean('out_proj_bias', true),
    rope: rotaryDim > 0 ? { theta, rotaryDim, interleaved } : undefined,
  };
}

/** The gated MLP inside the attention mixer: the width is rounded up to a multiple of 256. */
function mlpWidth(c: ConfigReader): number {
  const wanted = c.count('mlp_dim', 0);
  return Math.ceil(wanted / 256) * 256;
}

function readConfig(c: ConfigReader): MambaSsmConfig {
  const dModel = c.size('d_model');
  const nLayers = c.size('n_layer');
  const vocabSize = c.size('vocab_size');
  const pad = c.size('pad_vocab_size_multiple', 8);
  const wanted = c.count('d_intermediate', 0);
  const ssm = c.nestedOrEmpty('ssm_cfg');
  const kind = ssm.oneOf('layer', ['Mamba1', 'Mamba2', 'Mamba3'], 'Mamba1');
  const mixer =
    kind === 'Mamba1'
      ? { mamba1: readMamba1(ssm, dModel) }
      : kind === 'Mamba2'
        ? { mamba2: readMamba2(ssm, dModel) }
        : { mamba3: readMamba3(ssm, dModel) };
  // How steps are initialised and kernels chosen: nothing of it changes results.
  ssm.ignore(
    'dt_min',
    'dt_max',
    'dt_init',
    'dt_scale',
    'dt_init_floor',
    'use_fast_path',
    'use_mem_eff_path',
    'A_init_range',
  );
  ssm.done();
  const layers = c.any('attn_layer_idx') ?? [];
  if (!Array.isArray(layers) || !layers.every((l) => Number.isInteger(l) && l >= 0 && l < nLayers)) {
    throw c.error(
      `attn_layer_idx: expected layer numbers from 0 to ${nLayers - 1}, received ${JSON.stringify(layers)}`,
    );
  }
  const attn = c.nested('attn_cfg');
  const attention = layers.length > 0 && attn ? readAttention(attn, dModel) : undefined;
  if (layers.length > 0 && !attn) throw c.error('attn_layer_idx names layers, but attn_cfg is missing');
  if (attention) attn!.done();
  return {
    vocabSize,
    paddedVocab: Math.ceil(vocabSize / pad) * pad,
    dModel,
    nLayers,
    dFf: Math.ceil(wanted / 128) * 128,
    rms: c.boolean('rms_norm', true),
    tied: c.boolean('tie_embeddings', true),
    ...mixer,
    attentionLayers: new Set(layers as number[]),
    attention,
  };
}

/** mamba_ssm's MHA: one projection, an optional convolution over q, k and v, an optional gated MLP beside it. */
function hybridAttention(g: Graph, x: Value, w: Weights, o: HybridAttention, residual: Value): Value {
  const dModel = x.dims[1] as number;
  const dq = o.nHeads * o.headDim;
  const dkv = o.nHeadsKv * o.headDim;
  const projected = linear(g, x, w, 'in_proj', dq + 2 * dkv + o.mlpDim, { bias: o.qkvBias });
  let qkv = g.view(projected, 0, dq + 2 * dkv);
  if (o.dConv > 0) qkv = conv1d(g, qkv, w, { dConv: o.dConv, activation: 'none' });
  let q = g.view(qkv, 0, o.nHeads, o.headDim);
  let k = g.view(qkv, dq, o.nHeadsKv, o.headDim);
  const v = g.view(qkv, dq + dkv, o.nHeadsKv, o.headDim);
  if (o.rope) {
    q = rope(g, q, o.rope);
    k = rope(g, k, o.rope);
  }
  const y = g.reshape(attended(g, q, k, v, o), dq);
  if (o.mlpDim === 0) return linear(g, y, w, 'out_proj', dModel, { bias: o.outBias, residual });
  const half = o.mlpDim / 2;
  const joined = g.buffer('tokens', dq + half);
  const [up, gate] = [g.view(projected, dq + 2 * dkv, half), g.view(projected, dq + 2 * dkv + half, half)];
  g.op('activate', { x: y }, {}, g.view(joined, 0, dq));
  g.op('gate', { x: up, gate }, { activation: 'silu' }, g.view(joined, dq, half));
  return linear(g, joined, w, 'out_proj', dModel, { bias: o.outBias, residual });
}

function build(g: Graph, w: Weights, c: MambaSsmConfig): Value {
  const backbone = w.scope('backbone');
  const norm = (x: Value, scope: Weights, name: string) =>
    (c.rms ? rmsNorm : layerNorm)(g, x, scope, name, { eps: EPS });
  const table = backbone.tensor('embedding.weight', [c.paddedVocab, c.dModel]);
  let x = embedding(g, table); // (tokens, d_model)
  for (let i = 0; i < c.nLayers; i++) {
    const layer = backbone.scope('layers', i);
    const mixer = layer.scope('mixer');
    const h = norm(x, layer, 'norm');
    if (c.attentionLayers.has(i)) x = hybridAttention(g, h, mixer, c.attention!, x);
    else if (c.mamba1) x = mamba(g, h, mixer, { ...c.mamba1, residual: x });
    else if (c.mamba2) x = mamba2(g, h, mixer, { ...c.mamba2, residual: x });
    else x = mamba3(g, h, mixer, { ...c.mamba3!, residual: x });
    if (c.dFf > 0) {
      const mlp = layer.scope('mlp');
      const [up, gate] = g.split(linear(g, norm(x, layer, 'norm2'), mlp, 'fc1', 2 * c.dFf), 2); // the gate comes second
      x = linear(g, g.op('gate', { x: up, gate }, { activation: 'silu' }), mlp, 'fc2', c.dModel, { residual: x });
    }
  }
  return head(g, norm(x, backbone, 'norm_f'), c.tied ? table : w.tensor('lm_head.weight', [c.paddedVocab, c.dModel]));
}

/** The original checkpoints of the mamba_ssm package: Mamba-1, 2, 3 and hybrids; their config has no model_type. */
export const mambaSsm: ModelDefinition<MambaSsmConfig> = {
  modelTypes: ['mamba_ssm'],
  config: readConfig,
  build,
  vocabSize: (c) => c.vocabSize,
};
