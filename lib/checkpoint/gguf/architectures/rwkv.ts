import { type Architecture, fused, type Pairing, pair, shaped, turned, withBias } from '../architecture.js';
import { layerNumbers } from './mamba.js';

/** What versions 6 and 7 have in common, in the names of the official releases. */
function common(layers: number): Pairing[] {
  return [
    pair('token_embd.weight', 'emb.weight'),
    ...withBias('token_embd_norm', 'blocks.0.ln0'),
    ...withBias('output_norm', 'ln_out'),
    pair('output.weight', 'head.weight'),
    ...layerNumbers(layers).flatMap((i) => [
      ...withBias(`blk.${i}.attn_norm`, `blocks.${i}.ln1`),
      ...withBias(`blk.${i}.attn_norm_2`, `blocks.${i}.ln2`),
      ...withBias(`blk.${i}.time_mix_ln`, `blocks.${i}.att.ln_x`),
      ...['receptance', 'key', 'value', 'output'].map((x) =>
        pair(`blk.${i}.time_mix_${x}.weight`, `blocks.${i}.att.${x}.weight`),
      ),
      ...['key', 'value'].map((x) => pair(`blk.${i}.channel_mix_${x}.weight`, `blocks.${i}.ffn.${x}.weight`)),
    ]),
  ];
}

/** A vector that the releases keep as (1, 1, channels). */
const flat = (gguf: string, hf: string): Pairing =>
  shaped(
    gguf,
    hf,
    (shape) => [1, 1, shape.reduce((a, b) => a * b, 1)],
    (shape) => [shape.reduce((a, b) => a * b, 1)],
  );

export const rwkv6: Architecture = {
  name: 'rwkv6',
  modelTypes: ['rwkv6'],
  config(keys, tensors) {
    const every = keys.count('rescale_every_n_layers', 0);
    return {
      model_type: 'rwkv6',
      n_layer: keys.layers,
      n_embd: keys.count('embedding_length'),
      head_size: keys.count('wkv.head_size'),
      head_size_divisor: 8, // llama.cpp: 64e-5 behind every head
      dim_ffn: keys.count('feed_forward_length'),
      layer_norm_epsilon: keys.number('attention.layer_norm_epsilon'),
      tie_word_embeddings: !tensors.has('output.weight'),
      // The weights that write to the stream are stored divided, so the stream is to be halved along.
      ...(every > 0 && { rescale_every: every, rescaled: true }),
    };
  },
  pairings: (_, layers) => [
    ...common(layers),
    ...layerNumbers(layers).flatMap((i) => {
      const [blk, att] = [`blk.${i}`, `blocks.${i}.att`];
      return [
        flat(`${blk}.time_mix_lerp_x.weight`, `${att}.time_maa_x`),
        fused(
          `${blk}.time_mix_lerp_fused.weight`,
          ['w', 'k', 'v', 'r', 'g'].map((x) => `${att}.time_maa_${x}`),
        ),
        turned(`${blk}.time_mix_w1.weight`, `${att}.time_maa_w1`),
        turned(`${blk}.time_mix_w2.weight`, `${att}.time_maa_w2`),
        flat(`${blk}.time_mix_decay.weight`, `${att}.time_decay`),
        turned(`${blk}.time_mix_decay_w1.weight`, `${att}.time_decay_w1`),
        turned(`${blk}.time_mix_decay_w2.weight`, `${att}.time_decay_w2`),
        pair(`${blk}.time_mix_first.weight`, `${att}.time_faaaa`),
        pair(`${blk}.time_mix_gate.weight`, `${att}.gate.weight`),
        flat(`${blk}.channel_mix_lerp_k.weight`, `blocks.${i}.ffn.time_maa_k`),
        flat(`${blk}.channel_mix_lerp_r.weight`, `blocks.${i}.ffn.time_maa_r`),
        pair(`${blk}.channel_mix_receptance.weight`, `blocks.${i}.ffn.receptance.weight`),
      ];
    }),
  ],
};

export const rwkv7: Architecture = {
  name: 'rwkv7',
  modelTypes: ['rwkv7'],
  config: (keys, tensors) => ({
    model_type: 'rwkv7',
    n_layer: keys.layers,
    n_embd: keys.count('embedding_length'),
    head_size: keys.count('wkv.head_size'),
    head_size_divisor: 8, // 64e-5 whatever the size of a head
    dim_ffn: keys.count('feed_forward_length'),
    layer_norm_epsilon: keys.number('attention.layer_norm_epsilon'),
    tie_word_embeddings: !tensors.has('output.weight'),
  }),
  pairings: (config, layers) => [
    ...common(layers),
    ...layerNumbers(layers).flatMap((i) => {
      const [blk, att] = [`blk.${i}`, `blocks.${i}.att`];
      const lowRank = ['w', 'a', 'g', ...(i > 0 ? ['v'] : [])];
      return [
        fused(
          `${blk}.time_mix_lerp_fused.weight`,
          ['r', 'w', 'k', 'v', 'a', 'g'].map((x) => `${att}.x_${x}`),
        ),
        ...lowRank.filter((x) => x !== 'g').map((x) => flat(`${blk}.time_mix_${x}0.weight`, `${att}.${x}0`)),
        ...lowRank.flatMap((x) => [1, 2].map((n) => turned(`${blk}.time_mix_${x}${n}.weight`, `${att}.${x}${n}`))),
        flat(`${blk}.time_mix_k_k.weight`, `${att}.k_k`),
        flat(`${blk}.time_mix_k_a.weight`, `${att}.k_a`),
        shaped(
          `${blk}.time_mix_r_k.weight`,
          `${att}.r_k`,
          ([n]) => [n! / (config.head_size as number), config.head_size as number],
          (shape) => [shape.reduce((a, b) => a * b, 1)],
        ),
        flat(`${blk}.channel_mix_lerp_k.weight`, `blocks.${i}.ffn.x_k`),
      ];
    }),
  ],
  // Copies of a0, a1 and a2: the first layer has no values to mix with.
  unread: (name) => /^blk\.0\.time_mix_v[012]\.weight$/.test(name),
};
