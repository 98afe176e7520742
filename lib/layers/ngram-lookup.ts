import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
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
  /** What a checkpoint holds and a new model begins with: of each place in an n-gram, and of each head. */
  multipliers: readonly bigint[];
  sizes: readonly number[];
  offsets: readonly number[];
}

/** 64-bit integers as words of 16 bits, lowest first: (…, 4). */
const wordsOf = (integers: readonly (number | bigint)[]): Float32Array =>
  Float32Array.from(new Uint16Array(BigInt64Array.from(integers, BigInt).buffer));

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
  const words = (name: string, integers: readonly (number | bigint)[]) => {
    const source = { name, shape: [integers.length], buffer: true, init: { values: () => wordsOf(integers) } };
    return names.combined([source], [integers.length, 4], { words: true, matrix: false });
  };
  const rows = g.op(
    'ngramEmbedding',
    {
      weight: table(names, o, o.dim / heads),
      multipliers: words('layer_multipliers', o.multipliers),
      sizes: words('ngram_heads_vocab_sizes', o.sizes),
      offsets: words('ngram_heads_offsets', o.offsets),
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
