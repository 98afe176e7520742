import type { Graph, Value } from '../graph/graph.js';

/** What queries choose the keys by that they see (DeepSeek's lightning indexer and its descendants). */
export interface Indexer {
  /** (tokens, indexHeads, indexDim), ready for the product. */
  q: Value;
  /** A weight for every head, (tokens, indexHeads); default 1. */
  weights?: Value | undefined;
  /** The cache of the rows that blocks' keys are made of. */
  keys: Value;
  /** Tokens of a block, and blocks that a query sees besides its last, incomplete one. */
  blockSize: number;
  topBlocks: number;
  scale: number;
  eps?: number | undefined;
  /** How a block's key comes about: RMSNorm (1 + norm) of the mean, rotated by freq; or gated by [key | gate] rows. */
  norm?: Value | undefined;
  freq?: Value | undefined;
  ape?: Value | undefined;
}

export interface SparseAttentionOptions {
  scale: number;
  window?: number | undefined;
  /** Biases by distance: rel (tokens, nHeads, r) times proj (r, extent). */
  relative?: { rel: Value; proj: Value } | undefined;
  logFloor?: number | undefined;
  logAlpha?: number | undefined;
  indexer?: Indexer | undefined;
}

/** A cache of one row (tokens, width) for every token, the rows of this call in it. */
export function cacheRows(g: Graph, rows: Value): Value {
  const width = rows.dims.slice(1).reduce<number>((n, d) => n * (d as number), 1);
  const pages = g.cache(1, width);
  const k = g.reshape(rows, 1, width);
  g.op('cacheAppend', { k, v: k, kPages: pages, vPages: pages });
  return pages;
}

/** The op sparseAttention over caches k and v: q (tokens, nHeads, headDim), same shape out. */
export function sparseAttend(g: Graph, q: Value, k: Value, v: Value, o: SparseAttentionOptions): Value {
  const { indexer, relative } = o;
  return g.op(
    'sparseAttention',
    {
      ...{ q, k, v, rel: relative?.rel, relProj: relative?.proj },
      ...{ indexQ: indexer?.q, indexWeights: indexer?.weights, indexKeys: indexer?.keys },
      ...{ indexNorm: indexer?.norm, indexFreq: indexer?.freq, indexApe: indexer?.ape },
    },
    {
      ...{ scale: o.scale, window: o.window, logFloor: o.logFloor, logAlpha: o.logAlpha },
      ...{ blockSize: indexer?.blockSize, topBlocks: indexer?.topBlocks },
      ...{ indexScale: indexer?.scale, indexEps: indexer?.eps },
    },
  );
}
