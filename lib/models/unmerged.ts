// Low-rank adapters that stay beside the matrices that they add to: y = x·Wᵀ + alpha / rank · (x·Aᵀ)·Bᵀ (Hu et al. 2021).
import type { StoredTensor } from '../checkpoint/open.js';
import type { Graph, Node, Value } from '../graph/graph.js';
import type { WeightSource, WeightSpec } from '../graph/weight-spec.js';
import { type Adapter, type Adapters, checkedHalves } from './adapters.js';
import { moduleOf } from './peft-names.js';

/** What a graph has become. @public */
export interface Attached {
  /** A and B by the names that the graph now asks for. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** Weights that have their adapters beside them; those of others are to be merged. */
  readonly weights: ReadonlySet<Value>;
}

const size = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** Whether rows of the weight are whole rows of its sources, and all that reads it are plain products. */
function separable(graph: Graph, weight: Value, { sources, transform, words }: WeightSpec): boolean {
  const columns = weight.dims[1];
  if (transform || words || weight.dims.length !== 2) return false;
  const rows = (s: WeightSource) =>
    s.shape.length === 2 && s.shape[1] === columns && (s.span ?? []).every((n) => n % (columns as number) === 0);
  if (!sources.every(rows)) return false;
  const readers = graph.nodes.filter((n) => Object.values(n.inputs).includes(weight));
  return readers.length > 0 && readers.every((n) => n.op.name === 'linear' && n.inputs.weight === weight);
}

/** Weights beside which their adapters can stand. @public */
export function besideWeights(graph: Graph, adapters: Adapters): Value[] {
  return [...graph.weights]
    .filter(([weight, spec]) => spec.sources.some((s) => adapters.has(s.name)) && separable(graph, weight, spec))
    .map(([weight]) => weight);
}

/** Puts the products of the adapters of these weights, of besideWeights(), behind the weights' own. @public */
export function attachAdapters(graph: Graph, adapters: Adapters, of: readonly Value[]): Attached {
  const tensors = new Map<string, StoredTensor>();
  const weights = new Set(of);
  const halves = new Map<Value, Half[]>([...weights].map((w) => [w, halvesOf(graph, w, adapters, tensors)]));
  for (const node of graph.nodes.splice(0)) {
    const own = node.op.name === 'linear' ? halves.get(node.inputs.weight!) : undefined;
    if (!own) graph.nodes.push(node);
    else if (node.when === 'always') adapt(graph, node, own);
    else graph.when(node.when, () => adapt(graph, node, own));
  }
  return { tensors, weights };
}

/** A (rank, in) and B (rows, rank), what their product is multiplied by, and the first of its columns in y. */
interface Half {
  a: Value;
  b: Value;
  scale: number;
  column: number;
}

function halvesOf(graph: Graph, weight: Value, adapters: Adapters, tensors: Map<string, StoredTensor>): Half[] {
  const found: Half[] = [];
  const columns = weight.dims[1] as number;
  let column = 0;
  for (const source of graph.weights.get(weight)!.sources) {
    const [first, count] = source.span ?? [0, size(source.shape)];
    const declare = (adapter: Adapter, i: number): void => {
      const { a, b } = checkedHalves(source.name, source.shape, adapter);
      const rank = a.shape[0]!;
      const name = (half: 'A' | 'B') =>
        `base_model.model.${moduleOf(source.name)}.lora_${half}.${i === 0 ? '' : `${i}.`}weight`;
      tensors.set(name('A'), a).set(name('B'), b);
      const held = (half: 'A' | 'B', shape: readonly number[], span?: readonly [number, number]): Value => {
        const stored = half === 'A' ? a : b;
        const sources = [{ name: name(half), shape: stored.shape, span }];
        return graph.weight({ sources, matrix: false, init: [{ uniform: 0 }], activeShare: 1 }, shape);
      };
      const rows = count / columns;
      found.push({
        a: held('A', a.shape),
        b: held('B', [rows, rank], source.span && [(first / columns) * rank, rows * rank]),
        scale: adapter.scale,
        column,
      });
    };
    adapters.get(source.name)?.forEach(declare);
    column += count / columns;
  }
  return found;
}

/** Appends the product with what adds to it, before its activation. */
function adapt(graph: Graph, node: Node, halves: readonly Half[]): void {
  const { x, weight, bias, residual, y } = node.inputs as Record<'x' | 'weight' | 'y', Value> &
    Partial<Record<'bias' | 'residual', Value>>;
  const activation = node.op.attrs.find((a) => a.name === 'activation')!.choices[node.attrs.activation ?? 0];
  const plain = !node.attrs.activation;
  if (plain) graph.nodes.push(node);
  const product = plain ? y : graph.op('linear', { x, weight, bias });
  for (const { a, b, scale, column } of halves) {
    const down = graph.op('linear', { x, weight: a });
    const scaled = scale === 1 ? down : graph.op('add', { a: down, b: down }, { alpha: scale / 2, beta: scale / 2 });
    const up = graph.op('linear', { x: scaled, weight: b });
    const part = b.dims[0] === product.dims[1] ? product : graph.view(product, column, b.dims[0] as number);
    graph.op('add', { a: part, b: up }, {}, part);
  }
  if (plain) return;
  if (!residual) graph.op('activate', { x: product }, { activation }, y);
  else graph.op('add', { a: graph.op('activate', { x: product }, { activation }), b: residual }, {}, y);
}
