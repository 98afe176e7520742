import type { ConfigReader } from './config.js';

export interface Heads {
  nHeads: number;
  nHeadsKv: number;
  headDim: number;
}

/**
 * num_attention_heads, num_key_value_heads and head_dim. Where the config lacks them: `standard`, else as many of keys as
 * of queries (which null says as well), and a head's share of the width.
 */
export function readHeads(c: ConfigReader, dModel: number, standard: Partial<Heads> & { nHeads: number }): Heads {
  const nHeads = c.size('num_attention_heads', standard.nHeads);
  const missing = 'num_key_value_heads' in c.raw ? nHeads : (standard.nHeadsKv ?? nHeads);
  const nHeadsKv = c.size('num_key_value_heads', missing);
  if (!c.has('head_dim') && standard.headDim === undefined && dModel % nHeads !== 0)
    throw c.error(`hidden_size ${dModel} is no multiple of num_attention_heads ${nHeads}`);
  if (nHeads % nHeadsKv !== 0)
    throw c.error(`num_attention_heads ${nHeads} is no multiple of num_key_value_heads ${nHeadsKv}`);
  const shared = standard.headDim ?? Math.floor(dModel / nHeads);
  return { nHeads, nHeadsKv, headDim: c.size('head_dim', shared) };
}
