/** Pieces of a text that are joined pair by pair, the best pair first and of equal ones the leftmost. */
export interface Pieces {
  /** Where each begins; at the end, where the text does. */
  readonly starts: Int32Array;
  /** The token that each is, or -1. */
  readonly ids: Int32Array;
}

export interface Merge {
  /** Smaller is better. */
  readonly priority: number;
  /** The token that the two become. */
  readonly id: number;
}

/** What two neighbours become: tokens left and right, together text[start … end). */
export type FindMerge = (left: number, right: number, start: number, end: number) => Merge | undefined;

/** Joins until no pair is left; calls `emit` for every piece that remains. n pieces take n·log n steps. */
export function mergePairs(
  { starts, ids }: Pieces,
  find: FindMerge,
  emit: (id: number, start: number, end: number) => void,
): void {
  const n = ids.length;
  const ends = starts.slice(1); // of a piece that was joined to its left neighbour: where it starts
  const previous = Int32Array.from({ length: n }, (_, i) => i - 1);
  const next = Int32Array.from({ length: n }, (_, i) => i + 1);
  const queue = new Queue();
  const offer = (left: number, right: number): void => {
    if (left < 0 || right >= n) return;
    const merge = find(ids[left]!, ids[right]!, starts[left]!, ends[right]!);
    if (merge) queue.push(merge.priority, left, ends[right]! - starts[left]!, merge.id);
  };
  for (let i = 1; i < n; i++) offer(i - 1, i);
  for (let at = queue.pop(); at >= 0; at = queue.pop()) {
    const left = queue.left[at]!;
    const right = next[left]!;
    // Outdated where one of the two has been joined to something else since.
    if (right >= n || ends[left] === starts[left] || ends[right]! - starts[left]! !== queue.size[at]) continue;
    ids[left] = queue.id[at]!;
    ends[left] = ends[right]!;
    ends[right] = starts[right]!;
    next[left] = next[right]!;
    if (next[left]! < n) previous[next[left]!] = left;
    offer(previous[left]!, left);
    offer(left, next[left]!);
  }
  for (let i = 0; i < n; i = next[i]!) emit(ids[i]!, starts[i]!, ends[i]!);
}

/** A binary heap of candidates. */
class Queue {
  readonly left: number[] = [];
  readonly size: number[] = [];
  readonly id: number[] = [];
  private readonly priority: number[] = [];
  private readonly heap: number[] = [];

  push(priority: number, left: number, size: number, id: number): void {
    const entry = this.left.length;
    this.priority.push(priority);
    this.left.push(left);
    this.size.push(size);
    this.id.push(id);
    let at = this.heap.length;
    this.heap.push(entry);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.before(entry, this.heap[parent]!)) break;
      this.heap[at] = this.heap[parent]!;
      at = parent;
    }
    this.heap[at] = entry;
  }

  /** The best candidate's index into left, size and id; -1: none. */
  pop(): number {
    const top = this.heap[0];
    if (top === undefined) return -1;
    const last = this.heap.pop()!;
    const n = this.heap.length;
    if (n === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= n) break;
      if (child + 1 < n && this.before(this.heap[child + 1]!, this.heap[child]!)) child++;
      if (!this.before(this.heap[child]!, last)) break;
      this.heap[at] = this.heap[child]!;
      at = child;
    }
    this.heap[at] = last;
    return top;
  }

  private before(a: number, b: number): boolean {
    const [p, q] = [this.priority[a]!, this.priority[b]!];
    return p !== q ? p < q : this.left[a]! < this.left[b]!;
  }
}
