import { readActivation } from './activation.js';
import type { ModelDefinition } from './definition.js';
import { readHeads } from './heads-config.js';
import { buildDecoder, dense, type LlamaConfig } from './llama.js';
import { readRope } from './rope-config.js';

/** OLMo 2 (Ai2 2024): norms behind attention and feed-forward, and over all queries and all keys. */
export const olmo2: ModelDefinition<LlamaConfig> = {
  modelTypes: ['olmo2'],
  config(c) {
    const dModel = c.size('hidden_size', 4096);
    const heads = readHeads(c, dModel, { nHeads: 32 });
    const eps = c.number('rms_norm_eps', 1e-5);
    const bias = c.boolean('attention_bias', false);
    return {
      vocabSize: c.size('vocab_size', 50304),
      dModel,
      dFf: c.size('intermediate_size', 11008),
      nLayers: c.size('num_hidden_layers', 32),
      eps,
      tied: c.boolean('tie_word_embeddings', false),
      mlpBias: false,
      activation: readActivation(c),
      attention: {
        ...heads,
        qkvBias: bias,
        outBias: bias,
        qkNorm: { eps, over: 'projection' },
        rope: readRope(c, heads.headDim),
      },
      norms: 'behind',
    };
  },
  build: (g, w, c) => buildDecoder(g, w, c, dense),
  vocabSize: (c) => c.vocabSize,
};
