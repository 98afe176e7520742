import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { type CcaOptions, cca } from '../layers/cca.js';
import { embedding, linear } from '../layers/linear.js';
import { rmsNorm } from '../layers/norms.js';
import { onlySilu } from './activation.js';
import { type ConfigReader, MOST_ROUTED } from './config.js';
import type { ModelDefinition } from './definition.js';
import { logits } from './ends.js';
import { readHeads } from './heads-config.js';
import { readLayerTypes } from './layer-types.js';
import { readRope } from './rope-config.js';

type Kind = 'hybrid' | 'hybrid_sliding';

interface ZayaConfig {
  vocabSize: number;
  dModel: number;
  dFf: number;
  dRouter: number;
  experts: number;
  eps: number;
  tied: boolean;
  headBias: boolean;
  kinds: Kind[];
  attention: Record<Kind, CcaOptions>;
}

/** Both kinds of layers have a rotation of their own. */
function readRopes(c: ConfigReader, headDim: number): Record<Kind, CcaOptions['rope']> {
  const given = c.raw.rope_parameters as Record<string, unknown> | null | undefined;
  // Published configs also have a rope_type beside the two, which transformers takes away.
  c.nested('rope_parameters')?.ignore('rope_type');
  if (given && c.has('rope_scaling')) throw c.error('rope_scaling beside rope_parameters is not supported');
  const byKind = given && ('hybrid' in given || 'hybrid_sliding' in given);
  const of = (kind: Kind, theta: number) => {
    if (given && byKind && !(kind in given)) return { theta, rotaryDim: headDim / 2 };
    // Half of a head is the default of both kinds together: what is given for a kind without a share turns all of it.
    return readRope(c, headDim, byKind ? { theta, kind, partial: 1 } : { theta, partial: 0.5 });
  };
  return { hybrid: of('hybrid', 5e6), hybrid_sliding: of('hybrid_sliding', 1e4) };
}

function readConfig(c: ConfigReader): ZayaConfig {
  const dModel = c.size('hidden_size', 2048);
  const nLayers = c.size('num_hidden_layers', 40);
  const heads = readHeads(c, dModel, { nHeads: 8, nHeadsKv: 2, headDim: 128 });
  if ((heads.nHeadsKv * heads.headDim) % 2 !== 0)
    throw c.error(`num_key_value_heads · head_dim must be a multiple of 2`);
  onlySilu(c);
  c.only('num_experts_per_tok', 1);
  const kinds = readLayerTypes<Kind>(c, ['layer_types'], nLayers, ['hybrid', 'hybrid_sliding'], () => 'hybrid');
  const window = c.has('sliding_window') ? c.size('sliding_window') : undefined;
  if (window === undefined && kinds.includes('hybrid_sliding'))
    throw c.error('layer_types has hybrid_sliding, but sliding_window contradicts it: it is missing');
  const ropes = readRopes(c, heads.headDim);
  const shared: CcaOptions = {
    ...heads,
    taps: [c.size('cca_time0', 2), c.size('cca_time1', 2)],
    bias: c.boolean('attention_bias', false),
  };
  return {
    vocabSize: c.size('vocab_size', 262272),
    dModel,
    dFf: c.size('moe_intermediate_size', 2048),
    dRouter: c.size('router_hidden_size', 256),
    experts: c.size('num_experts', 16, MOST_ROUTED - 1), // beside "no expert"
    eps: c.number('rms_norm_eps', 1e-5),
    tied: c.boolean('tie_word_embeddings', true),
    headBias: c.boolean('lm_head_bias', false),
    kinds,
    attention: {
      hybrid: { ...shared, rope: ropes.hybrid },
      hybrid_sliding: { ...shared, rope: ropes.hybrid_sliding, window },
    },
  };
}

/** (x + bias) · scale, a value each a channel. */
function rescaled(g: Graph, x: Value, w: Weights, bias: string, scale: string): Value {
  const d = x.dims[1] as number;
  const shift = w.combined(
    [
      { name: bias, shape: [d], init: 'zeros' },
      { name: scale, shape: [d], init: 'ones' },
    ],
    [d],
    { terms: (i) => [{ values: [i, d + i] }] },
  );
  return g.op('affine', { x, scale: w.tensor(scale, [d], { init: 'ones' }), shift });
}

