import { show } from '../errors.js';
import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { type AttentionLayerOptions, attention } from '../layers/attention.js';
import { type Activation, embedding, linear } from '../layers/linear.js';
import { type Mamba2Options, mamba2 } from '../layers/mamba2.js';
import { mlp } from '../layers/mlp.js';
import { type MoeOptions, moe } from '../layers/moe.js';
import { rmsNorm } from '../layers/norms.js';
import { activationOf } from './activation.js';
import { type ConfigReader, MOST_LAYERS, MOST_ROUTED, MOST_ROUTING_GROUPS } from './config.js';
import type { ModelDefinition } from './definition.js';
import { logits } from './ends.js';
import { readHeads } from './heads-config.js';
import { readLayerTypes } from './layer-types.js';

type Kind = 'linear_attention' | 'full_attention' | 'mlp' | 'moe';
const KINDS: readonly Kind[] = ['linear_attention', 'full_attention', 'mlp', 'moe'];
const LETTERS: Readonly<Record<string, Kind>> = { M: 'linear_attention', '*': 'full_attention', '-': 'mlp', E: 'moe' };

interface NemotronConfig {
  vocabSize: number;
  dModel: number;
  eps: number;
  tied: boolean;
  kinds: Kind[];
  dFf: number;
  activation: Activation;
  mlpBias: boolean;
  attention: AttentionLayerOptions;
  mamba: Mamba2Options;
  moe: MoeOptions;
  dShared: number;
  /** Width between two projections in which the experts work; undefined: d_model. */
  dLatent?: number;
}

/** One kind a layer: the list, or the older pattern of letters. The number of layers follows from it. */
function readKinds(c: ConfigReader): Kind[] {
  c.ignore('num_hidden_layers'); // transformers counts the list, whatever it says
  const pattern = c.any('hybrid_override_pattern');
  const listed = c.raw.layers_block_type ?? c.raw.layer_types;
  const given = Array.isArray(listed) ? listed : typeof pattern === 'string' ? pattern : [];
  if (given.length > MOST_LAYERS) throw c.error(`expected at most ${MOST_LAYERS} layers, received ${given.length}`);
  if (Array.isArray(listed) || pattern === undefined) {
    const standard: Kind[] = ['linear_attention', 'moe', 'full_attention', 'mlp'];
    const count = Array.isArray(listed) ? listed.length : standard.length;
    return readLayerTypes(c, ['layers_block_type', 'layer_types'], count, KINDS, (i) => standard[i]!);
  }
  if (typeof pattern !== 'string')
    throw c.error(`hybrid_override_pattern: expected a text of M, *, - and E, received ${show(pattern)}`);
  return Array.from(pattern, (letter) => {
    const kind = LETTERS[letter];
    if (!kind) throw c.error(`hybrid_override_pattern: ${show(letter)} is not supported; supported: M, *, -, E`);
    return kind;
  });
}

/** A key that has an older name beginning with `mamba_`; where both stand there, the older one counts. */
const older = (c: ConfigReader, key: string, old: string): string =>
  c.has(key) && c.has(old) ? old : c.either(key, old);

function readMamba(c: ConfigReader, eps: number): Mamba2Options {
  const nHeads = c.size('mamba_num_heads', 128);
  const headDim = c.size('mamba_head_dim', 64);
  const nGroups = c.size(older(c, 'n_groups', 'mamba_n_groups'), 8);
  if (nHeads % nGroups !== 0) throw c.error(`mamba_num_heads ${nHeads} is no multiple of n_groups ${nGroups}`);
  c.oneOf('mamba_hidden_act', ['silu', 'swish'], 'silu');
  const dInner = nHeads * headDim;
  // The width is that of the heads; of the limits, the reference reads the lower one of initialisation and no other.
  c.ignore('expand', 'mamba_expand', 'time_step_limit', 'mamba_dt_limit', 'mamba_dt_max', 'mamba_dt_init_floor');
  c.ignore('mamba_proj_bias', 'mamba_ssm_cache_dtype');
  return {
    dInner,
    nHeads,
    headDim,
    nGroups,
    dState: c.size('ssm_state_size', 128),
    dConv: c.size(older(c, 'conv_kernel', 'mamba_d_conv'), 4),
    bias: c.boolean('use_bias', false),
    convBias: c.boolean(older(c, 'use_conv_bias', 'mamba_conv_bias'), true),
    dtLimit: [c.number(older(c, 'time_step_min', 'mamba_dt_min'), 0.001), Number.POSITIVE_INFINITY],
    norm: { eps, groupSize: dInner / nGroups },
  };
}

