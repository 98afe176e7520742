import { rwkv5 as eagle, rwkv6 as finch, type Rwkv6Options } from '../layers/rwkv6.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';
import { buildRwkv, keyOf, type RwkvConfig, readHeads, readOfficial, readTransformers } from './rwkv-stack.js';

interface Rwkv6Config extends RwkvConfig {
  mixer: Rwkv6Options;
  /** The checkpoint is expected under the names of Hugging Face transformers. */
  transformers?: boolean;
}

function readConfig(c: ConfigReader): Rwkv6Config {
  const version = c.modelType === 'rwkv5' ? 5 : 6;
  if (c.has('hidden_size') && !c.has('n_embd')) {
    const { dAtt, ...read } = readTransformers(c, version);
    return { ...read, transformers: true, mixer: readHeads(c, dAtt) };
  }
  const official = readOfficial(c, version);
  const mixer: Rwkv6Options = readHeads(c, c.size('dim_att', official.dModel));
  if (version === 6) {
    // The constants D_MIX_LORA and D_DECAY_LORA of the training code.
    if (c.has('d_mix_lora')) mixer.mixRank = c.size('d_mix_lora');
    if (c.has('d_decay_lora')) mixer.decayRank = c.size('d_decay_lora');
  }
  return { ...official, mixer };
}

/**
 * RWKV-5.2, Eagle, and RWKV-6, Finch (Peng et al. 2024), in the names of their official checkpoints and in those of their
 * ports to transformers.
 */
export const rwkv6: ModelDefinition<Rwkv6Config> = {
  modelTypes: ['rwkv5', 'rwkv6'],
  config: readConfig,
  build: (g, w, c) => {
    const timeMix = c.version === 5 ? eagle : finch;
    return buildRwkv(g, w, c, (g, x, att, _, residual) => timeMix(g, x, att, { ...c.mixer, residual }));
  },
  key: (name, c, has) => keyOf(name, c.transformers ?? false, has),
  vocabSize: (c) => c.vocabSize,
};
