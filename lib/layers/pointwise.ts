import type { Graph, Value } from '../graph/graph.js';
import type { Activation } from './linear.js';

const flat = (g: Graph, x: Value): Value =>
  x.dims.length === 2
    ? x
    : g.reshape(
        x,
        x.dims.slice(1).reduce<number>((n, d) => n * (d as number), 1),
      );
const shapedAs = (g: Graph, y: Value, x: Value): Value =>
  x.dims.length === 2 ? y : g.reshape(y, ...(x.dims.slice(1) as number[]));

/** y = a ⊙ b, element by element: a, b and y (tokens, channels), or with more axes. */
export function multiply(g: Graph, a: Value, b: Value): Value {
  return shapedAs(g, g.op('gate', { x: flat(g, a), gate: flat(g, b) }, { activation: 'none' }), a);
}

/** y = f(x), element by element: x and y (tokens, channels), or with more axes. */
export function activate(g: Graph, x: Value, activation: Activation): Value {
  return shapedAs(g, g.op('activate', { x: flat(g, x) }, { activation }), x);
}

/** y = max(x, 0), element by element: x and y (tokens, channels), or with more axes. */
export function relu(g: Graph, x: Value): Value {
  return activate(g, x, 'relu');
}
