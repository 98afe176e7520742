import type { Value } from '../graph/graph.js';
import { type Rwkv7Options, rwkv7 as timeMix } from '../layers/rwkv7.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';
import { buildRwkv, type RwkvConfig, readHeads, readOfficial } from './rwkv-stack.js';

interface Rwkv7Config extends RwkvConfig {
  mixer: Rwkv7Options;
}

function readConfig(c: ConfigReader): Rwkv7Config {
  const official = readOfficial(c, 7);
  // The constants D_DECAY_LORA, D_AAA_LORA, D_MV_LORA and D_GATE_LORA of the training code.
  const rank = (key: string) => (c.has(key) ? c.size(key) : undefined);
  const ranks = {
    decay: rank('d_decay_lora'),
    rate: rank('d_aaa_lora'),
    value: rank('d_mv_lora'),
    gate: rank('d_gate_lora'),
  };
  return { ...official, mixer: { ...readHeads(c, official.dModel), ranks } };
}

/** RWKV-7, Goose (Peng et al. 2025), in the names of its official checkpoints. */
export const rwkv7: ModelDefinition<Rwkv7Config> = {
  modelTypes: ['rwkv7'],
  config: readConfig,
  build: (g, w, c) => {
    let firstValues: Value | undefined;
    return buildRwkv(g, w, c, (g, x, att, _, residual) => {
      const { y, values } = timeMix(g, x, att, { ...c.mixer, firstValues, residual });
      firstValues ??= values;
      return y;
    });
  },
  vocabSize: (c) => c.vocabSize,
};
