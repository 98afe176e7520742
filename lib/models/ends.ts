import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { type HeadOptions, head } from '../layers/linear.js';

/** Logits of x (tokens, d_model): by the embedding where the config ties the two, else by `lm_head.weight`. */
export function logits(g: Graph, x: Value, w: Weights, table: Value, tied: boolean, o?: HeadOptions): Value {
  return head(g, x, tied ? table : w.tensor('lm_head.weight', table.dims as number[]), o);
}
