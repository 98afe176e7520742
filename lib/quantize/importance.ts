// How much each column of a matrix matters: the mean square of what a text feeds it.
import type { Graph, Value } from '../graph/graph.js';
import type { Model } from '../models/model.js';
import { withTap } from '../models/tap.js';
import { Turns } from '../turns.js';
import { modelFor, type TextOptions } from './text.js';

/** Values that come back at once. */
const PIECE = 1 << 20;

/** An input of products: where it lies in the output, and the tensors that are multiplied by it. */
interface Place {
  readonly offset: number;
  readonly width: number;
  readonly names: string[];
}

/**
 * Mean squares of the inputs of every product, (columns) each, by the checkpoint's names of the tensors. The model runs
 * in f32 over the beginning of the text.
 * @public
 */
export async function importanceOf(
  path: string,
  text: string,
  options: TextOptions = {},
): Promise<Map<string, Float32Array>> {
  let places = new Map<Value, Place>();
  const tap = (graph: Graph): Value => {
    places = placesOf(graph);
    const joined = graph.buffer('tokens', totalOf(places));
    for (const [value, { offset, width }] of places)
      graph.op('activate', { x: graph.reshape(value, width) }, {}, graph.view(joined, offset, width));
    return joined;
  };
  const { model, ids } = await modelFor(path, text, options, (given) => withTap({ ...given, exact: true }, tap));
  try {
    return named(places, await sumsOfSquares(model, ids, totalOf(places), options.signal), ids.length);
  } finally {
    await model.dispose();
  }
}

async function sumsOfSquares(
  model: Model,
  ids: Int32Array,
  total: number,
  signal?: AbortSignal,
): Promise<Float64Array> {
  const sums = new Float64Array(total);
  const session = model.createSession();
  const turns = new Turns(signal);
  const step = Math.min(64, Math.max(1, Math.floor(PIECE / total)));
  for (let at = 0; at < ids.length; at += step) {
    const rows = await session.forward(ids.subarray(at, at + step), { logits: 'all', signal });
    const values = rows.data as Float32Array;
    for (let first = 0; first < values.length; first += total) {
      for (let i = 0; i < total; i++) sums[i]! += values[first + i]! ** 2;
      const pause = turns.due();
      if (pause) await pause;
    }
  }
  return sums;
}

function named(places: ReadonlyMap<Value, Place>, sums: Float64Array, tokens: number): Map<string, Float32Array> {
  const means = new Map<string, Float32Array>();
  for (const { offset, width, names } of places.values()) {
    const mean = Float32Array.from(sums.subarray(offset, offset + width), (sum) => sum / tokens);
    for (const name of names) means.set(name, mean);
  }
  return means;
}

/** What products of single tokens read, one after the other in one row. */
function placesOf(graph: Graph): Map<Value, Place> {
  const places = new Map<Value, Place>();
  let offset = 0;
  for (const { op, inputs } of graph.nodes) {
    const { x, weight, gateUp } = inputs;
    const matrix = op.name === 'linear' ? weight : op.name === 'moe' ? gateUp : undefined;
    const spec = matrix && graph.weights.get(matrix);
    if (!x || !spec || x.dims[0] !== 'tokens') continue;
    const width = x.dims.slice(1).reduce<number>((n, d) => n * (d as number), 1);
    const place = places.get(x) ?? { offset, width, names: [] };
    if (!places.has(x)) offset += width;
    places.set(x, place);
    place.names.push(...spec.sources.map((s) => s.name));
  }
  return places;
}

const totalOf = (places: ReadonlyMap<Value, Place>): number =>
  [...places.values()].reduce((n, { width }) => n + width, 0);
