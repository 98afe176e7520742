/** Architectures at comparable size: their configurations from common dimensions, and how their costs grow. */
import type { Library } from '../library.js';

export interface Dimensions {
  dModel: number;
  vocabulary: number;
  headDim: number;
  kvHeads: number;
  /** Tokens of the longest sequence: a long convolution's filters are made for them. */
  longest: number;
}

export interface Family {
  /** What --families takes; the model_type that must be supported. */
  name: string;
  modelType: string;
  label: string;
  kind: 'attention' | 'scan' | 'hybrid' | 'convolution';
  /** Networks over float rows instead of tokens: their width. */
  features?: number;
  /** Order of the cost of N tokens, of one token after N, and of what is remembered after N. */
  prefill: string;
  decode: string;
  memory: string;
  config(d: Dimensions, layers: number): Record<string, unknown>;
}

/** Layers of attention to layers of Mamba, of a hybrid. */
export interface Ratio {
  attention: number;
  mamba: number;
}

const LINEAR = { prefill: 'O(N)', decode: 'O(1)', memory: 'O(1)' };
const QUADRATIC = { prefill: 'O(N²)', decode: 'O(N)', memory: 'O(N)' };
const CONVOLUTION = { prefill: 'O(N²/T·log T)', decode: 'O(N)', memory: 'O(N)' }; // chunks of T tokens
const FEATURES = 16;

export const FAMILIES: readonly Family[] = [
  { name: 'llama', modelType: 'llama', label: 'Transformer (Llama)', kind: 'attention', ...QUADRATIC, config: llama },
  { name: 'mamba', modelType: 'mamba', label: 'Mamba', kind: 'scan', ...LINEAR, config: mamba },
  { name: 'mamba2', modelType: 'mamba2', label: 'Mamba-2', kind: 'scan', ...LINEAR, config: mamba2 },
  {
    name: 'jamba',
    modelType: 'jamba',
    label: 'Hybrid (Jamba, 1:7)',
    kind: 'hybrid',
    ...QUADRATIC,
    config: (d, layers) => jamba(d, layers, { attention: 1, mamba: 7 }),
  },
  { name: 'hyena', modelType: 'hyena', label: 'Hyena', kind: 'convolution', ...CONVOLUTION, config: hyena },
  {
    name: 's4d',
    modelType: 's4d_example',
    label: 'S4D (float rows)',
    kind: 'scan',
    features: FEATURES,
    ...LINEAR,
    config: s4d,
  },
];

/** A hybrid with this ratio; Jamba's configuration places one attention layer per period, so 1:m, m:0 and 0:m. */
export function hybrid(ratio: Ratio): Family {
  const pure = ratio.attention === 0 ? 'scan' : ratio.mamba === 0 ? 'attention' : 'hybrid';
  return {
    name: `${ratio.attention}:${ratio.mamba}`,
    modelType: 'jamba',
    label: `attention:Mamba ${ratio.attention}:${ratio.mamba}`,
    kind: pure,
    ...(pure === 'scan' ? LINEAR : QUADRATIC),
    config: (d, layers) => jamba(d, layers, ratio),
  };
}

/** Whether a Jamba configuration can express it. */
export function expressible({ attention, mamba }: Ratio): boolean {
  return attention === 0 || mamba % attention === 0;
}

export interface Sized {
  family: Family;
  config: Record<string, unknown>;
  layers: number;
  parameters: number;
  flopsPerToken(context: number): number;
}

/** As many layers as bring the family nearest to the number of parameters, at the given width. */
export function sized(library: Library, family: Family, d: Dimensions, parameters: number): Sized {
  const count = (layers: number) => library.describeModel(family.config(d, layers)).parameters.total;
  // Linear in the layers but for the pattern of a hybrid: two points of one long period tell the slope.
  const [few, many] = [count(24), count(48)];
  const perLayer = (many - few) / 24;
  const guess = Math.round((parameters - few) / perLayer) + 24;
  const candidates = [guess - 1, guess, guess + 1].filter((layers) => layers >= 1);
  if (candidates.length === 0) candidates.push(1);
  const layers = candidates.reduce((best, n) =>
    Math.abs(count(n) - parameters) < Math.abs(count(best) - parameters) ? n : best,
  );
  const config = family.config(d, layers);
  const described = library.describeModel(config);
  return {
    family,
    layers,
    config,
    parameters: described.parameters.total,
    flopsPerToken: (context) => described.flopsPerToken(context),
  };
}

