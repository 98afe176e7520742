import type { Graph, Value } from '../graph/graph.js';

/**
 * One row for a sequence, the mean over its tokens so far: x (tokens, channels) to (sequences, channels). What follows it is
 * computed once for a sequence; a session answers for all rows that it has read.
 */
export function meanPool(g: Graph, x: Value): Value {
  return g.op('meanPool', { x, state: g.state([x.dims[1] as number]) });
}

/**
 * One row for a sequence, the maximum of every channel over its tokens so far: x (tokens, channels) to (sequences,
 * channels); −∞ for an empty one.
 */
export function maxPool(g: Graph, x: Value): Value {
  const channels = x.dims[1] as number;
  const lowest = new Array<number>(channels).fill(Number.NEGATIVE_INFINITY);
  return g.op('maxPool', { x, state: g.state([channels], lowest) });
}
