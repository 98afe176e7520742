/** Small models of equal size: what mixes tokens differs, the feed-forward takes what is left. */
import type { Library } from '../library.js';

export interface Contender {
  name: string;
  label: string;
  /** Layers of which one is attention. */
  period?: number;
  config(d: Size, dFf: number): Record<string, unknown>;
}

export interface Size {
  dModel: number;
  layers: number;
  vocabulary: number;
  length: number;
}

const HEAD_DIM = 16;
const D_STATE = 16;

const common = ({ dModel, layers, vocabulary, length }: Size, dFf: number) => ({
  vocab_size: vocabulary,
  hidden_size: dModel,
  num_hidden_layers: layers,
  intermediate_size: dFf,
  num_attention_heads: dModel / HEAD_DIM,
  num_key_value_heads: dModel / HEAD_DIM,
  max_position_embeddings: length,
  tie_word_embeddings: true,
});

/** Of each period one layer attention, the one in its middle; 0: none. */
const attentionLayers = (layers: number, period: number): number[] =>
  period === 0 ? [] : Array.from({ length: layers }, (_, i) => i).filter((i) => i % period === Math.floor(period / 2));

function withMamba(period: number): Contender['config'] {
  return (d, dFf) => ({
    model_type: 'jamba',
    ...common(d, dFf),
    attn_layer_period: period || d.layers + 1,
    attn_layer_offset: period ? Math.floor(period / 2) : d.layers,
    num_experts: 1,
    num_experts_per_tok: 1,
    mamba_d_state: D_STATE,
    mamba_d_conv: 4,
    mamba_expand: 2,
    mamba_dt_rank: Math.ceil(d.dModel / 16),
  });
}

function withMamba2(period: number): Contender['config'] {
  return (d, dFf) => ({
    model_type: 'bamba',
    ...common(d, dFf),
    attn_layer_indices: attentionLayers(d.layers, period),
    mamba_n_heads: (2 * d.dModel) / HEAD_DIM,
    mamba_d_head: HEAD_DIM,
    mamba_d_state: 2 * D_STATE,
    mamba_n_groups: 1,
    mamba_expand: 2,
  });
}

const RATIOS = [1, 3, 7];

export const CONTENDERS: readonly Contender[] = [
  { name: 'attention', label: 'attention', config: (d, dFf) => ({ model_type: 'llama', ...common(d, dFf) }) },
  { name: 'mamba', label: 'Mamba', config: withMamba(0) },
  { name: 'mamba2', label: 'Mamba-2', config: withMamba2(0) },
  {
    name: 'rwkv7',
    label: 'RWKV-7',
    config: (d, dFf) => ({
      model_type: 'rwkv7',
      vocab_size: d.vocabulary,
      n_embd: d.dModel,
      n_layer: d.layers,
      head_size: HEAD_DIM,
      dim_ffn: dFf,
      tie_word_embeddings: true,
    }),
  },
  {
    name: 'retnet',
    label: 'RetNet',
    config: (d, dFf) => ({
      model_type: 'retnet_torchscale',
      vocab_size: d.vocabulary,
      decoder_embed_dim: d.dModel,
      decoder_value_embed_dim: 2 * d.dModel,
      decoder_retention_heads: d.dModel / HEAD_DIM,
      decoder_ffn_embed_dim: dFf,
      decoder_layers: d.layers,
      activation_fn: 'swish',
      share_decoder_input_output_embed: true,
    }),
  },
  ...RATIOS.map((n) => ({
    name: `mamba-1:${n}`,
    label: `attention:Mamba 1:${n}`,
    period: n + 1,
    config: withMamba(n + 1),
  })),
  ...RATIOS.map((n) => ({
    name: `mamba2-1:${n}`,
    label: `attention:Mamba-2 1:${n}`,
    period: n + 1,
    config: withMamba2(n + 1),
  })),
];

export interface Sized {
  name: string;
  label: string;
  config: Record<string, unknown>;
  parameters: number;
}

/** The width of the feed-forward that brings a contender nearest to a number of parameters, in steps of 8. */
export function sized(library: Library, contender: Contender, d: Size, parameters: number): Sized {
  const count = (dFf: number) => library.describeModel(contender.config(d, dFf)).parameters.total;
  const [narrow, wide] = [count(8), count(16)];
  const dFf = 8 * Math.max(1, Math.round(1 + (parameters - narrow) / (wide - narrow)));
  return { ...contender, config: contender.config(d, dFf), parameters: count(dFf) };
}
