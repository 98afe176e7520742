import { type Architecture, experts, type Pairing, pair } from '../architecture.js';
import type { ArchitectureKeys } from '../keys.js';
import { ends, layerNumbers, mambaMixer, mambaSizes } from './mamba.js';

/** Offset and period of a pattern of layers: `layer % period == offset` wherever it is true, nowhere else. */
function patternOf(is: readonly boolean[], keys: ArchitectureKeys, key: string): { offset: number; period: number } {
  const offset = is.indexOf(true);
  if (offset < 0) return { offset: is.length, period: is.length + 1 };
  const second = is.indexOf(true, offset + 1);
  const period = second < 0 ? is.length + 1 : second - offset;
  if (offset >= period || !is.every((yes, i) => yes === (i % period === offset)))
    throw keys.error(key, 'expected layers at one distance from each other, as Jamba has them');
  return { offset, period };
}

/** Experts of layer i, whose number the file says once and whose presence each layer. */
function feedForward(blk: string, ff: string, count: number): Pairing[] {
  return [
    pair(`${blk}.ffn_gate.weight`, `${ff}.gate_proj.weight`),
    pair(`${blk}.ffn_up.weight`, `${ff}.up_proj.weight`),
    pair(`${blk}.ffn_down.weight`, `${ff}.down_proj.weight`),
    pair(`${blk}.ffn_gate_inp.weight`, `${ff}.router.weight`),
    ...['gate', 'up', 'down'].map((x) =>
      experts(`${blk}.ffn_${x}_exps.weight`, count, (e) => `${ff}.experts.${e}.${x}_proj.weight`),
    ),
  ];
}

export const jamba: Architecture = {
  name: 'jamba',
  modelTypes: ['jamba'],
  config(keys, tensors) {
    const { inner, state, kernel, rank } = mambaSizes(keys);
    const hidden = keys.count('embedding_length');
    const kv = keys.perLayer('attention.head_count_kv') ?? [];
    const isAttention = patternOf(
      kv.map((n) => n > 0),
      keys,
      'attention.head_count_kv',
    );
    const count = keys.count('expert_count', 1);
    const isMoe = patternOf(
      kv.map((_, i) => tensors.has(`blk.${i}.ffn_gate_inp.weight`)),
      keys,
      'expert_count',
    );
    return {
      model_type: 'jamba',
      hidden_size: hidden,
      intermediate_size: keys.count('feed_forward_length'),
      num_hidden_layers: keys.layers,
      num_attention_heads: keys.count('attention.head_count'),
      num_key_value_heads: Math.max(1, ...kv),
      attn_layer_offset: isAttention.offset,
      attn_layer_period: isAttention.period,
      num_experts: Math.max(1, count),
      num_experts_per_tok: keys.count('expert_used_count', 1),
      expert_layer_offset: isMoe.offset,
      expert_layer_period: isMoe.period,
      mamba_expand: inner / hidden,
      mamba_d_state: state,
      mamba_d_conv: kernel,
      mamba_dt_rank: rank,
      mamba_proj_bias: [...tensors.keys()].some((name) => name.endsWith('.ssm_in.bias')),
      mamba_conv_bias: [...tensors.keys()].some((name) => name.endsWith('.ssm_conv1d.bias')),
      rms_norm_eps: keys.number('attention.layer_norm_rms_epsilon'),
      max_position_embeddings: keys.count('context_length'),
      tie_word_embeddings: !tensors.has('output.weight'),
    };
  },
  pairings: (config, layers) => [
    ...ends('model.embed_tokens.weight', 'model.final_layernorm.weight'),
    ...layerNumbers(layers).flatMap((i) => {
      const [blk, hf] = [`blk.${i}`, `model.layers.${i}`];
      return [
        pair(`${blk}.attn_norm.weight`, `${hf}.input_layernorm.weight`),
        pair(`${blk}.ffn_norm.weight`, `${hf}.pre_ff_layernorm.weight`),
        ...['q', 'k', 'v'].map((x) => pair(`${blk}.attn_${x}.weight`, `${hf}.self_attn.${x}_proj.weight`)),
        pair(`${blk}.attn_output.weight`, `${hf}.self_attn.o_proj.weight`),
        ...mambaMixer(blk, `${hf}.mamba`),
        ...['dt', 'b', 'c'].map((x) => pair(`${blk}.ssm_${x}_norm.weight`, `${hf}.mamba.${x}_layernorm.weight`)),
        ...feedForward(blk, `${hf}.feed_forward`, config.num_experts as number),
      ];
    }),
  ],
};