function llama(d: Dimensions, layers: number): Record<string, unknown> {
  return {
    model_type: 'llama',
    ...common(d, layers),
    intermediate_size: feedForward(d),
    num_attention_heads: d.dModel / d.headDim,
    num_key_value_heads: d.kvHeads,
    rms_norm_eps: 1e-6,
    max_position_embeddings: d.longest,
  };
}

function mamba(d: Dimensions, layers: number): Record<string, unknown> {
  return {
    model_type: 'mamba',
    ...common(d, layers),
    state_size: 16,
    conv_kernel: 4,
    expand: 2,
    time_step_rank: Math.ceil(d.dModel / 16),
    use_bias: false,
    use_conv_bias: true,
    layer_norm_epsilon: 1e-5,
  };
}

function mamba2(d: Dimensions, layers: number): Record<string, unknown> {
  return {
    model_type: 'mamba2',
    ...common(d, layers),
    state_size: 128,
    conv_kernel: 4,
    expand: 2,
    head_dim: d.headDim,
    num_heads: (2 * d.dModel) / d.headDim,
    n_groups: 1,
    use_bias: false,
    use_conv_bias: true,
    layer_norm_epsilon: 1e-5,
  };
}

function jamba(d: Dimensions, layers: number, { attention, mamba: scans }: Ratio): Record<string, unknown> {
  // Without attention the period is longer than the model.
  const period = attention === 0 ? layers + 1 : scans / attention + 1;
  return {
    model_type: 'jamba',
    ...common(d, layers),
    intermediate_size: feedForward(d),
    num_attention_heads: d.dModel / d.headDim,
    num_key_value_heads: d.kvHeads,
    attn_layer_period: period,
    attn_layer_offset: attention === 0 ? layers : Math.floor(period / 2),
    num_experts: 1,
    num_experts_per_tok: 1,
    expert_layer_period: 2,
    expert_layer_offset: 1,
    mamba_d_state: 16,
    mamba_d_conv: 4,
    mamba_expand: 2,
    mamba_dt_rank: Math.ceil(d.dModel / 16),
    mamba_conv_bias: true,
    mamba_proj_bias: false,
    rms_norm_eps: 1e-6,
    max_position_embeddings: d.longest,
    hidden_act: 'silu',
  };
}

function hyena(d: Dimensions, layers: number): Record<string, unknown> {
  return {
    model_type: 'hyena',
    vocab_size: d.vocabulary,
    d_model: d.dModel,
    n_layer: layers,
    d_inner: 4 * d.dModel,
    l_max: d.longest,
    order: 2,
    filter_order: 64,
    emb_dim: 3,
    lr_pos_emb: 0, // positions encoded once: no parameters that grow with the longest sequence
  };
}

function s4d(d: Dimensions, layers: number): Record<string, unknown> {
  return {
    model_type: 's4d_example',
    d_input: FEATURES,
    d_output: d.vocabulary,
    d_model: d.dModel,
    n_layers: layers,
    d_state: 64,
    prenorm: true,
  };
}

function common({ vocabulary, dModel }: Dimensions, layers: number) {
  return {
    vocab_size: vocabulary,
    hidden_size: dModel,
    num_hidden_layers: layers,
    tie_word_embeddings: true,
  };
}

/** Three matrices of 8/3 of the width hold as much as the usual two of four times the width. */
function feedForward({ dModel }: Dimensions): number {
  return Math.ceil((8 * dModel) / 3 / 64) * 64;
}
