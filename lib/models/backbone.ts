import { StatespaceError } from '../errors.js';
import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { resolveModel } from './registry.js';

/**
 * A family's network without its head, as a part of one's own: token ids in, (tokens, d_model) out, the rows that its logits
 * would be made of. `config` is what its config.json holds; weights have the checkpoint's names under the scope `w`, so that
 * those of a checkpoint can be had with `loadModel`. What follows is the caller's.
 *
 * @throws StatespaceError ERR_UNSUPPORTED_MODEL for a model_type that is not known, or without a head.
 */
export function backbone(g: Graph, w: Weights, config: Readonly<Record<string, unknown>>): Value {
  const { modelType, definition, config: read } = resolveModel(config);
  const before = { nodes: g.nodes.length, values: g.values.length };
  definition.build(g, w, read);
  const head = g.nodes.findLastIndex((n) => n.op.name === 'selectRows');
  if (head < before.nodes)
    throw new StatespaceError('ERR_UNSUPPORTED_MODEL', `backbone: ${modelType} has no head to be left out`);
  const rows = g.nodes[head]!.inputs.x!;
  g.nodes.length = head;
  // What only the head used goes with it: its weights are not asked of a checkpoint.
  const used = new Set<Value>([rows, ...g.nodes.flatMap((n) => Object.values(n.inputs))]);
  for (const v of used) if (v.parent) used.add(v.parent);
  for (const v of g.values.slice(before.values)) if (v.kind === 'weight' && !used.has(v)) g.weights.delete(v);
  while (g.values.length > before.values && !used.has(g.values.at(-1)!)) g.values.pop();
  return rows;
}
