import { endOfCharacter } from './sentence-piece.js';
import type { TokenTable } from './token-table.js';

const encoder = new TextEncoder();

/** What a character that is no token costs, below the worst of the tokens. */
const PENALTY = 10;

/**
 * SentencePiece's unigram model (Kudo 2018): of all ways to cut a text into tokens, the one with the largest sum of
 * scores.
 */
export class Unigram {
  private readonly unknownScore: number;

  constructor(
    /** Spaces as ▁; lookup() finds those that texts are cut into. */
    private readonly tokens: TokenTable,
    private readonly scores: Float32Array,
    /** Tokens of the 256 bytes, -1 where there is none; without them what is no token becomes `unknown`. */
    private readonly byteIds: Int32Array,
    private readonly unknown: number,
    /** Of those that texts are cut into. */
    worst: number,
  ) {
    this.unknownScore = Math.fround(worst - PENALTY);
  }

  encode(text: string, out: number[]): void {
    const bytes = encoder.encode(text.replaceAll(' ', '▁'));
    const { from, ids } = this.best(bytes);
    const cuts: number[] = [];
    for (let end = bytes.length; end > 0; end = from[end]!) cuts.push(end);
    let wasUnknown = false;
    for (const end of cuts.reverse()) {
      const id = ids[end]!;
      if (id >= 0) out.push(id);
      else this.pushUnknown(bytes.subarray(from[end]!, end), wasUnknown, out);
      wasUnknown = id < 0;
    }
  }

  /** For every place that the best way reaches: where its last token begins, and which one that is (-1: none). */
  private best(bytes: Uint8Array): { from: Int32Array; ids: Int32Array } {
    const from = new Int32Array(bytes.length + 1).fill(-1);
    const ids = new Int32Array(bytes.length + 1);
    const sums = new Float32Array(bytes.length + 1);
    const offer = (start: number, end: number, id: number, score: number): void => {
      const sum = Math.fround(sums[start]! + score);
      if (from[end]! >= 0 && sum <= sums[end]!) return;
      from[end] = start;
      ids[end] = id;
      sums[end] = sum;
    };
    for (let start = 0; start < bytes.length; ) {
      const next = endOfCharacter(bytes, start);
      let isToken = false;
      this.tokens.forEachPrefix(bytes, start, (id, end) => {
        offer(start, end, id, this.scores[id]!);
        isToken ||= end === next;
      });
      if (!isToken) offer(start, next, -1, this.unknownScore);
      start = next;
    }
    return { from, ids };
  }

  private pushUnknown(character: Uint8Array, wasUnknown: boolean, out: number[]): void {
    const ids = Array.from(character, (byte) => this.byteIds[byte] ?? -1);
    if (ids.every((id) => id >= 0)) out.push(...ids);
    else if (this.unknown >= 0 && !wasUnknown) out.push(this.unknown); // one for a run of them
  }
}
