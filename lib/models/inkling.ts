import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { embedding, head, linear } from '../layers/linear.js';
import { gatedMlp } from '../layers/mlp.js';
import { headRmsNorm, rmsNorm } from '../layers/norms.js';
import { sparseAttend } from '../layers/sparse-attention.js';
import { onlySilu } from './activation.js';
import { type ConfigReader, MOST_ROUTED } from './config.js';
import type { ModelDefinition } from './definition.js';
import type { Heads } from './heads-config.js';
import { readLayerNumbers, readLayerTypes } from './layer-types.js';

type Kind = 'hybrid' | 'hybrid_sliding';

interface InklingConfig {
  vocabSize: number;
  /** Rows of the head that give logits. */
  logits: number;
  dModel: number;
  dFf: number;
  eps: number;
  kinds: Kind[];
  feedForwards: ('dense' | 'sparse')[];
  heads: Record<Kind, Heads>;
  window: number;
  dRel: number;
  relExtent: number;
  logFloor: number;
  logAlpha: number;
  dConv: number;
  experts: number;
  shared: number;
  topK: number;
  dExpert: number;
  routeScale: number;
  mupWidth: number;
}

function readHeadsOf(c: ConfigReader, prefix: string, nHeadsKv: number): Heads {
  const nHeads = c.size(`${prefix}num_attention_heads`, 64);
  const kv = c.size(`${prefix}num_key_value_heads`, nHeadsKv);
  if (nHeads % kv !== 0)
    throw c.error(`${prefix}num_attention_heads ${nHeads} is no multiple of ${prefix}num_key_value_heads ${kv}`);
  return { nHeads, nHeadsKv: kv, headDim: c.size(`${prefix}head_dim`, 128) };
}

function readConfig(c: ConfigReader): InklingConfig {
  const nLayers = c.size('num_hidden_layers', 66);
  const vocabSize = c.size('vocab_size', 201024);
  const logits = c.size('unpadded_vocab_size', vocabSize);
  if (logits > vocabSize) throw c.error(`unpadded_vocab_size ${logits} exceeds vocab_size ${vocabSize}`);
  const local = readLayerNumbers(c, 'local_layer_ids', nLayers);
  const dense = c.count('dense_mlp_idx', 0);
  const experts = c.size(c.either('n_routed_experts', 'num_local_experts'), 256, MOST_ROUTED);
  const topK = c.size('num_experts_per_tok', 6);
  if (topK > experts) throw c.error(`num_experts_per_tok ${topK} exceeds n_routed_experts ${experts}`);
  onlySilu(c);
  c.only('shared_expert_sink', true);
  c.only('tie_word_embeddings', false);
  // Heads that predict further tokens are left unread; counts of states, and a norm that no layer has.
  c.ignore('num_mtp_layers', 'chain_hidden_post_norm', 'mtp_hidden_states_first', 'mtp_local_layer_ids');
  c.ignore('number_of_conv_states', 'rms_norm_eps_moe_gate', 'model_max_length');
  return {
    vocabSize,
    logits,
    dModel: c.size('hidden_size', 6144),
    dFf: c.size(c.has('dense_intermediate_size') ? 'dense_intermediate_size' : 'intermediate_size', 24576),
    eps: c.number('rms_norm_eps', 1e-6),
    kinds: readLayerTypes<Kind>(c, ['layer_types'], nLayers, ['hybrid', 'hybrid_sliding'], (i) =>
      (local ? local.has(i) : (i + 1) % 6 !== 0) ? 'hybrid_sliding' : 'hybrid',
    ),
    feedForwards: readLayerTypes(c, ['mlp_layer_types'], nLayers, ['dense', 'sparse'], (i) =>
      i < dense ? 'dense' : 'sparse',
    ),
    heads: { hybrid: readHeadsOf(c, '', 8), hybrid_sliding: readHeadsOf(c, 'swa_', 16) },
    window: c.size(c.either('sliding_window_size', 'sliding_window'), 512),
    dRel: c.size('d_rel', 16),
    relExtent: c.size('rel_extent', 1024),
    logFloor: c.has('log_scaling_n_floor') ? c.positive('log_scaling_n_floor') : 0,
    logAlpha: c.number('log_scaling_alpha', 0.1),
    dConv: c.size(c.either('conv_kernel_size', 'sconv_kernel_size'), 4),
    experts,
    shared: c.size('n_shared_experts', 2),
    topK,
    dExpert: c.size('moe_intermediate_size', 3072),
    routeScale: c.positive('route_scale', 8),
    mupWidth: c.positive(c.either('logits_mup_width_multiplier', 'embedding_multiplier'), 24),
  };
}

