// What adapters of peft's belong to, by names.
import type { Graph } from '../graph/graph.js';
import { Turns } from '../turns.js';

/** The module whose weight this is. */
export const moduleOf = (name: string): string => name.replace(/\.weight$/, '');

/** What transformers calls a head. */
export const HEAD = 'lm_head.weight';

/** Tables of embeddings that are the head's matrix too. */
export function tiedTables(graph: Graph): string[] {
  const heads = new Set(graph.nodes.filter((n) => n.op.name === 'linear').map((n) => n.inputs.weight));
  return graph.nodes.flatMap(({ op, inputs: { weight } }) =>
    op.name === 'embedding' && heads.has(weight) ? graph.weights.get(weight!)!.sources.map((s) => s.name) : [],
  );
}

const PIECE = 16_384;

/** (rows, columns) as (columns, rows), times a factor; in turns of the event loop. */
export async function turned(
  values: Float32Array,
  rows: number,
  columns: number,
  factor = 1,
): Promise<Float32Array<ArrayBuffer>> {
  const out = new Float32Array(values.length);
  const turns = new Turns();
  for (let r = 0, done = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) out[c * rows + r] = factor * values[r * columns + c]!;
    done += columns;
    if (done < PIECE) continue;
    done = 0;
    const pause = turns.due();
    if (pause) await pause;
  }
  return out;
}
