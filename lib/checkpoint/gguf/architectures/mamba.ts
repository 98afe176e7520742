import { type Architecture, conv, decay, type Pairing, pair, vector, withBias } from '../architecture.js';
import type { ArchitectureKeys } from '../keys.js';

/** Keys of Mamba's mixer, which Jamba has under the same names. */
export function mambaSizes(keys: ArchitectureKeys) {
  return {
    inner: keys.count('ssm.inner_size'),
    state: keys.count('ssm.state_size'),
    kernel: keys.count('ssm.conv_kernel'),
    rank: keys.count('ssm.time_step_rank'),
  };
}

/** The tensors of Mamba's mixer in layer i, under `hf`. */
export function mambaMixer(blk: string, hf: string): Pairing[] {
  return [
    ...withBias(`${blk}.ssm_in`, `${hf}.in_proj`),
    conv(`${blk}.ssm_conv1d.weight`, `${hf}.conv1d.weight`),
    pair(`${blk}.ssm_conv1d.bias`, `${hf}.conv1d.bias`),
    pair(`${blk}.ssm_x.weight`, `${hf}.x_proj.weight`),
    ...withBias(`${blk}.ssm_dt`, `${hf}.dt_proj`),
    decay(`${blk}.ssm_a`, `${hf}.A_log`),
    pair(`${blk}.ssm_d`, `${hf}.D`),
    ...withBias(`${blk}.ssm_out`, `${hf}.out_proj`),
  ];
}

export const layerNumbers = (layers: number): number[] => Array.from({ length: layers }, (_, i) => i);

/** Embedding, final norm and head. */
export function ends(embedding: string, norm: string, head = 'lm_head.weight'): Pairing[] {
  return [pair('token_embd.weight', embedding), pair('output_norm.weight', norm), pair('output.weight', head)];
}

/** Mamba and FalconMamba. */
export const mamba: Architecture = {
  name: 'mamba',
  modelTypes: ['mamba', 'falcon_mamba'],
  config(keys, tensors) {
    const { inner, state, kernel, rank } = mambaSizes(keys);
    const hidden = keys.count('embedding_length');
    const eps = keys.number('attention.layer_norm_rms_epsilon');
    const falcon = keys.boolean('ssm.dt_b_c_rms');
    return {
      model_type: falcon ? 'falcon_mamba' : 'mamba',
      hidden_size: hidden,
      intermediate_size: inner,
      ...(inner % hidden === 0 && { expand: inner / hidden }), // transformers reads a whole number only
      num_hidden_layers: keys.layers,
      state_size: state,
      conv_kernel: kernel,
      time_step_rank: rank,
      layer_norm_epsilon: eps,
      // The file has one epsilon for all norms.
      ...(falcon && { mixer_rms_eps: eps }),
      use_bias: tensors.has('blk.0.ssm_in.bias'),
      use_conv_bias: tensors.has('blk.0.ssm_conv1d.bias'),
      tie_word_embeddings: !tensors.has('output.weight'),
    };
  },
  pairings: (_, layers) => [
    ...ends('backbone.embeddings.weight', 'backbone.norm_f.weight'),
    ...layerNumbers(layers).flatMap((i) => [
      pair(`blk.${i}.attn_norm.weight`, `backbone.layers.${i}.norm.weight`),
      ...mambaMixer(`blk.${i}`, `backbone.layers.${i}.mixer`),
    ]),
  ],
};

/** The tensors of Mamba-2's mixer in layer i, under `hf`. */
export function mamba2Mixer(blk: string, hf: string, groups: number): Pairing[] {
  return [
    ...withBias(`${blk}.ssm_in`, `${hf}.in_proj`),
    conv(`${blk}.ssm_conv1d.weight`, `${hf}.conv1d.weight`),
    pair(`${blk}.ssm_conv1d.bias`, `${hf}.conv1d.bias`),
    pair(`${blk}.ssm_dt.bias`, `${hf}.dt_bias`),
    decay(`${blk}.ssm_a`, `${hf}.A_log`, true),
    vector(`${blk}.ssm_d`, `${hf}.D`, 'each'),
    vector(`${blk}.ssm_norm.weight`, `${hf}.norm.weight`, groups),
    ...withBias(`${blk}.ssm_out`, `${hf}.out_proj`),
  ];
}

export const mamba2: Architecture = {
  name: 'mamba2',
  modelTypes: ['mamba2'],
  config(keys, tensors) {
    const hidden = keys.count('embedding_length');
    const inner = keys.count('ssm.inner_size');
    const heads = keys.count('ssm.time_step_rank');
    const groups = keys.count('ssm.group_count');
    return {
      model_type: 'mamba2',
      hidden_size: hidden,
      expand: inner / hidden,
      num_hidden_layers: keys.layers,
      num_heads: heads,
      head_dim: inner / heads,
      n_groups: groups,
      state_size: keys.count('ssm.state_size'),
      conv_kernel: keys.count('ssm.conv_kernel'),
      layer_norm_epsilon: keys.number('attention.layer_norm_rms_epsilon'),
      use_bias: tensors.has('blk.0.ssm_in.bias'),
      use_conv_bias: tensors.has('blk.0.ssm_conv1d.bias'),
      tie_word_embeddings: !tensors.has('output.weight'),
      // llama.cpp, as mamba_ssm, takes the mean square of each group; transformers that of the whole width.
      ...(groups > 1 && { norm_groups: groups }),
    };
  },
  pairings: (config, layers) => [
    ...ends('backbone.embeddings.weight', 'backbone.norm_f.weight'),
    ...layerNumbers(layers).flatMap((i) => [
      pair(`blk.${i}.attn_norm.weight`, `backbone.layers.${i}.norm.weight`),
      ...mamba2Mixer(`blk.${i}`, `backbone.layers.${i}.mixer`, config.n_groups as number),
    ]),
  ],
};
