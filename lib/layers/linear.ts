import type { Graph, Value } from '../graph/graph.js';
import type { WeightSource } from '../graph/weight-spec.js';
import type { Weights } from '../graph/weights.js';
import { checkKinds, finite, flag, type Kinds, name, needed, nested, oneOf, positive, size, value } from './kinds.js';

/** What follows a product, value by value. */
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

export const activation = oneOf(
  ...([
    'none',
    'silu',
    'gelu',
    'gelu-tanh',
    'sigmoid',
    'tanh',
    'relu',
    'relu2',
    'exp',
    'softplus',
  ] satisfies Activation[]),
);

/** Of {@link linear}. */
export interface LinearOptions {
  bias?: boolean | undefined;
  /** Added to the result. */
  residual?: Value | undefined;
  activation?: Activation | undefined;
}

const LINEAR: Kinds<LinearOptions> = { bias: flag, residual: value, activation };

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
  checkKinds('layers.linear', options, LINEAR);
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
  checkKinds('layers.linearBy', options, LINEAR);
  return g.op('linear', { x, weight, bias, residual: options.residual }, { activation: options.activation });
}

/**
 * Products by matrices that a checkpoint keeps apart, side by side: x (tokens, inFeatures) to (tokens, Σ rows). One product,
 * or where they are stored in different types one for each run of a type. `parts`: the matrices, or their biases.
 */
export function linearJoined(
  g: Graph,
  x: Value,
  w: Weights,
  parts: (what: 'weight' | 'bias', inner: number[]) => WeightSource[],
  bias = false,
): Value {
  const d = width(x);
  const rowsOf = (p: WeightSource): number => (p.span?.[1] ?? p.shape.reduce((a, b) => a * b, 1)) / d;
  const rows = (of: readonly WeightSource[]): number => of.reduce((n, p) => n + rowsOf(p), 0);
  const groups = w.byTypes(parts('weight', [d]));
  const biases = bias ? parts('bias', []) : [];
  const product = (of: WeightSource[], first: number, into?: Value): Value => {
    const own = biases.slice(first, first + of.length);
    const added = bias ? w.combined(own, [rows(of)], { init: 'zeros' }) : undefined;
    return g.op('linear', { x, weight: w.combined(of, [rows(of), d]), bias: added }, {}, into);
  };
  if (groups.length === 1) return product(groups[0]!, 0);
  const joined = g.buffer('tokens', rows(groups.flat()));
  let [first, at] = [0, 0];
  for (const group of groups) {
    product(group, first, g.view(joined, at, rows(group)));
    first += group.length;
    at += rows(group);
  }
  return joined;
}

/** Names of a low-rank addition to a product: y + up(down x). */
export interface LowRank {
  rank: number;
  down: string;
  up: string;
}

const LOW_RANK: Kinds<LowRank> = { rank: needed(size), down: needed(name), up: needed(name) };
/** Of a layer with such a pair. */
export const lowRank = nested<LowRank>(LOW_RANK);

/** y (tokens, outFeatures) + up(down x). Weights: `down` (rank, inFeatures), `up` (outFeatures, rank). */
export function adapted(g: Graph, y: Value, x: Value, w: Weights, o: LowRank): Value {
  checkKinds('layers.adapted', o, LOW_RANK);
  return linear(g, linear(g, x, w, o.down, o.rank), w, o.up, width(y), { residual: y });
}

/** Rows of several values as one, (tokens, Σ widths). */
export function concat(g: Graph, parts: readonly Value[]): Value {
  const rows = g.buffer(
    'tokens',
    parts.reduce((n, p) => n + (p.dims[1] as number), 0),
  );
  let at = 0;
  for (const x of parts) {
    g.op('activate', { x }, {}, g.view(rows, at, x.dims[1] as number));
    at += x.dims[1] as number;
  }
  return rows;
}

/** Token ids in, (tokens, dModel) out: y_t = scale · W[id_t], weight (vocabSize, dModel). */
export function embedding(g: Graph, weight: Value, scale = 1): Value {
  return g.op('embedding', { weight }, { scale });
}

/** y = factor · x, (tokens, channels) each; two halves, so that an infinite x stays one. */
export function scaled(g: Graph, x: Value, factor: number): Value {
  return factor === 1 ? x : g.op('add', { a: x, b: x }, { alpha: factor / 2, beta: factor / 2 });
}

/** residual + factor · x, all (tokens, channels). */
export function addScaled(g: Graph, residual: Value, x: Value, factor = 1): Value {
  return g.op('add', { a: residual, b: x }, { beta: factor });
}

/** Of {@link head}. */
export interface HeadOptions {
  /** (vocabSize). */
  bias?: Value | undefined;
  /** Factor of the logits. */
  scale?: number | undefined;
  /** logits ← cap · tanh(logits / cap). */
  softcap?: number | undefined;
}

const HEAD: Kinds<HeadOptions> = { bias: value, scale: finite, softcap: positive };

/**
 * The next-token head: x (tokens, dModel) to logits (outputs, vocabSize) of the rows that the caller asked for. weight
 * (vocabSize, dModel).
 */
export function head(g: Graph, x: Value, weight: Value, o: HeadOptions = {}): Value {
  checkKinds('layers.head', o, HEAD);
  const { bias, softcap } = o;
  const rows = g.op('selectRows', { x });
  if (softcap === undefined) return linearBy(g, scaled(g, rows, o.scale ?? 1), weight, bias);
  const capped = linearBy(g, scaled(g, rows, (o.scale ?? 1) / softcap), weight, bias, { activation: 'tanh' });
  return scaled(g, capped, softcap);
}
