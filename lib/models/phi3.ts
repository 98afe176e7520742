import { readActivation } from './activation.js';
import type { ModelDefinition } from './definition.js';
import { readHeads } from './heads-config.js';
import { buildDecoder, dense, type LlamaConfig } from './llama.js';
import { readRope } from './rope-config.js';

/** Phi-3 and Phi-4 (Microsoft 2024): Llama with q, k and v in one projection, gate and up in another. */
export const phi3: ModelDefinition<LlamaConfig> = {
  modelTypes: ['phi3'],
  config(c) {
    const dModel = c.size('hidden_size', 3072);
    const heads = readHeads(c, dModel, { nHeads: 32 });
    for (const key of ['attention_bias', 'mlp_bias', 'lm_head_bias']) c.only(key, false);
    c.ignore('original_max_position_embeddings'); // of scaled rotations, which read it themselves
    return {
      vocabSize: c.size('vocab_size', 32064),
      dModel,
      dFf: c.size('intermediate_size', 8192),
      nLayers: c.size('num_hidden_layers', 32),
      eps: c.number('rms_norm_eps', 1e-5),
      tied: c.boolean('tie_word_embeddings', false),
      mlpBias: false,
      activation: readActivation(c),
      attention: {
        ...heads,
        fused: 'qkv_proj',
        window: c.has('sliding_window') ? c.size('sliding_window') : undefined,
        rope: readRope(c, heads.headDim, {
          partial: 1,
          trained: 4096,
          longest: 4096,
          words: { su: 'longrope', yarn: 'longrope' },
        }),
      },
      fusedMlp: 'gate_up_proj',
    };
  },
  build: (g, w, c) => buildDecoder(g, w, c, dense),
  vocabSize: (c) => c.vocabSize,
};
