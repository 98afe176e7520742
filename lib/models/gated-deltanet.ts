import { type DeltaNetOptions, deltaNet } from '../layers/delta-net.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';
import { buildFla, type FlaConfig, readFla } from './fla-config.js';

interface GatedDeltaNetConfig extends FlaConfig {
  mixer: DeltaNetOptions;
}

function readConfig(c: ConfigReader): GatedDeltaNetConfig {
  const shared = readFla(c, { nLayers: 21, eps: 1e-6 });
  const nKeyHeads = c.size('num_heads', 6);
  const nValueHeads = c.size('num_v_heads', nKeyHeads);
  if (nValueHeads % nKeyHeads !== 0)
    throw c.error(`num_v_heads ${nValueHeads} is no multiple of num_heads ${nKeyHeads}`);
  const keyDim = c.size('head_dim', 256);
  return {
    ...shared,
    mixer: {
      nKeyHeads,
      nValueHeads,
      keyDim,
      valueDim: c.multiple('expand_v', keyDim, 2),
      dConv: c.size('conv_size', 4),
      convolves: c.boolean('use_short_conv', true),
      gated: c.boolean('use_gate', true),
      betaFactor: c.boolean('allow_neg_eigval', false) ? 2 : 1,
      eps: shared.eps,
    },
  };
}

/** Gated DeltaNet (Yang et al. 2024) in the layout of flash-linear-attention. */
export const gatedDeltaNet: ModelDefinition<GatedDeltaNetConfig> = {
  modelTypes: ['gated_deltanet'],
  config: readConfig,
  build: (g, w, c) => buildFla(g, w, c, (g, h, attn, residual) => deltaNet(g, h, attn, { ...c.mixer, residual })),
  vocabSize: (c) => c.vocabSize,
};
