import { mergePairs } from './merge.js';
import type { TokenTable } from './token-table.js';

const encoder = new TextEncoder();

/**
 * BPE of SentencePiece (Kudo & Richardson 2018): characters are joined wherever that makes a token, the one of the
 * highest score first; what is no token in the end becomes tokens of bytes.
 */
export class ScoreBpe {
  constructor(
    /** Spaces as ▁. */
    private readonly tokens: TokenTable,
    private readonly scores: Float32Array,
    /** Tokens of the 256 bytes, -1 where there is none. */
    private readonly byteIds: Int32Array,
    private readonly unknown: number,
  ) {}

  encode(text: string, out: number[]): void {
    const bytes = encoder.encode(text.replaceAll(' ', '▁'));
    const starts: number[] = [];
    for (let i = 0; i < bytes.length; i++) if ((bytes[i]! & 0xc0) !== 0x80) starts.push(i);
    const pieces = {
      starts: Int32Array.from([...starts, bytes.length]),
      ids: Int32Array.from(starts, (start, i) => this.tokens.lookup(bytes, start, starts[i + 1] ?? bytes.length)),
    };
    mergePairs(
      pieces,
      (_left, _right, start, end) => {
        const id = this.tokens.lookup(bytes, start, end);
        return id < 0 ? undefined : { priority: -this.scores[id]!, id };
      },
      (id, start, end) => {
        if (id >= 0) out.push(id);
        else for (let i = start; i < end; i++) this.pushByte(bytes[i]!, out);
      },
    );
  }

  private pushByte(byte: number, out: number[]): void {
    const id = this.byteIds[byte]!;
    if (id >= 0) out.push(id);
    else if (this.unknown >= 0) out.push(this.unknown);
  }
}
