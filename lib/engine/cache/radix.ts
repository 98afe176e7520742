/**
 * A radix tree over token ids: what is common to several sequences is stored once. A node stands for the tokens from the
 * root to its end and may hold a value.
 */
export class RadixNode<T> {
  readonly children = new Map<number, RadixNode<T>>();
  value: T | undefined;

  constructor(
    /** Tokens from the parent's end to this one's. */
    public edge: Int32Array,
    /** Tokens from the root. */
    public depth: number,
    public parent: RadixNode<T> | undefined,
  ) {}

  /** The nearest node above that holds a value. */
  get ancestor(): RadixNode<T> | undefined {
    let node = this.parent;
    while (node && node.value === undefined) node = node.parent;
    return node;
  }

  /** Its tokens from the root. */
  tokens(): Int32Array {
    const all = new Int32Array(this.depth);
    for (let node: RadixNode<T> = this; node.parent; node = node.parent)
      all.set(node.edge, node.depth - node.edge.length);
    return all;
  }
}

export interface Match<T> {
  /** The deepest node with a value on the way, no deeper than asked for. */
  node: RadixNode<T> | undefined;
  /** Tokens in common with any sequence in the tree. */
  common: number;
}

export class RadixTree<T> {
  readonly root = new RadixNode<T>(new Int32Array(0), 0, undefined);
  /** Token ids that its edges hold. */
  tokens = 0;

  /** How far `tokens` is known, and the deepest value within its first `limit`. */
  match(tokens: Int32Array, limit: number): Match<T> {
    let node = this.root;
    let best: RadixNode<T> | undefined;
    let common = 0;
    for (;;) {
      if (node.value !== undefined && node.depth <= limit) best = node;
      const child = node.children.get(tokens[node.depth]!);
      if (!child) return { node: best, common };
      const same = sameLength(child.edge, tokens, node.depth);
      common = node.depth + same;
      if (same < child.edge.length) return { node: best, common };
      node = child;
    }
  }

  /** The node of exactly these tokens, made where it is not there yet. */
  insert(tokens: Int32Array): RadixNode<T> {
    let node = this.root;
    while (node.depth < tokens.length) {
      const child = node.children.get(tokens[node.depth]!);
      if (!child) {
        const leaf = new RadixNode<T>(tokens.slice(node.depth), tokens.length, node);
        node.children.set(tokens[node.depth]!, leaf);
        this.tokens += leaf.edge.length;
        return leaf;
      }
      const same = sameLength(child.edge, tokens, node.depth);
      node = same === child.edge.length ? child : this.split(child, same);
    }
    return node;
  }

  /** Takes a node's value away, and what then stands for nothing. */
  remove(node: RadixNode<T>): void {
    node.value = undefined;
    let at: RadixNode<T> = node;
    while (at.parent && at.value === undefined && at.children.size === 0) {
      at.parent.children.delete(at.edge[0]!);
      this.tokens -= at.edge.length;
      at = at.parent;
    }
    if (at.parent && at.value === undefined && at.children.size === 1) this.join(at);
  }

  /** Every node with a value. */
  *values(): Generator<RadixNode<T>> {
    const rest = [this.root];
    for (let node = rest.pop(); node; node = rest.pop()) {
      if (node.value !== undefined) yield node;
      for (const child of node.children.values()) rest.push(child);
    }
  }

  /** Of the nodes with a value those whose nearest one above is this node. */
  *below(node: RadixNode<T>): Generator<RadixNode<T>> {
    const rest = [...node.children.values()];
    for (let next = rest.pop(); next; next = rest.pop()) {
      if (next.value !== undefined) yield next;
      else for (const child of next.children.values()) rest.push(child);
    }
  }

  private split(child: RadixNode<T>, at: number): RadixNode<T> {
    const parent = child.parent!;
    const middle = new RadixNode<T>(child.edge.slice(0, at), parent.depth + at, parent);
    parent.children.set(middle.edge[0]!, middle);
    child.edge = child.edge.slice(at);
    child.parent = middle;
    middle.children.set(child.edge[0]!, child);
    return middle;
  }

  /** A node with one child and no value becomes part of the child's edge. */
  private join(node: RadixNode<T>): void {
    const [child] = node.children.values();
    const edge = new Int32Array(node.edge.length + child!.edge.length);
    edge.set(node.edge);
    edge.set(child!.edge, node.edge.length);
    child!.edge = edge;
    child!.parent = node.parent;
    node.parent!.children.set(edge[0]!, child!);
  }
}

function sameLength(edge: Int32Array, tokens: Int32Array, from: number): number {
  const most = Math.min(edge.length, tokens.length - from);
  let n = 0;
  while (n < most && edge[n] === tokens[from + n]) n++;
  return n;
}

/** Tokens that two sequences begin with. */
export function commonLength(a: Int32Array, b: Int32Array): number {
  return sameLength(a, b, 0);
}
