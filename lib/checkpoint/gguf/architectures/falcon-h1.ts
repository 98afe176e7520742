import { type Architecture, pair, withBias } from '../architecture.js';
import { hybridHeads, hybridMamba2 } from './granite.js';
import { ropeParameters } from './llama.js';
import { ends, layerNumbers, mamba2Mixer } from './mamba.js';

/** Falcon-H1: its multipliers are part of the weights in the file. */
export const falconH1: Architecture = {
  name: 'falcon-h1',
  modelTypes: ['falcon_h1'],
  async config(keys, tensors) {
    return {
      model_type: 'falcon_h1',
      ...hybridHeads(keys).config,
      ...hybridMamba2(keys, tensors),
      mamba_d_ssm: keys.count('ssm.inner_size'),
      mamba_rms_norm: tensors.has('blk.0.ssm_norm.weight'),
      mamba_norm_before_gate: false,
      intermediate_size: keys.count('feed_forward_length'),
      rms_norm_eps: keys.number('attention.layer_norm_rms_epsilon'),
      rope_parameters: await ropeParameters(keys, tensors),
      projectors_bias: tensors.has('blk.0.ssm_out.bias'),
      attention_bias: tensors.has('blk.0.attn_q.bias'),
      mlp_bias: tensors.has('blk.0.ffn_up.bias'),
      tie_word_embeddings: !tensors.has('output.weight'),
    };
  },
  pairings: (config, layers) => [
    ...ends('model.embed_tokens.weight', 'model.final_layernorm.weight'),
    ...layerNumbers(layers).flatMap((i) => {
      const [blk, hf] = [`blk.${i}`, `model.layers.${i}`];
      return [
        pair(`${blk}.attn_norm.weight`, `${hf}.input_layernorm.weight`),
        pair(`${blk}.ffn_norm`, `${hf}.pre_ff_layernorm.weight`),
        ...mamba2Mixer(blk, `${hf}.mamba`, (config.mamba_n_groups as number | undefined) ?? 1),
        ...['q', 'k', 'v'].flatMap((x) => withBias(`${blk}.attn_${x}`, `${hf}.self_attn.${x}_proj`)),
        ...withBias(`${blk}.attn_output`, `${hf}.self_attn.o_proj`),
        ...['gate', 'up', 'down'].flatMap((x) => withBias(`${blk}.ffn_${x}`, `${hf}.feed_forward.${x}_proj`)),
      ];
    }),
  ],
};
