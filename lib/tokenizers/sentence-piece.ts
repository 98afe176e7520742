import { mergePairs } from './merge.js';
import type { TokenTable } from './token-table.js';

const encoder = new TextEncoder();

/** Tokens that are found before anything is joined, and are joined with nothing: the longest at each place. */
export interface WholeTokens {
  /** lookup() finds these. */
  readonly table: TokenTable;
  has(id: number): boolean;
}

export interface ScoreBpeOptions {
  /** Spaces as ▁. */
  readonly tokens: TokenTable;
  readonly scores: Float32Array;
  /** Tokens of the 256 bytes, -1 where there is none. */
  readonly byteIds: Int32Array;
  /** What stands for the rest; -1: nothing. */
  readonly unknown: number;
  /** One unknown token for a run of characters, as SentencePiece has it; default: one a byte, as llama.cpp. */
  readonly fuseUnknown?: boolean | undefined;
  readonly whole?: WholeTokens | undefined;
}

/**
 * BPE of SentencePiece (Kudo & Richardson 2018): characters are joined wherever that makes a token, the one of the
 * highest score first; what is no token in the end becomes tokens of bytes.
 */
export class ScoreBpe {
  constructor(private readonly o: ScoreBpeOptions) {}

  encode(text: string, out: number[]): void {
    const bytes = encoder.encode(text.replaceAll(' ', '▁'));
    const { tokens, scores, whole } = this.o;
    let wasUnknown = false;
    mergePairs(
      this.symbols(bytes),
      (left, right, start, end) => {
        if (whole && (whole.has(left) || whole.has(right))) return undefined;
        const id = tokens.lookup(bytes, start, end);
        return id < 0 ? undefined : { priority: -scores[id]!, id };
      },
      (id, start, end) => {
        if (id >= 0) out.push(id);
        else this.pushBytes(bytes.subarray(start, end), wasUnknown, out);
        wasUnknown = id < 0;
      },
    );
  }

  /** Characters, and tokens that stay whole. */
  private symbols(bytes: Uint8Array): { starts: Int32Array; ids: Int32Array } {
    const { tokens, whole } = this.o;
    const starts: number[] = [];
    const ids: number[] = [];
    for (let start = 0; start < bytes.length; ) {
      let end = endOfCharacter(bytes, start);
      let id = -1;
      whole?.table.forEachPrefix(bytes, start, (found, at) => {
        [id, end] = [found, at];
      });
      starts.push(start);
      ids.push(id >= 0 ? id : tokens.lookup(bytes, start, end));
      start = end;
    }
    return { starts: Int32Array.from([...starts, bytes.length]), ids: Int32Array.from(ids) };
  }

  private pushBytes(bytes: Uint8Array, wasUnknown: boolean, out: number[]): void {
    const { byteIds, unknown, fuseUnknown } = this.o;
    const ids = Array.from(bytes, (byte) => byteIds[byte]!);
    if (!fuseUnknown) out.push(...ids.map((id) => (id >= 0 ? id : unknown)).filter((id) => id >= 0));
    else if (ids.every((id) => id >= 0)) out.push(...ids);
    else if (!wasUnknown && unknown >= 0) out.push(unknown);
  }
}

/** Where the character that begins at `start` ends, in UTF-8. */
export function endOfCharacter(bytes: Uint8Array, start: number): number {
  let end = start + 1;
  while (end < bytes.length && (bytes[end]! & 0xc0) === 0x80) end++;
  return end;
}
