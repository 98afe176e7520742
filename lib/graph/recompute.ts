// Where a forward program can be cut so that its parts are computed again on the way back.
import type { OpDescription, OpField } from './catalog.js';
import type { Graph, Value } from './graph.js';

/** An op of a program that is being derived. */
export interface DerivedNode {
  op: OpDescription;
  inputs: Record<string, Value>;
  attrs: Record<string, number>;
}

export const isWritten = (f: OpField): boolean => f.kind === 'out' || f.kind === 'wanted';

export function rootOf(v: Value): Value {
  let root = v;
  while (root.kind === 'view') root = root.parent!;
  return root;
}

/**
 * The nodes in blocks, end to end: cut wherever as few values as anywhere are needed on the other side, which in a residual
 * network is the one that goes from layer to layer.
 */
export function blocksOf(nodes: readonly DerivedNode[]): DerivedNode[][] {
  const first = new Map<Value, number>();
  const last = new Map<Value, number>();
  nodes.forEach(({ op, inputs }, i) => {
    for (const f of op.fields) {
      const root = inputs[f.name] && rootOf(inputs[f.name]!);
      if (root?.kind !== 'activation') continue;
      if (!first.has(root)) first.set(root, i);
      last.set(root, i);
    }
  });
  const crossing = new Array<number>(nodes.length).fill(0); // behind node i
  for (const [root, from] of first) for (let i = from; i < last.get(root)!; i++) crossing[i]!++;
  const fewest = Math.min(...crossing.slice(0, -1));
  const blocks: DerivedNode[][] = [[]];
  nodes.forEach((node, i) => {
    blocks.at(-1)!.push(node);
    // What ends a block is not repeated: nor could it give more than it gave.
    const gives = node.op.fields.every((f) => f.kind !== 'wanted');
    if (i < nodes.length - 1 && crossing[i] === fewest && gives) blocks.push([]);
  });
  return blocks;
}

// One pass over inputs that their gradients read as well. A gated norm is none of them: its sigmoids cost more than what it frees.
const CHEAP = new Set(['gate', 'rmsNorm', 'layerNorm', 'activate', 'rope']);

/** The nodes whose result is computed anew on the way back rather than kept; nothing writes over it or over what it is made of. */
export function cheapOf(nodes: readonly DerivedNode[]): DerivedNode[] {
  const written = new Set<Value>(); // by later nodes
  return [...nodes].reverse().filter(({ op, inputs }) => {
    const values = op.fields.flatMap((f) => (inputs[f.name] ? [{ f, root: rootOf(inputs[f.name]!) }] : []));
    const cheap = CHEAP.has(op.name) && !inputs.z && inputs.y?.kind === 'activation';
    const last = !values.some(({ root }) => written.has(root));
    for (const { f, root } of values) if (isWritten(f)) written.add(root);
    return cheap && last;
  });
}

/**
 * The same ops again, over values of their own, each noted in `originals` with the one that it repeats. What the block hands
 * on is kept, so the op that makes it is not repeated. States begin anew.
 */
export function repeated(graph: Graph, block: readonly DerivedNode[], originals: Map<Value, Value>): DerivedNode[] {
  const clones = new Map<Value, Value>();
  const written = new Set<Value>();
  const clone = (v: Value): Value => {
    const known = clones.get(v);
    if (known) return known;
    if (v.kind !== 'view' && v.kind !== 'state' && !written.has(v)) return v;
    const parent = v.parent && clone(v.parent);
    const copied = v.kind === 'view' && parent === v.parent ? v : graph.add({ ...v, parent, cleared: undefined });
    clones.set(v, copied);
    if (copied !== v && v.kind === 'activation') originals.set(copied, v);
    return copied;
  };
  return block.map((node, i) => {
    if (i < block.length - 1)
      for (const f of node.op.fields)
        if (isWritten(f) && node.inputs[f.name]) written.add(rootOf(node.inputs[f.name]!));
    const inputs = Object.fromEntries(Object.entries(node.inputs).map(([name, v]) => [name, clone(v)]));
    return { ...node, inputs };
  });
}