function readMoe(c: ConfigReader, activation: Activation): MoeOptions {
  const experts = c.size(c.either('n_routed_experts', 'num_local_experts'), 8, MOST_ROUTED);
  const topK = c.size('num_experts_per_tok', 2);
  const groups = c.size('n_group', 1, MOST_ROUTING_GROUPS);
  const topkGroups = c.size('topk_group', 1);
  if (experts % groups !== 0) throw c.error(`n_routed_experts ${experts} is no multiple of n_group ${groups}`);
  if (topkGroups > groups) throw c.error(`topk_group ${topkGroups} exceeds n_group ${groups}`);
  if (topK > (experts / groups) * topkGroups)
    throw c.error(`num_experts_per_tok ${topK} exceeds the experts of topk_group ${topkGroups} groups`);
  return {
    experts,
    topK,
    dFf: c.size('moe_intermediate_size', 7688),
    renormalize: c.boolean('norm_topk_prob', true),
    routing: {
      score: 'sigmoid',
      eps: 1e-20,
      scale: c.positive('routed_scaling_factor', 1),
      groups,
      topkGroups,
      bias: 'gate.e_score_correction_bias',
    },
    activation,
    names: { router: 'gate', experts: 'experts', up: 'up_proj', down: 'down_proj' },
  };
}

function readConfig(c: ConfigReader): NemotronConfig {
  const dModel = c.size('hidden_size', 4096);
  const eps = c.number(c.either('layer_norm_epsilon', 'rms_norm_eps'), 1e-5);
  const activation = activationOf(c, 'mlp_hidden_act', 'relu2');
  c.only('sliding_window', null);
  c.ignore('n_shared_experts'); // the width of all of them is a key of its own
  // Attention has no bias here, whatever attention_bias says; the extra heads that predict further tokens are not read.
  c.ignore('attention_bias', 'moe_shared_expert_overlap', 'num_nextn_predict_layers', 'attention_head_dim');
  // Of the code that the first releases came with; nothing rotates.
  c.ignore('num_query_groups', 'time_step_rank', 'is_hybrid_model', 'norm_eps', 'rope_theta', 'partial_rotary_factor');
  c.ignore('mtp_layers_block_type', 'mtp_hybrid_override_pattern', 'keep_mtp', 'mtp_use_repeated_layer');
  return {
    vocabSize: c.size('vocab_size', 131072),
    dModel,
    eps,
    tied: c.boolean('tie_word_embeddings', false),
    kinds: readKinds(c),
    dFf: c.size('intermediate_size', 21504),
    activation,
    mlpBias: c.boolean('mlp_bias', false),
    attention: readHeads(c, dModel, { nHeads: 32, nHeadsKv: 8, headDim: 128 }),
    mamba: readMamba(c, eps),
    moe: readMoe(c, activation),
    dShared: c.size('moe_shared_expert_intermediate_size', 7688),
    dLatent: c.has('moe_latent_size') ? c.size('moe_latent_size') : undefined,
  };
}

const NAMES = { up: 'up_proj', down: 'down_proj' };

/** Routed experts without a gate, between two projections where the model has them, and one that every token has. */
function routed(g: Graph, h: Value, w: Weights, c: NemotronConfig, residual: Value): Value {
  const { activation, mlpBias: bias } = c;
  const shared = mlp(g, h, w.scope('shared_experts'), { dFf: c.dShared, activation, bias, names: NAMES, residual });
  if (c.dLatent === undefined) return g.op('add', { a: shared, b: moe(g, h, w, c.moe) });
  const latent = linear(g, h, w, 'fc1_latent_proj', c.dLatent, { bias });
  const mixed = moe(g, latent, w, { ...c.moe, routerInput: h });
  return linear(g, mixed, w, 'fc2_latent_proj', c.dModel, { bias, residual: shared });
}

function build(g: Graph, w: Weights, c: NemotronConfig): Value {
  const backbone = w.scope('backbone');
  const table = backbone.tensor('embeddings.weight', [c.vocabSize, c.dModel]);
  let x = embedding(g, table); // (tokens, d_model)
  const { activation, mlpBias: bias } = c;
  for (const [i, kind] of c.kinds.entries()) {
    const layer = backbone.scope('layers', i);
    const mixer = layer.scope('mixer');
    const h = rmsNorm(g, x, layer, 'norm', { eps: c.eps });
    if (kind === 'linear_attention') x = mamba2(g, h, mixer, { ...c.mamba, residual: x });
    else if (kind === 'full_attention') x = attention(g, h, mixer, { ...c.attention, residual: x });
    else if (kind === 'mlp') x = mlp(g, h, mixer, { dFf: c.dFf, activation, bias, names: NAMES, residual: x });
    else x = routed(g, h, mixer, c, x);
  }
  return logits(g, rmsNorm(g, x, backbone, 'norm_f', { eps: c.eps }), w, table, c.tied);
}

/** Nemotron-H and Nemotron 3 (NVIDIA 2025): one mixer a layer, Mamba-2, attention without positions, dense or routed. */
export const nemotronH: ModelDefinition<NemotronConfig> = {
  modelTypes: ['nemotron_h'],
  config: readConfig,
  build,
  // Transformers 5 names modules `model`, and writes `backbone` to files; either is read.
  key: (name, _, has) =>
    has(name) ? name : has(name.replace(/^backbone\./, 'model.')) ? name.replace(/^backbone\./, 'model.') : name,
  vocabSize: (c) => c.vocabSize,
};
