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

/** y = act(x·Wᵀ + b) + residual, with W from `name.weight` (outFeatures, inFeatures) and b from `name.bias`. */
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

/** The same with weights at hand. */
export function linearBy(g: Graph, x: Value, weight: Value, bias?: Value, options: LinearOptions = {}): Value {
  return g.op('linear', { x, weight, bias, residual: options.residual }, { activation: options.activation });
}

/** y_t = scale · W[id_t]; W (vocabSize, dModel). */
export function embedding(g: Graph, weight: Value, scale = 1): Value {
  return g.op('embedding', { weight }, { scale });
}

/** The next-token head: logits of the rows that the caller asked for. */
export function head(g: Graph, x: Value, weight: Value, bias?: Value): Value {
  return linearBy(g, g.op('selectRows', { x }), weight, bias);
}
