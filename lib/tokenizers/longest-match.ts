import type { TokenTable } from './token-table.js';

const encoder = new TextEncoder();

/** RWKV's tokenizer: of the tokens that the bytes ahead begin with, the longest. */
export class LongestMatch {
  /** Lengths of tokens by their first two bytes, longest first; of one byte: by that byte and 0, never listed. */
  private readonly lengths = new Map<number, number[]>();

  constructor(
    private readonly tokens: TokenTable,
    isFound: (id: number) => boolean,
  ) {
    for (let id = 0; id < tokens.size; id++) {
      const bytes = tokens.bytes(id);
      if (bytes.length < 2 || !isFound(id)) continue;
      const start = bytes[0]! * 256 + bytes[1]!;
      const known = this.lengths.get(start);
      if (!known) this.lengths.set(start, [bytes.length]);
      else if (!known.includes(bytes.length)) known.push(bytes.length);
    }
    for (const list of this.lengths.values()) list.sort((a, b) => b - a);
  }

  encode(text: string, out: number[]): void {
    const bytes = encoder.encode(text);
    for (let at = 0; at < bytes.length; ) at += this.next(bytes, at, out);
  }

  /** Bytes of the token at `at`; one that is in no token is lost. */
  private next(bytes: Uint8Array, at: number, out: number[]): number {
    const longer = this.lengths.get(bytes[at]! * 256 + (bytes[at + 1] ?? 0)) ?? [];
    for (const length of at + 1 < bytes.length ? longer : []) {
      if (at + length > bytes.length) continue;
      const id = this.tokens.lookup(bytes, at, at + length);
      if (id >= 0) {
        out.push(id);
        return length;
      }
    }
    const id = this.tokens.lookup(bytes, at, at + 1);
    if (id >= 0) out.push(id);
    return 1;
  }
}
