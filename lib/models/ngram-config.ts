import { show } from '../errors.js';
import type { Lookup } from '../layers/ngram-lookup.js';
import type { ConfigReader } from './config.js';

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

const u64 = (n: bigint): bigint => BigInt.asUintN(64, n);
const GAMMA = 0x9e3779b97f4a7c15n;

/** The number that SplitMix64 (Steele, Lea and Flood 2014) gives in this state. */
function splitMix64(state: bigint): bigint {
  let z = u64(state + GAMMA);
  z = u64((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
  z = u64((z ^ (z >> 27n)) * 0x94d049bb133111ebn);
  return z ^ (z >> 31n);
}

/** Odd numbers so small that a token by one of them is no more than 63 bits, as transformers draws them. */
function drawMultipliers(gram: number, seed: number, place: number, vocabSize: number): bigint[] {
  const most = ((1n << 63n) - 1n) / BigInt(vocabSize) / 2n;
  const begin = BigInt(seed) + 10007n * BigInt(place);
  return Array.from({ length: gram }, (_, i) => 2n * (splitMix64(u64(begin + GAMMA * BigInt(i + 1))) % most) + 1n);
}

/** Lookups by layer, from 0; the config counts from 1. */
export function readLookups(
  c: ConfigReader,
  nLayers: number,
  kinds: readonly string[],
  vocabSize: number,
): Map<number, Lookup> {
  const ids = c.any('ple_layer_ids') ?? [];
  const keys = ['ple_embed_dim', 'ple_conv_kernel_size', 'ngram_size', 'heads_per_ngram', 'ngram_vocab_size_base'];
  keys.push('make_ngram_vocab_size_divisible_by', 'split_ngram_parts');
  if (!Array.isArray(ids) || ids.some((id) => !Number.isInteger(id) || id < 1 || id > nLayers))
    throw c.error(`ple_layer_ids: expected layers from 1 to ${nLayers}, received ${show(ids)}`);
  if (ids.length === 0) {
    c.ignore(...keys, 'seed');
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
  const seed = c.integer('seed', 1234);
  const sizes = primes(base, heads * ids.length);
  const lookups = ids.map((id: number, p: number): [number, Lookup] => {
    if (kinds[id - 1] !== 'linear_attention')
      throw c.error(`ple_layer_ids: layer ${id} is ${kinds[id - 1]}; must be linear_attention`);
    const own = sizes.slice(p * heads, (p + 1) * heads);
    let total = 0;
    const offsets = own.map((size) => {
      total += size;
      return total - size;
    });
    const step = multiple * shards;
    const table = { shards, rows: Math.ceil(total / step) * step, sizes: own, offsets };
    const multipliers = drawMultipliers(gram, seed, p, vocabSize);
    return [id - 1, { gram, perGram, dim, taps, eos, ...table, multipliers }];
  });
  return new Map(lookups);
}
