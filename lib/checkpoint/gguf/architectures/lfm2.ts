import { type Architecture, conv, experts, type Pairing, pair } from '../architecture.js';
import { hybridHeads } from './granite.js';
import { ropeParameters } from './llama.js';
import { layerNumbers } from './mamba.js';

/** llama.cpp's number for scores of experts by a sigmoid. */
const SIGMOID = 2;
const MATRICES = { gate: 'w1', up: 'w3', down: 'w2' };

function feedForward(blk: string, ff: string, count: number): Pairing[] {
  return [
    ...Object.entries(MATRICES).flatMap(([x, w]) => [
      pair(`${blk}.ffn_${x}.weight`, `${ff}.${w}.weight`),
      experts(`${blk}.ffn_${x}_exps.weight`, count, (e) => `${ff}.experts.${e}.${w}.weight`),
    ]),
    pair(`${blk}.ffn_gate_inp.weight`, `${ff}.gate.weight`),
    pair(`${blk}.exp_probs_b.bias`, `${ff}.expert_bias`),
  ];
}

const lfm2Of = (name: 'lfm2' | 'lfm2moe'): Architecture => ({
  name,
  modelTypes: [name === 'lfm2' ? 'lfm2' : 'lfm2_moe'],
  async config(keys, tensors) {
    const { config, kv } = hybridHeads(keys);
    const routed = name === 'lfm2moe';
    keys.withoutWindows('LFM2 with windows');
    const gating = keys.count('expert_gating_func', SIGMOID);
    if (routed && gating !== SIGMOID)
      throw keys.error('expert_gating_func', `expected ${SIGMOID}, the sigmoid of LFM2-MoE, received ${gating}`);
    return {
      model_type: routed ? 'lfm2_moe' : 'lfm2',
      ...config,
      layer_types: kv.map((n) => (n > 0 ? 'full_attention' : 'conv')),
      conv_L_cache: keys.count('shortconv.l_cache'),
      conv_bias: [...tensors.keys()].some((t) => t.endsWith('.shortconv.conv.bias')),
      intermediate_size: keys.count('feed_forward_length'),
      norm_eps: keys.number('attention.layer_norm_rms_epsilon'),
      rope_parameters: await ropeParameters(keys, tensors),
      tie_word_embeddings: !tensors.has('output.weight'),
      ...(routed
        ? {
            num_dense_layers: keys.count('leading_dense_block_count', 0),
            num_experts: keys.count('expert_count'),
            num_experts_per_tok: keys.count('expert_used_count'),
            moe_intermediate_size: keys.count('expert_feed_forward_length'),
            norm_topk_prob: keys.boolean('expert_weights_norm', true),
            routed_scaling_factor: keys.number('expert_weights_scale', 1),
            use_expert_bias: [...tensors.keys()].some((t) => t.endsWith('.exp_probs_b.bias')),
          }
        : { block_auto_adjust_ff_dim: false }), // the file has the width that the adjustment made
    };
  },
  pairings: (config, layers) => [
    pair('token_embd.weight', 'model.embed_tokens.weight'),
    pair('token_embd_norm.weight', 'model.embedding_norm.weight'),
    pair('output.weight', 'lm_head.weight'),
    ...layerNumbers(layers).flatMap((i) => {
      const [blk, hf] = [`blk.${i}`, `model.layers.${i}`];
      return [
        pair(`${blk}.attn_norm.weight`, `${hf}.operator_norm.weight`),
        pair(`${blk}.ffn_norm.weight`, `${hf}.ffn_norm.weight`),
        conv(`${blk}.shortconv.conv.weight`, `${hf}.conv.conv.weight`),
        pair(`${blk}.shortconv.conv.bias`, `${hf}.conv.conv.bias`),
        ...['in_proj', 'out_proj'].flatMap((x) =>
          ['weight', 'bias'].map((what) => pair(`${blk}.shortconv.${x}.${what}`, `${hf}.conv.${x}.${what}`)),
        ),
        ...['q', 'k', 'v'].map((x) => pair(`${blk}.attn_${x}.weight`, `${hf}.self_attn.${x}_proj.weight`)),
        pair(`${blk}.attn_output.weight`, `${hf}.self_attn.out_proj.weight`),
        ...['q', 'k'].map((x) => pair(`${blk}.attn_${x}_norm.weight`, `${hf}.self_attn.${x}_layernorm.weight`)),
        ...feedForward(blk, `${hf}.feed_forward`, (config.num_experts as number | undefined) ?? 0),
      ];
    }),
  ],
});

export const lfm2 = lfm2Of('lfm2');
export const lfm2moe = lfm2Of('lfm2moe');
