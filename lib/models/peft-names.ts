// What adapters of peft's belong to, by names.
import type { Graph } from '../graph/graph.js';

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
