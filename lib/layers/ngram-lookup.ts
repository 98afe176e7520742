import { show } from '../errors.js';
import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import type { ConfigReader } from '../models/config.js';
import { linear } from './linear.js';

/** Rows of a table for the n-grams that end in a token, added to every stream of a layer (Qwen4's ple). */
export interface Lookup {
  /** Longest n-gram; 2 … gram are looked up. */
  gram: number;
  perGram: number;
  /** Width of all heads' rows together. */
  dim: number;
  taps: number;
  eos: number;
  rows: number;
  shards: number;
}

function isPrime(n: number): boolean {
  for (let d = 2; d * d <= n; d++) if (n % d === 0) return false;
  return n > 1;
}

/** The first `count` primes from `from` on. */
function primes(from: number, count: number): number[] {
  const found: number[] = [];
  for (let n = from; found.length < count; n++) if (isPrime(n)) found.push(n);
  return found;
}

/** Lookups by layer, from 0; the config counts from 1. */
export function readLookups(c: ConfigReader, nLayers: number, kinds: readonly string[]): Map<number, Lookup> {
  const ids = c.any('ple_layer_ids') ?? [];
  const keys = ['ple_embed_dim', 'ple_conv_kernel_size', 'ngram_size', 'heads_per_ngram', 'ngram_vocab_size_base'];
  keys.push('make_ngram_vocab_size_divisible_by', 'split_ngram_parts');
  if (!Array.isArray(ids) || ids.some((id) => !Number.isInteger(id) || id < 1 || id > nLayers))
    throw c.error(`ple_layer_ids: expected layers from 1 to ${nLayers}, received ${show(ids)}`);
  if (ids.length === 0) {
    c.ignore(...keys);
    return new Map();
  }
  const eos = [c.any('eos_token_id')].flat()[0];
  if (typeof eos !== 'number')
    throw c.error(`eos_token_id: expected a token id with ple_layer_ids, received ${show(eos)}`);
  const gram = c.size('ngram_size', 3);
  const perGram = c.size('heads_per_ngram', 8);
  const dim = c.size('ple_embed_dim');
  const heads = (gram - 1) * perGram;
  if (gram < 2 || gram > 16) throw c.error(`ngram_size: expected 2 to 16, received ${gram}`);
  if (dim % heads !== 0) throw c.error(`ple_embed_dim ${dim} is no multiple of its ${heads} heads`);
  if (heads * ids.length > 4096) throw c.error(`heads_per_ngram ${perGram}: expected at most 4,096 tables in all`);
  const base = c.size('ngram_vocab_size_base');
  if (base > 2 ** 31) throw c.error(`ngram_vocab_size_base ${base} exceeds 2^31`);
  const multiple = c.size('make_ngram_vocab_size_divisible_by', 1);
  const shards = c.size('split_ngram_parts', 1);
  const taps = c.size('ple_conv_kernel_size', 4);
  const sizes = primes(base, heads * ids.length);
  const lookups = ids.map((id: number, p: number): [number, Lookup] => {
    if (kinds[id - 1] !== 'linear_attention')
      throw c.error(`ple_layer_ids: layer ${id} is ${kinds[id - 1]}; must be linear_attention`);
    const total = sizes.slice(p * heads, (p + 1) * heads).reduce((a, b) => a + b, 0);
    const step = multiple * shards;
    return [id - 1, { gram, perGram, dim, taps, eos, shards, rows: Math.ceil(total / step) * step }];
  });
  return new Map(lookups);
}

/** The stored shape of a shard may have been padded otherwise: what the checkpoint holds is right. */
function table(w: Weights, o: Lookup, width: number): Value {
  const names = Array.from({ length: o.shards }, (_, k) => `ngram_embedding.shard_${k}.weight`);
  const parts = names.map((name) => ({ name, shape: [w.stored(name)?.[0] ?? o.rows / o.shards, width] }));
  return w.combined(parts, [parts.reduce((n, p) => n + p.shape[0]!, 0), width]);
}

/** x (tokens, streams · d_model), and what a layer adds to it. */
export function lookedUp(
  g: Graph,
  x: Value,
  w: Weights,
  o: Lookup,
  c: { streams: number; dModel: number; eps: number },
): Value {
  const { streams: n, dModel: d } = c;
  const heads = (o.gram - 1) * o.perGram;
  const names = w.scope('ple_embedding');
  const words = (name: string, count: number) =>
    names.combined([{ name, shape: [count], buffer: true, init: 'ones' }], [count, 4], { words: true, matrix: false });
  const rows = g.op(
    'ngramEmbedding',
    {
      weight: table(names, o, o.dim / heads),
      multipliers: words('layer_multipliers', o.gram),
      sizes: words('ngram_heads_vocab_sizes', heads),
      offsets: words('ngram_heads_offsets', heads),
      state: g.state([o.gram - 1]),
    },
    { eos: o.eos, perGram: o.perGram },
  );
  const e = g.reshape(rows, o.dim);
  const unit = (v: Value, name: string) =>
    g.op(
      'rmsNorm',
      { x: v, weight: w.tensor(`${name}.weight`, [n * d], { init: 'zeros' }) },
      { eps: c.eps, unitOffset: true, groupSize: d },
    );
  const k = g.reshape(unit(linear(g, e, w, 'key_proj', n * d), 'norm_key'), n, d);
  const q = g.reshape(unit(x, 'norm_query'), n, d);
  const values = g.reshape(g.op('streamGate', { q, k, v: linear(g, e, w, 'value_proj', d) }), n * d);
  // Taps stand `gram` tokens apart: zeros between them.
  const taps = (o.taps - 1) * o.gram + 1;
  const weight = w.tensor('conv1d.weight', [n * d, taps], {
    stored: [n * d, 1, o.taps],
    matrix: false,
    init: 'zeros',
    transform: ([all]) =>
      Float32Array.from({ length: n * d * taps }, (_, i) => {
        const [channel, tap] = [Math.floor(i / taps), i % taps];
        return tap % o.gram === 0 ? all![channel * o.taps + tap / o.gram]! : 0;
      }),
  });
  const mixed = g.op(
    'causalConv1d',
    { x: unit(values, 'norm_conv'), weight, state: g.state([n * d, taps - 1]) },
    { activation: 'silu' },
  );
  return g.op('add', { a: values, b: mixed });
}
