import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { checkKinds, type Kinds, oneOf, value } from './kinds.js';
import { concat } from './linear.js';

/** Of {@link bidirectional}. */
export interface BidirectionalOptions {
  /** sum: (tokens, width); concat: (tokens, 2 width), forward first. Default sum. */
  merge?: 'sum' | 'concat' | undefined;
  residual?: Value | undefined;
}

const BIDIRECTIONAL: Kinds<BidirectionalOptions> = { merge: oneOf('sum', 'concat'), residual: value };

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
  checkKinds('layers.bidirectional', o, BIDIRECTIONAL);
  const ahead = layer(g, x, w.scope('forward'));
  const back = g.op('reverse', { x: layer(g, g.op('reverse', { x }), w.scope('backward')) });
  const both = o.merge === 'concat' ? concat(g, [ahead, back]) : g.op('add', { a: ahead, b: back });
  return o.residual ? g.op('add', { a: o.residual, b: both }) : both;
}
