import { u32 } from '../../checkpoint/gguf/pairs.js';
import { StatespaceError } from '../../errors.js';
import type { LlamaConfig } from '../../models/llama.js';
import type { mixtral as mixtralModel } from '../../models/mixtral.js';
import {
  activationKeys,
  type ConfigOf,
  decoderKeys,
  expertCounts,
  type Raw,
  ropeKeys,
  SILU,
  type Written,
} from './written.js';

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
  const act = activationKeys(c.activation, SILU, raw);
  return {
    architecture: 'llama',
    layers: c.nLayers,
    keys: {
      'rope.dimension_count': u32(a.headDim),
      ...decoderKeys(c, raw, rope, 2048),
      ...expertCounts(routed?.experts ?? 0, routed?.topK ?? 0),
    },
    config: { head_dim: a.headDim, num_local_experts: routed?.experts ?? 0 },
    beyond: {
      ...rope.beyond,
      ...(a.window !== undefined && { ...(!routed && { model_type: 'mistral' }), sliding_window: a.window }),
      ...act.beyond,
    },
    notes: [
      ...rope.notes,
      ...(a.window === undefined ? [] : [`it attends beyond the model's window of ${a.window} tokens`]),
      ...act.notes,
    ],
    ropeDivisors: rope.ropeDivisors,
  };
}
