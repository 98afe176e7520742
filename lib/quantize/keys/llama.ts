import { f32, u32 } from '../../checkpoint/gguf/pairs.js';
import { StatespaceError } from '../../errors.js';
import type { LlamaConfig } from '../../models/llama.js';
import type { mixtral as mixtralModel } from '../../models/mixtral.js';
import { type ConfigOf, contextLength, expertCounts, headSizes, type Raw, ropeKeys, type Written } from './written.js';

/** Llama, Mistral and Mixtral. */
export function llama(c: LlamaConfig | ConfigOf<typeof mixtralModel>, raw: Raw): Written {
  const { attention: a } = c;
  const rope = ropeKeys(a, raw);
  const rotaryDim = a.rope?.rotaryDim ?? a.headDim;
  if (rotaryDim !== a.headDim)
    throw new StatespaceError(
      'ERR_UNSUPPORTED_MODEL',
      `quantize: GGUF's llama turns whole heads of ${a.headDim} channels, this model ${rotaryDim} of them`,
    );
  const routed = 'experts' in c ? c : undefined;
  const silu = c.activation === 'silu';
  return {
    architecture: 'llama',
    layers: c.nLayers,
    keys: {
      vocab_size: u32(c.vocabSize),
      context_length: contextLength(raw, 2048),
      embedding_length: u32(c.dModel),
      block_count: u32(c.nLayers),
      feed_forward_length: u32(c.dFf),
      'rope.dimension_count': u32(a.headDim),
      'attention.head_count': u32(a.nHeads),
      'attention.head_count_kv': u32(a.nHeadsKv),
      ...headSizes(a, c.dModel, raw),
      ...rope.keys,
      'attention.layer_norm_rms_epsilon': f32(c.eps),
      ...expertCounts(routed?.experts ?? 0, routed?.topK ?? 0),
    },
    config: { head_dim: a.headDim, num_local_experts: routed?.experts ?? 0 },
    beyond: {
      ...rope.beyond,
      ...(a.window !== undefined && { ...(!routed && { model_type: 'mistral' }), sliding_window: a.window }),
      ...(!silu && { hidden_act: raw.hidden_act }),
    },
    notes: [
      ...rope.notes,
      ...(a.window === undefined ? [] : [`it attends beyond the model's window of ${a.window} tokens`]),
      ...(silu ? [] : [`it takes silu for the model's ${String(raw.hidden_act)}`]),
    ],
    ropeDivisors: rope.ropeDivisors,
  };
}