/** x + a causal depthwise convolution of x: the newest tap has one more. */
function shortConv(g: Graph, x: Value, w: Weights, name: string, taps: number): Value {
  const channels = x.dims[1] as number;
  const weight = w.tensor(`${name}.conv1d.weight`, [channels, taps], {
    stored: [channels, 1, taps],
    matrix: false,
    init: { uniform: 1 / Math.sqrt(taps) },
    transform: ([all]) => all!.map((v, i) => (i % taps === taps - 1 ? v + 1 : v)),
  });
  return g.op('causalConv1d', { x, weight, state: g.state([channels, taps - 1]) });
}

/** x times one number of the checkpoint. */
function timesScalar(g: Graph, x: Value, w: Weights, name: string): Value {
  const width = x.dims[1] as number;
  const scale = w.tensor(name, [width], {
    stored: [1],
    init: 'ones',
    transform: ([s]) => new Float32Array(width).fill(s![0]!),
  });
  return g.op('affine', { x, scale });
}

/** Attention with short convolutions on keys and values and a learned bias by distance, instead of positions. */
function attention(g: Graph, x: Value, w: Weights, kind: Kind, c: InklingConfig): Value {
  const { nHeads, nHeadsKv, headDim } = c.heads[kind];
  const sliding = kind === 'hybrid_sliding';
  const extent = sliding ? c.window : c.relExtent;
  const q = headRmsNorm(g, g.reshape(linear(g, x, w, 'q_proj', nHeads * headDim), nHeads, headDim), w, 'q_norm', {
    eps: c.eps,
  });
  const mixed = (name: string) => {
    const rows = shortConv(g, linear(g, x, w, `${name}_proj`, nHeadsKv * headDim), w, `${name}_sconv`, c.dConv);
    return g.reshape(rows, nHeadsKv, headDim);
  };
  const k = headRmsNorm(g, mixed('k'), w, 'k_norm', { eps: c.eps });
  const v = mixed('v');
  const [kPages, vPages] = [g.cache(nHeadsKv, headDim), g.cache(nHeadsKv, headDim)];
  g.op('cacheAppend', { k, v, kPages, vPages });
  const rel = g.reshape(linear(g, x, w, 'r_proj', nHeads * c.dRel), nHeads, c.dRel);
  const proj = w.tensor('rel_logits_proj.proj', [c.dRel, extent], { matrix: false });
  const y = sparseAttend(g, q, kPages, vPages, {
    scale: 1 / headDim,
    window: sliding ? c.window : 0,
    relative: { rel, proj },
    logFloor: sliding ? 0 : c.logFloor,
    logAlpha: c.logAlpha,
  });
  g.layers.push('attention');
  return linear(g, g.reshape(y, nHeads * headDim), w, 'o_proj', c.dModel);
}

/** Released files hold gate and up as one tensor with their rows in turn: (…, 2 f, d) with all of the gate first. */
const parted = (f: number, d: number) => ({
  part: 'parted',
  matrix: true,
  transform: ([all]: Float32Array[]): Float32Array => {
    const out = new Float32Array(all!.length);
    for (let row = 0; row < all!.length / d; row++) {
      const [matrix, inner] = [Math.floor(row / (2 * f)), row % (2 * f)];
      const to = matrix * 2 * f + (inner % 2) * f + (inner >> 1);
      out.set(all!.subarray(row * d, (row + 1) * d), to * d);
    }
    return out;
  },
});

/** down(silu(gate x) · up x), of either layout. */
function dense(g: Graph, x: Value, w: Weights, c: InklingConfig): Value {
  const { dFf: f, dModel: d } = c;
  if (!w.stored('w13_dn.weight')) return gatedMlp(g, x, w, { dFf: f });
  const weight = w.tensor('w13_dn.weight', [2 * f, d], parted(f, d));
  const [gate, up] = g.split(g.op('linear', { x, weight }), 2) as [Value, Value];
  return linear(g, g.op('gate', { x: up, gate }, { activation: 'silu' }), w, 'down_proj', d);
}

