import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';

export interface BidirectionalOptions {
  /** sum: (tokens, width); concat: (tokens, 2 width), forward first. Default sum. */
  merge?: 'sum' | 'concat';
  residual?: Value;
}

/**
 * A causal layer in both directions of time, each with weights of its own under `forward` and `backward`: x (tokens, …)
 * to what `layer` makes of it. Such a network needs whole sequences: run() it; a session takes one call.
 */
export function bidirectional(
  g: Graph,
  x: Value,
  w: Weights,
  layer: (g: Graph, x: Value, w: Weights) => Value,
  o: BidirectionalOptions = {},
): Value {
  const ahead = layer(g, x, w.scope('forward'));
  const back = g.op('reverse', { x: layer(g, g.op('reverse', { x }), w.scope('backward')) });
  const both = o.merge === 'concat' ? beside(g, ahead, back) : g.op('add', { a: ahead, b: back });
  return o.residual ? g.op('add', { a: o.residual, b: both }) : both;
}

/** Rows of both values as one, (tokens, 2 width). */
function beside(g: Graph, a: Value, b: Value): Value {
  const width = a.dims[1] as number;
  const rows = g.buffer('tokens', 2 * width);
  for (const [i, x] of [a, b].entries()) g.op('activate', { x }, {}, g.view(rows, i * width, width));
  return rows;
}
