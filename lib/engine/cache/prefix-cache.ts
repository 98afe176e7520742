import type { Model } from '../../models/model.js';
import type { Session } from '../../session/session.js';
import { Turns } from '../../turns.js';
import { Heap } from './heap.js';
import { PageLedger, type PageRun } from './pages.js';
import { type RadixNode, RadixTree } from './radix.js';

/** A session at rest after some tokens, to be forked by whoever goes on from there. */
interface Checkpoint {
  session: Session;
  runs: PageRun<CheckpointNode>[];
  hits: number;
  /** What its worth counted from when it was last used; see evict(). */
  since: number;
}

export type CheckpointNode = RadixNode<Checkpoint>;

/** A fork of what was found, and how far it had read. */
export interface Found {
  session: Session;
  runs: readonly PageRun<CheckpointNode>[];
  position: number;
}

/**
 * Checkpoints of prompts that were read, in a radix tree over their tokens. A recurrent state cannot be cut back to an
 * earlier token, so what can be gone on from are the checkpoints themselves; keys and values are shared by their forks.
 */
export class PrefixCache {
  private tree = new RadixTree<Checkpoint>();
  private readonly ledger: PageLedger<CheckpointNode>;
  /** All checkpoints by their worth: looking through ten thousand took 10 ms for each that had to go. */
  private readonly byWorth = new Heap<CheckpointNode>();
  /** Worth of what was evicted last: newcomers start from it, so that what is no longer used is overtaken. */
  private clock = 0;
  checkpoints = 0;
  evictions = 0;

  constructor(
    model: Model,
    private limit: number,
  ) {
    this.ledger = new PageLedger(model);
  }

  /** What its checkpoints and their tokens hold. */
  get bytes(): number {
    return this.ledger.bytes + 4 * this.tree.tokens;
  }

  /** How deep `tokens` is known within `limit` (a checkpoint), and how far it runs along anything known. */
  look(tokens: Int32Array, limit: number): { position: number; common: number } {
    const { node, common } = this.tree.match(tokens, limit);
    return { position: node?.depth ?? 0, common };
  }

  /** The deepest checkpoint within the first `limit` tokens, forked. */
  take(tokens: Int32Array, limit: number): Found | undefined {
    const { node } = this.tree.match(tokens, limit);
    if (!node) return undefined;
    const checkpoint = node.value!;
    checkpoint.hits++;
    checkpoint.since = this.clock;
    this.weigh(node);
    return { session: checkpoint.session.fork(), runs: checkpoint.runs, position: node.depth };
  }

  /**
   * Keeps a fork of a session that has read `tokens`, and evicts what is worth least where that is too much. `earlier`:
   * the runs of the checkpoint that the session went on from. Returns what the session's later checkpoints go on from.
   */
  add(
    tokens: Int32Array,
    session: Session,
    earlier: readonly PageRun<CheckpointNode>[],
  ): readonly PageRun<CheckpointNode>[] {
    if (tokens.length === 0 || this.ledger.whole(tokens.length) > this.limit) return earlier;
    const node = this.tree.insert(tokens);
    if (node.value) {
      node.value.since = this.clock;
      this.weigh(node);
      return earlier;
    }
    const runs = this.ledger.hold(node, tokens.length, earlier);
    node.value = { session: session.fork(), runs, hits: 0, since: this.clock };
    this.checkpoints++;
    this.weigh(node);
    for (const below of this.tree.below(node)) this.weigh(below);
    this.weighHolders(runs, 2); // of pages that one held alone before
    this.shrink(this.limit, node);
    if (this.bytes <= this.limit) return runs;
    this.drop(node);
    return earlier;
  }

  /** Evicts until it holds at most `bytes`. */
  shrink(bytes: number, keep?: CheckpointNode): void {
    while (this.bytes > bytes) {
      const node = this.byWorth.least(keep);
      if (!node) return;
      this.clock = Math.max(this.clock, this.worth(node));
      this.evictions++;
      this.drop(node);
    }
  }

  /** Forgets all of it; the memory of what it held is free when this resolves. */
  async clear(): Promise<void> {
    const nodes = [...this.tree.values()];
    this.tree = new RadixTree();
    this.byWorth.clear();
    this.checkpoints = 0;
    for (const node of nodes) this.ledger.release(node, node.value!.runs);
    const turns = new Turns();
    for (const node of nodes) {
      await node.value!.session.dispose();
      const pause = turns.due();
      if (pause) await pause;
    }
  }

  private drop(node: CheckpointNode): void {
    const { session, runs } = node.value!;
    const below = [...this.tree.below(node)];
    this.ledger.release(node, runs);
    this.tree.remove(node);
    this.byWorth.delete(node);
    this.checkpoints--;
    for (const other of below) this.weigh(other);
    this.weighHolders(runs, 1); // of pages that one holds alone now
    void session.dispose();
  }

  /**
   * GreedyDual-Size-Frequency (Cherkasova 1998): uses times tokens that would be read again, a byte that would be free,
   * on top of the worth of what had gone when it was last used.
   */
  private worth(node: CheckpointNode): number {
    const { hits, since, runs } = node.value!;
    const tokens = node.depth - (node.ancestor?.depth ?? 0);
    return since + ((hits + 1) * tokens) / Math.max(1, this.ledger.own(runs));
  }

  private weigh(node: CheckpointNode): void {
    this.byWorth.set(node, this.worth(node));
  }

  private weighHolders(runs: readonly PageRun<CheckpointNode>[], count: number): void {
    for (const { holders } of runs) if (holders.size === count) for (const node of holders) this.weigh(node);
  }
}