/** Routed experts and shared ones, whose weights are shares of one sum. */
function routed(g: Graph, x: Value, w: Weights, c: InklingConfig): Value {
  const { experts, shared, topK, dExpert: f, dModel: d } = c;
  const gate = w.scope('gate');
  const bias = gate.combined([{ name: 'e_score_correction_bias', shape: [experts], buffer: true }], [experts], {
    init: 'zeros',
  });
  const router = gate.tensor('weight', [experts + shared, d], { matrix: false });
  const weights = g.op(
    'expertWeights',
    { logits: g.op('linear', { x, weight: router }), bias },
    { score: 'sigmoid', topK, shared, renormalize: true, scale: c.routeScale },
  );
  const activeShare = topK / experts;
  const chosen = g.op(
    'moe',
    {
      x,
      weights: g.view(weights, 0, experts),
      gateUp: w.stored('experts.w13_weight')
        ? w.tensor('experts.w13_weight', [experts, 2, f, d], {
            ...{ stored: [experts, 2 * f, d], activeShare },
            ...parted(f, d),
          })
        : w.tensor('experts.gate_up_proj', [experts, 2, f, d], { stored: [experts, 2 * f, d], activeShare }),
      down: w.tensor('experts.down_proj', [experts, d, f], { activeShare }),
    },
    { topK },
  );
  const always = w.scope('shared_experts');
  const rows = Array.from({ length: shared }, (_, e) => e).flatMap((e) =>
    ['gate_proj', 'up_proj'].map((name) => ({
      name,
      shape: [shared, f, d],
      span: [e * f * d, f * d] as const,
    })),
  );
  const kept = g.op(
    'moe',
    {
      x,
      weights: g.view(weights, experts, shared),
      gateUp: always.stored('shared_w13_weight')
        ? always.tensor('shared_w13_weight', [shared, 2, f, d], { stored: [shared, 2 * f, d], ...parted(f, d) })
        : always.combined(rows, [shared, 2, f, d]),
      down: always.tensor('down_proj', [shared, d, f]),
    },
    { topK: shared },
  );
  return timesScalar(g, g.op('add', { a: chosen, b: kept }), gate, 'global_scale');
}

function build(g: Graph, w: Weights, c: InklingConfig): Value {
  const model = w.scope('model');
  const table = model.tensor('embed_tokens.weight', [c.vocabSize, c.dModel]);
  const norm = (x: Value, scope: Weights, name: string) => rmsNorm(g, x, scope, name, { eps: c.eps });
  let x = norm(embedding(g, table), model, 'embed_tokens.embed_norm'); // (tokens, d_model)
  for (const [i, kind] of c.kinds.entries()) {
    const layer = model.scope('layers', i);
    const attended = attention(g, norm(x, layer, 'input_layernorm'), layer.scope('self_attn'), kind, c);
    x = g.op('add', { a: x, b: shortConv(g, attended, layer, 'attn_sconv', c.dConv) });
    const h = norm(x, layer, 'post_attention_layernorm');
    const mlp = layer.scope('mlp');
    const fed =
      c.feedForwards[i] === 'sparse' ? routed(g, h, mlp, c) : timesScalar(g, dense(g, h, mlp, c), mlp, 'global_scale');
    x = g.op('add', { a: x, b: shortConv(g, fed, layer, 'mlp_sconv', c.dConv) });
  }
  const rows = w.rows('lm_head.weight', [c.vocabSize, c.dModel], [[0, c.logits]]);
  return head(g, norm(x, model, 'norm'), rows, { scale: 1 / c.mupWidth });
}

/** What released files call the same tensors, besides those whose rows are in another order. */
const RELEASED: readonly (readonly [RegExp, string])[] = [
  [/^model\.embed_tokens\.embed_norm\./, 'model.embed_norm.'],
  [/^model\.embed_tokens\./, 'model.embed.'],
  [/^lm_head\./, 'model.unembed.'],
  [/\.self_attn\.([qkvro])_proj\./, '.attn.$1_proj.'],
  [/\.attn\.q_proj\./, '.attn.wq_du.'],
  [/\.attn\.k_proj\./, '.attn.wk_dv.'],
  [/\.attn\.v_proj\./, '.attn.wv_dv.'],
  [/\.attn\.r_proj\./, '.attn.wr_du.'],
  [/\.attn\.o_proj\./, '.attn.wo_ud.'],
  [/\.self_attn\./, '.attn.'],
  [/_sconv\.conv1d\./, '_sconv.'],
  [/\.post_attention_layernorm\./, '.mlp_norm.'],
  [/\.input_layernorm\./, '.attn_norm.'],
  [/\.gate\.e_score_correction_bias$/, '.gate.bias'],
  [/\.shared_experts\.down_proj$/, '.shared_experts.shared_w2_weight'],
  [/\.experts\.down_proj$/, '.experts.w2_weight'],
  [/\.mlp\.down_proj\.weight$/, '.mlp.w2_md.weight'],
];

function releasedName(name: string, has: (name: string) => boolean): string {
  if (has(name)) return name;
  const released = RELEASED.reduce((known, [pattern, other]) => known.replace(pattern, other), name);
  return has(released) ? released : name;
}

/** The text model of Inkling: short convolutions around attention and feed-forward, distances instead of positions. */
export const inkling: ModelDefinition<InklingConfig> = {
  modelTypes: ['inkling_text'],
  wrappers: { inkling_mm_model: 'inkling_text' },
  config: readConfig,
  build,
  key: (name, _, has) => releasedName(name, has),
  unread: [{ names: /(^|\.)mtp\./, what: 'the heads that predict further tokens (mtp)' }],
  vocabSize: (c) => c.logits,
};
