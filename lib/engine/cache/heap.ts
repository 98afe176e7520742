/** Things by a number of each: the least is at hand, and one whose number has changed finds its new place. */
export class Heap<T extends object> {
  private readonly items: T[] = [];
  private readonly keys: number[] = [];
  private readonly places = new Map<T, number>();

  /** The one of the least key, or of the least but this one's. */
  least(except?: T): T | undefined {
    const [first, left, right] = this.items;
    if (first !== except) return first;
    return right === undefined || this.keys[1]! <= this.keys[2]! ? left : right;
  }

  /** Puts it where its key belongs, whether or not it is there already. */
  set(item: T, key: number): void {
    const at = this.places.get(item) ?? this.items.length;
    this.put(at, item, key);
    this.down(this.up(at));
  }

  delete(item: T): void {
    const at = this.places.get(item);
    if (at === undefined) return;
    this.places.delete(item);
    const [last, key] = [this.items.pop()!, this.keys.pop()!];
    if (last === item) return;
    this.put(at, last, key);
    this.down(this.up(at));
  }

  clear(): void {
    this.items.length = this.keys.length = 0;
    this.places.clear();
  }

  private put(at: number, item: T, key: number): void {
    this.items[at] = item;
    this.keys[at] = key;
    this.places.set(item, at);
  }

  private swap(a: number, b: number): void {
    const [item, key] = [this.items[a]!, this.keys[a]!];
    this.put(a, this.items[b]!, this.keys[b]!);
    this.put(b, item, key);
  }

  private up(from: number): number {
    let at = from;
    for (let above = (at - 1) >> 1; at > 0 && this.keys[at]! < this.keys[above]!; above = (at - 1) >> 1) {
      this.swap(at, above);
      at = above;
    }
    return at;
  }

  private down(from: number): void {
    for (let at = from; ; ) {
      let least = at;
      for (const below of [2 * at + 1, 2 * at + 2])
        if (below < this.keys.length && this.keys[below]! < this.keys[least]!) least = below;
      if (least === at) return;
      this.swap(at, least);
      at = least;
    }
  }
}
