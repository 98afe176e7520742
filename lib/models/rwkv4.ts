import { rwkv4 as timeMix } from '../layers/rwkv4.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';
import { buildRwkv, keyOf, type RwkvConfig, readOfficial, readRescale } from './rwkv-stack.js';

interface Rwkv4Config extends RwkvConfig {
  dAtt: number;
  /** The checkpoint is expected under the names of Hugging Face transformers. */
  transformers: boolean;
}

function readTransformers(c: ConfigReader): Rwkv4Config {
  const dModel = c.size('hidden_size', 4096);
  c.ignore('context_length');
  return {
    version: 4,
    transformers: true,
    vocabSize: c.size('vocab_size', 50277),
    dModel,
    dAtt: c.size('attention_hidden_size', dModel),
    dFf: c.size('intermediate_size', 4 * dModel),
    nLayers: c.size('num_hidden_layers', 32),
    eps: c.number('layer_norm_epsilon', 1e-5),
    finalEps: 1e-5, // transformers gives ln_out none of its own
    tied: c.boolean('tie_word_embeddings', false),
    rescaleEvery: readRescale(c, 6),
  };
}

function readConfig(c: ConfigReader): Rwkv4Config {
  if (c.modelType === 'rwkv') return readTransformers(c);
  c.only('head_size', null); // version 4 has no heads
  c.only('head_size_divisor', null);
  const official = readOfficial(c, 4);
  return { ...official, transformers: false, dAtt: c.size('dim_att', official.dModel) };
}

/** RWKV-4 (Peng et al. 2023), official checkpoints (`rwkv4`) and those of Hugging Face transformers (`rwkv`). */
export const rwkv4: ModelDefinition<Rwkv4Config> = {
  modelTypes: ['rwkv', 'rwkv4'],
  config: readConfig,
  build: (g, w, c) => buildRwkv(g, w, c, (g, x, att, _, residual) => timeMix(g, x, att, { dAtt: c.dAtt, residual })),
  key: (name, c, has) => keyOf(name, c.transformers, has),
  vocabSize: (c) => c.vocabSize,
};
