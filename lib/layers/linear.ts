import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';

export type Activation =
  | 'none'
  | 'silu'
  | 'gelu'
  | 'gelu-tanh'
  | 'sigmoid'
  | 'tanh'
  | 'relu'
  | 'relu2'
  | 'exp'
  | 'softplus';

export interface LinearOptions {
  bias?: boolean;
  /** Added to the result. */
  residual?: Value;
  activation?: Activation;
}

const width = (x: Value): number => x.dims[x.dims.length - 1] as number;

/**
 * y = act(x·Wᵀ + b) + residual: x (tokens, inFeatures) to (tokens, outFeatures). Weights: `name.weight` (outFeatures,
 * inFeatures) and, with `bias`, `name.bias` (outFeatures).
 */
export function linear(
  g: Graph,
  x: Value,
  w: Weights,
  name: string,
  outFeatures: number,
  options: LinearOptions = {},
): Value {
  return linearBy(
    g,
    x,
    w.tensor(`${name}.weight`, [outFeatures, width(x)]),
    options.bias ? w.tensor(`${name}.bias`, [outFeatures], { init: 'zeros' }) : undefined,
    options,
  );
}

/** {@link linear} with weights at hand: weight (outFeatures, inFeatures), bias (outFeatures); x (tokens, inFeatures). */
export function linearBy(g: Graph, x: Value, weight: Value, bias?: Value, options: LinearOptions = {}): Value {
  return g.op('linear', { x, weight, bias, residual: options.residual }, { activation: options.activation });
}

/** Token ids in, (tokens, dModel) out: y_t = scale · W[id_t], weight (vocabSize, dModel). */
export function embedding(g: Graph, weight: Value, scale = 1): Value {
  return g.op('embedding', { weight }, { scale });
}

/**
 * The next-token head: x (tokens, dModel) to logits (outputs, vocabSize) of the rows that the caller asked for. weight
 * (vocabSize, dModel), bias (vocabSize).
 */
export function head(g: Graph, x: Value, weight: Value, bias?: Value): Value {
  return linearBy(g, g.op('selectRows', { x }), weight, bias);
}
