import type { Mamba2Options } from '../layers/mamba2.js';
import type { ConfigReader } from './config.js';
import { readLimit } from './mamba2.js';

/**
 * The keys `mamba_*` that Bamba, Granite 4 and Falcon-H1 share. dInner: the width of the scan where that is not
 * mamba_expand · hidden_size.
 */
export function readHybridMamba2(c: ConfigReader, dModel: number, eps: number, dSsm?: number): Mamba2Options {
  const expanded = c.multiple('mamba_expand', dModel, 2);
  const dInner = dSsm ?? expanded;
  const nHeads = c.size('mamba_n_heads', 128);
  const auto = c.any('mamba_d_head') === undefined || c.any('mamba_d_head') === 'auto';
  const headDim = auto ? Math.floor(dInner / nHeads) : c.size('mamba_d_head');
  if (nHeads * headDim !== dInner)
    throw c.error(`mamba_n_heads ${nHeads} · mamba_d_head ${headDim} must be the mixer's width, ${dInner}`);
  const nGroups = c.size('mamba_n_groups', 1);
  if (nHeads % nGroups !== 0) throw c.error(`mamba_n_heads ${nHeads} is no multiple of mamba_n_groups ${nGroups}`);
  // No key of transformers: a GGUF file means the original's norm, over each group by itself.
  const normGroups = c.size('norm_groups', 1);
  if (dInner % normGroups !== 0)
    throw c.error(`the mixer's width ${dInner} is no multiple of norm_groups ${normGroups}`);
  return {
    dInner,
    nHeads,
    headDim,
    nGroups,
    dState: c.size('mamba_d_state', 256),
    dConv: c.size('mamba_d_conv', 4),
    bias: c.boolean('mamba_proj_bias', false),
    convBias: c.boolean('mamba_conv_bias', true),
    dtLimit: readLimit(c, 'time_step_limit'),
    norm: { eps, groupSize: dInner / normGroups },
  };
}
