import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { type HeadOptions, head } from '../layers/linear.js';

/**
 * Logits of x (tokens, d_model): by the embedding where the config ties the two and the checkpoint has no other head,
 * else by `lm_head.weight`.
 */
export function logits(g: Graph, x: Value, w: Weights, table: Value, tied: boolean, o?: HeadOptions): Value {
  const shared = tied && !w.storedApart('lm_head.weight', table);
  return head(g, x, shared ? table : w.tensor('lm_head.weight', table.dims as number[]), o);
}