/** The residual of a part and what it gives, both rescaled. */
function joined(g: Graph, x: Value, y: Value, w: Weights): Value {
  const a = rescaled(g, y, w, 'hidden_states_bias', 'hidden_states_scale');
  return g.op('add', { a, b: rescaled(g, x, w, 'residual_bias', 'residual_scale') });
}

/**
 * One expert a token, or none, by a network: r = down_proj h, plus the r of the layer before; three layers with gelu;
 * softmax over the experts and "none". Returns the result and r.
 */
function routed(g: Graph, h: Value, w: Weights, c: ZayaConfig, previous?: Value): { y: Value; states: Value } {
  const { experts, dFf, dRouter, dModel } = c;
  const gate = w.scope('gate');
  let states = linear(g, h, gate, 'down_proj', dRouter, { bias: true });
  if (previous) {
    const scale = gate.tensor('router_states_scale', [dRouter], { init: 'ones' });
    states = g.op('add', { a: states, b: g.op('affine', { x: previous, scale }) });
  }
  const mlp = gate.scope('router_mlp');
  let r = rmsNorm(g, states, mlp, 'norm', { eps: c.eps });
  for (const name of ['fc1', 'fc2']) r = linear(g, r, mlp, name, dRouter, { bias: true, activation: 'gelu' });
  const bias = gate.combined([{ name: 'balancing_biases', shape: [experts + 1], buffer: true }], [experts + 1], {
    init: 'zeros',
    // The reference sets that of "none" after loading, whatever the file holds.
    transform: ([b]) => b!.map((v, i) => (i === experts ? -1 : v)),
  });
  const all = g.op(
    'expertWeights',
    { logits: linear(g, r, mlp, 'out_proj', experts + 1), bias },
    { score: 'softmax', topK: 1, renormalize: false },
  );
  const activeShare = 1 / experts;
  const gateUp = w.tensor('experts.gate_up_proj', [experts, 2, dFf, dModel], {
    stored: [experts, 2 * dFf, dModel],
    activeShare,
  });
  const down = w.tensor('experts.down_proj', [experts, dModel, dFf], { activeShare });
  const weights = g.view(all, 0, experts); // all 0 where "none" won
  return { y: g.op('moe', { x: h, weights, gateUp, down }, { topK: 1 }), states };
}

function build(g: Graph, w: Weights, c: ZayaConfig): Value {
  const model = w.scope('model');
  const table = model.tensor('embed_tokens.weight', [c.vocabSize, c.dModel]);
  let x = rescaled(g, embedding(g, table), model, 'input_hidden_states_bias', 'input_hidden_states_scale');
  let states: Value | undefined;
  for (const [i, kind] of c.kinds.entries()) {
    const layer = model.scope('layers', i);
    let h = rmsNorm(g, x, layer, 'input_layernorm', { eps: c.eps });
    const attended = cca(g, h, layer.scope('self_attn'), c.attention[kind]);
    x = joined(g, x, attended, layer.scope('post_attention_residual_scale'));
    h = rmsNorm(g, x, layer, 'post_attention_layernorm', { eps: c.eps });
    const mixed = routed(g, h, layer.scope('mlp'), c, states);
    states = mixed.states;
    x = joined(g, x, mixed.y, layer.scope('post_mlp_residual_scale'));
  }
  const bias = c.headBias ? w.tensor('lm_head.bias', [c.vocabSize], { init: 'zeros' }) : undefined;
  return logits(g, rmsNorm(g, x, model, 'norm', { eps: c.eps }), w, table, c.tied, { bias });
}

/** ZAYA1 (Zyphra 2025): compressed convolutional attention, and one expert a token, or none, by a deeper router. */
export const zaya: ModelDefinition<ZayaConfig> = {
  modelTypes: ['zaya'],
  config: readConfig,
  build,
  vocabSize: (c) => c.vocabSize,
};
