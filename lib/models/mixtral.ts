import { moe } from '../layers/moe.js';
import { onlySilu } from './activation.js';
import type { ModelDefinition } from './definition.js';
import { buildDecoder, type LlamaConfig, readLlamaConfig } from './llama.js';

interface MixtralConfig extends LlamaConfig {
  experts: number;
  topK: number;
}

const NAMES = { router: 'gate', experts: 'experts', gate: 'w1', up: 'w3', down: 'w2' };

/** Mixtral (Jiang et al. 2024) in the layout of Hugging Face transformers: Mistral with routed experts. */
export const mixtral: ModelDefinition<MixtralConfig> = {
  modelTypes: ['mixtral'],
  config(c) {
    const experts = c.size('num_local_experts', 8);
    const topK = c.size('num_experts_per_tok', 2);
    if (topK > experts) throw c.error(`num_experts_per_tok ${topK} exceeds num_local_experts ${experts}`);
    onlySilu(c); // the experts' function
    return { ...readLlamaConfig(c), experts, topK };
  },
  build: (g, w, c) =>
    buildDecoder(g, w, c, (g, h, layer, { dFf }, residual) => {
      const { experts, topK } = c;
      const y = moe(g, h, layer.scope('block_sparse_moe'), { experts, topK, dFf, renormalize: true, names: NAMES });
      return residual ? g.op('add', { a: residual, b: y }) : y;
    }),
  vocabSize: (c) => c.vocabSize,
};
