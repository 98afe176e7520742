/** Of the hash FNV-1a. */
const FNV_OFFSET = 0x811c9dc5;
const FNV_PRIME = 0x01000193;

/** The tokens of a vocabulary as bytes, and which token some bytes are: two typed arrays and a hash, whatever the size. */
export class TokenTable {
  /** Token i is blob[offsets[i] … offsets[i + 1]). */
  private blob: Uint8Array;
  private readonly offsets: Uint32Array;
  private readonly slots: Int32Array;
  private readonly mask: number;
  private count = 0;
  /** Bytes of the longest token that lookup() finds. */
  longest = 0;

  /** bytes: of all tokens, where that is known. */
  constructor(
    readonly size: number,
    bytes = 1 << 16,
  ) {
    this.blob = new Uint8Array(bytes);
    this.offsets = new Uint32Array(size + 1);
    let slots = 16;
    while (slots < 2 * size) slots *= 2;
    this.slots = new Int32Array(slots).fill(-1);
    this.mask = slots - 1;
  }

  /** The next token, bytes[start … end); `found`: lookup() knows it. */
  add(bytes: Uint8Array, found: boolean, start = 0, end = bytes.length): void {
    const at = this.offsets[this.count]!;
    const length = end - start;
    if (at + length > this.blob.length) {
      const larger = new Uint8Array(2 * (at + length));
      larger.set(this.blob);
      this.blob = larger;
    }
    for (let i = 0; i < length; i++) this.blob[at + i] = bytes[start + i]!;
    const id = this.count++;
    this.offsets[id + 1] = at + length;
    if (!found || length === 0) return;
    this.longest = Math.max(this.longest, length);
    this.slots[this.place(bytes, start, end)] = id;
  }

  /** Its bytes; empty for ids beyond the vocabulary. */
  bytes(id: number): Uint8Array {
    return this.blob.subarray(this.offsets[id] ?? 0, this.offsets[id + 1] ?? 0);
  }

  /** The token that bytes[start … end) are, or -1. */
  lookup(bytes: Uint8Array, start = 0, end = bytes.length): number {
    return this.slots[this.place(bytes, start, end)]!;
  }

  /** Every token that the bytes at `start` begin with, shorter ones first. */
  forEachPrefix(bytes: Uint8Array, start: number, visit: (id: number, end: number) => void): void {
    const last = Math.min(bytes.length, start + this.longest);
    let hash = FNV_OFFSET;
    for (let end = start + 1; end <= last; end++) {
      hash = Math.imul(hash ^ bytes[end - 1]!, FNV_PRIME);
      const id = this.slots[this.slotOf(hash, bytes, start, end)]!;
      if (id >= 0) visit(id, end);
    }
  }

  /** The slot that holds these bytes, or the empty one where they would be. */
  private place(bytes: Uint8Array, start: number, end: number): number {
    let hash = FNV_OFFSET;
    for (let i = start; i < end; i++) hash = Math.imul(hash ^ bytes[i]!, FNV_PRIME);
    return this.slotOf(hash, bytes, start, end);
  }

  private slotOf(hash: number, bytes: Uint8Array, start: number, end: number): number {
    for (let slot = (hash ^ (hash >>> 15)) & this.mask; ; slot = (slot + 1) & this.mask) {
      const id = this.slots[slot]!;
      if (id < 0 || this.equals(id, bytes, start, end)) return slot;
    }
  }

  private equals(id: number, bytes: Uint8Array, start: number, end: number): boolean {
    const from = this.offsets[id]!;
    if (this.offsets[id + 1]! - from !== end - start) return false;
    for (let i = start; i < end; i++) if (this.blob[from + i - start] !== bytes[i]) return false;
    return true;
  }
}
