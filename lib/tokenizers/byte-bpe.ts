import { mergePairs } from './merge.js';
import { cutter } from './pre-tokenizers.js';
import type { TokenTable } from './token-table.js';

/** Which tokens of two neighbours become one, and which pair goes first: a hash over typed arrays. */
export class MergeTable {
  private readonly left: Int32Array;
  private readonly right: Int32Array;
  private readonly merged: Int32Array;
  private count = 0;
  /** Which merge, by its number in the above. */
  private readonly slots: Int32Array;
  private readonly mask: number;

  /** most: merges that will be added. */
  constructor(most: number) {
    this.left = new Int32Array(most);
    this.right = new Int32Array(most);
    this.merged = new Int32Array(most);
    let slots = 16;
    while (slots < 2 * most) slots *= 2;
    this.mask = slots - 1;
    this.slots = new Int32Array(slots).fill(-1);
  }

  /** Behind all that were added before; the first of equal pairs counts. */
  add(left: number, right: number, merged: number): void {
    const slot = this.place(left, right);
    if (this.slots[slot]! >= 0) return;
    const merge = this.count++;
    this.slots[slot] = merge;
    this.left[merge] = left;
    this.right[merge] = right;
    this.merged[merge] = merged;
  }

  find(left: number, right: number): { priority: number; id: number } | undefined {
    const merge = this.slots[this.place(left, right)]!;
    return merge < 0 ? undefined : { priority: merge, id: this.merged[merge]! };
  }

  private place(left: number, right: number): number {
    let hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
    hash ^= hash >>> 15;
    for (let slot = hash & this.mask; ; slot = (slot + 1) & this.mask) {
      const merge = this.slots[slot]!;
      if (merge < 0 || (this.left[merge] === left && this.right[merge] === right)) return slot;
    }
  }
}

const encoder = new TextEncoder();

/** Byte-level BPE (Radford et al. 2019): pieces of a text by patterns, their bytes merged by rank. */
export class ByteBpe {
  private readonly byteIds: Int32Array;
  private readonly cut: (text: string) => string[];

  constructor(
    private readonly tokens: TokenTable,
    private readonly merges: MergeTable,
    patterns: readonly string[],
    /** A piece that is a token is taken as it is, whatever the merges would make of it. */
    private readonly wholePieces: boolean,
  ) {
    this.cut = cutter(patterns);
    this.byteIds = Int32Array.from({ length: 256 }, (_, byte) => tokens.lookup(Uint8Array.of(byte)));
  }

  encode(text: string, out: number[]): void {
    for (const piece of this.cut(text)) this.encodePiece(encoder.encode(piece), out);
  }

  private encodePiece(bytes: Uint8Array, out: number[]): void {
    const whole = this.wholePieces ? this.tokens.lookup(bytes) : -1;
    if (whole >= 0) {
      out.push(whole);
      return;
    }
    const pieces = {
      starts: Int32Array.from({ length: bytes.length + 1 }, (_, i) => i),
      ids: Int32Array.from(bytes, (byte) => this.byteIds[byte]!),
    };
    mergePairs(
      pieces,
      (left, right) => (left < 0 || right < 0 ? undefined : this.merges.find(left, right)),
      (id) => {
        if (id >= 0) out.push(id); // a byte that the vocabulary lacks is lost
      },
    );
  }
}
