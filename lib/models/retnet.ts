import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { type Activation, embedding, head } from '../layers/linear.js';
import { gatedMlp } from '../layers/mlp.js';
import { rmsNorm } from '../layers/norms.js';
import { type RetentionOptions, retention } from '../layers/retention.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';

interface RetNetConfig {
  vocabSize: number;
  dModel: number;
  dFf: number;
  nLayers: number;
  eps: number;
  tied: boolean;
  activation: Activation;
  embeddingScale: number;
  embeddingNorm: boolean;
  normBefore: boolean;
  /** Weight of the residual stream against what a branch adds (DeepNorm). */
  alpha: number;
  mixer: RetentionOptions;
}

const ACTIVATIONS = { swish: 'silu', gelu: 'gelu', relu: 'relu' } as const;

function readMixer(c: ConfigReader, dModel: number, eps: number): RetentionOptions {
  const nHeads = c.size('decoder_retention_heads', 3);
  const dValue = c.size('decoder_value_embed_dim', 1280);
  if (dModel % (2 * nHeads) !== 0) {
    throw c.error(`decoder_embed_dim ${dModel} is no multiple of 2 · decoder_retention_heads = ${2 * nHeads}`);
  }
  if (dValue % nHeads !== 0) {
    throw c.error(`decoder_value_embed_dim ${dValue} is no multiple of decoder_retention_heads ${nHeads}`);
  }
  return { nHeads, dValue, eps };
}

/** What would change the network and is not here. */
function refuseOthers(c: ConfigReader): void {
  c.only('moe_freq', 0);
  c.only('use_xmoe', false);
  c.only('multiway', false);
  c.only('no_output_layer', false);
  // Read by other architectures of torchscale, by training, or (chunkwise) the choice among equal forms.
  c.ignore('drop_path_rate', 'activation_dropout', 'rel_pos_buckets', 'max_rel_pos', 'max_target_positions');
  c.ignore('chunkwise_recurrent', 'recurrent_chunk_size', 'xpos_rel_pos', 'xpos_scale_base', 'bert_init');
  c.ignore('checkpoint_activations', 'fsdp', 'ddp_rank', 'encoder_normalize_before');
  c.ignore('moe_top1_expert', 'moe_expert_count', 'moe_gating_use_fp32', 'moe_eval_capacity_token_fraction');
  c.ignore('moe_second_expert_policy', 'moe_normalize_gate_prob_before_dropping');
}

function readConfig(c: ConfigReader): RetNetConfig {
  const dModel = c.size('decoder_embed_dim', 768);
  const nLayers = c.size('decoder_layers', 12);
  const eps = c.number('layernorm_eps', 1e-6);
  const deepnorm = c.boolean('deepnorm', false);
  // subln is a way to initialise; torchscale switches it off by itself where deepnorm is on.
  if (c.boolean('subln', !deepnorm) && deepnorm) throw c.error('deepnorm: true contradicts subln: true');
  refuseOthers(c);
  return {
    vocabSize: c.size('vocab_size'),
    dModel,
    dFf: c.size('decoder_ffn_embed_dim', 1280),
    nLayers,
    eps,
    tied: c.boolean('share_decoder_input_output_embed', false),
    activation: ACTIVATIONS[c.oneOf('activation_fn', ['gelu', 'swish', 'relu'], 'gelu')],
    embeddingScale: c.boolean('no_scale_embedding', true) ? 1 : Math.sqrt(dModel),
    embeddingNorm: c.boolean('layernorm_embedding', false),
    normBefore: c.boolean('decoder_normalize_before', true),
    alpha: deepnorm ? (2 * nLayers) ** 0.25 : 1,
    mixer: readMixer(c, dModel, eps),
  };
}

function build(g: Graph, w: Weights, c: RetNetConfig): Value {
  const norm = (x: Value, scope: Weights, name: string) => rmsNorm(g, x, scope, name, { eps: c.eps });
  /** x or its norm through a branch, and on the residual stream: the norm stands before the branch or after the sum. */
  const around = (x: Value, scope: Weights, name: string, branch: (x: Value, residual?: Value) => Value): Value => {
    const h = c.normBefore ? norm(x, scope, name) : x;
    const sum = c.alpha === 1 ? branch(h, x) : g.op('add', { a: x, b: branch(h) }, { alpha: c.alpha });
    return c.normBefore ? sum : norm(sum, scope, name);
  };
  const names = { gate: 'fc1', up: 'gate', down: 'fc2' };
  const table = w.tensor('embed_tokens.weight', [c.vocabSize, c.dModel]);
  let x = embedding(g, table, c.embeddingScale); // (tokens, d_model)
  if (c.embeddingNorm) x = norm(x, w, 'layernorm_embedding');
  for (let i = 0; i < c.nLayers; i++) {
    const layer = w.scope('layers', i);
    x = around(x, layer, 'retention_layer_norm', (h, residual) =>
      retention(g, h, layer.scope('retention'), { ...c.mixer, residual }),
    );
    x = around(x, layer, 'final_layer_norm', (h, residual) =>
      gatedMlp(g, h, layer.scope('ffn'), { dFf: c.dFf, activation: c.activation, names, residual }),
    );
  }
  if (c.normBefore) x = norm(x, w, 'layer_norm');
  return head(g, x, c.tied ? table : w.tensor('output_projection.weight', [c.vocabSize, c.dModel]));
}

/** RetNet (Sun et al. 2023) in the layout of torchscale's RetNetDecoder. */
export const retnet: ModelDefinition<RetNetConfig> = {
  modelTypes: ['retnet_torchscale'],
  config: readConfig,
  build,
  unread: [{ names: /(^|\.)retnet_rel_pos\.(angle|decay)$/ }], // follow from the config
  vocabSize: (c) => c.vocabSize,
};
