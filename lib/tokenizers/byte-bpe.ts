import { mergePairs } from './merge.js';
import { cutter } from './pre-tokenizers.js';
import type { TokenTable } from './token-table.js';

/** Which tokens of two neighbours become one, and which pair goes first: a hash over typed arrays. */
export class MergeTable {
  private readonly left: Int32Array;
  private readonly right: Int32Array;
  private readonly rank: Int32Array;
  private readonly merged: Int32Array;
  private readonly mask: number;

  constructor(count: number) {
    let slots = 16;
    while (slots < 2 * count) slots *= 2;
    this.mask = slots - 1;
    this.left = new Int32Array(slots).fill(-1);
    this.right = new Int32Array(slots);
    this.rank = new Int32Array(slots);
    this.merged = new Int32Array(slots);
  }

  /** The first of equal pairs counts. */
  add(left: number, right: number, rank: number, merged: number): void {
    const slot = this.place(left, right);
    if (this.left[slot]! >= 0) return;
    this.left[slot] = left;
    this.right[slot] = right;
    this.rank[slot] = rank;
    this.merged[slot] = merged;
  }

  find(left: number, right: number): { priority: number; id: number } | undefined {
    const slot = this.place(left, right);
    return this.left[slot]! < 0 ? undefined : { priority: this.rank[slot]!, id: this.merged[slot]! };
  }

  private place(left: number, right: number): number {
    let hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
    hash ^= hash >>> 15;
    for (let slot = hash & this.mask; ; slot = (slot + 1) & this.mask) {
      if (this.left[slot]! < 0 || (this.left[slot] === left && this.right[slot] === right)) return slot;
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
