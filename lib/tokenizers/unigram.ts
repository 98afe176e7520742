import { endOfCharacter } from './sentence-piece.js';
import type { TokenTable } from './token-table.js';

const encoder = new TextEncoder();

/** What a character that is no token costs, below the worst of the tokens. */
export const PENALTY = 10;

/** A part of a text; id -1: no token's. */
export interface Cut {
  readonly start: number;
  readonly end: number;
  readonly id: number;
}

/**
 * Of all ways to cut a text into tokens, the one with the largest sum of scores; a character that is no token may be
 * cut out at `unknownScore`; hidden tokens are none. Sums are kept in Sums: SentencePiece has floats, Hugging Face tokenizers doubles.
 */
export function bestPath(
  bytes: Uint8Array,
  tokens: TokenTable,
  scores: Float32Array | Float64Array,
  unknownScore: number,
  Sums: typeof Float32Array | typeof Float64Array,
  hidden?: ReadonlySet<number>,
): Cut[] {
  const from = new Int32Array(bytes.length + 1).fill(-1);
  const ids = new Int32Array(bytes.length + 1);
  const sums = new Sums(bytes.length + 1);
  const sum = new Sums(1);
  const offer = (start: number, end: number, id: number, score: number): void => {
    sum[0] = sums[start]! + score;
    if (from[end]! >= 0 && sum[0]! <= sums[end]!) return;
    from[end] = start;
    ids[end] = id;
    sums[end] = sum[0]!;
  };
  for (let start = 0; start < bytes.length; ) {
    const next = endOfCharacter(bytes, start);
    let isToken = false;
    tokens.forEachPrefix(bytes, start, (id, end) => {
      if (hidden?.has(id)) return;
      offer(start, end, id, scores[id]!);
      isToken ||= end === next;
    });
    if (!isToken) offer(start, next, -1, unknownScore);
    start = next;
  }
  const path: Cut[] = [];
  for (let end = bytes.length; end > 0; end = from[end]!) path.push({ start: from[end]!, end, id: ids[end]! });
  return path.reverse();
}

/** SentencePiece's unigram model (Kudo 2018). */
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
    let wasUnknown = false;
    for (const { start, end, id } of bestPath(bytes, this.tokens, this.scores, this.unknownScore, Float32Array)) {
      if (id >= 0) out.push(id);
      else this.pushUnknown(bytes.subarray(start, end), wasUnknown, out);
      wasUnknown = id < 0;
    }
  }

  private pushUnknown(character: Uint8Array, wasUnknown: boolean, out: number[]): void {
    const ids = Array.from(character, (byte) => this.byteIds[byte] ?? -1);
    if (ids.every((id) => id >= 0)) out.push(...ids);
    else if (this.unknown >= 0 && !wasUnknown) out.push(this.unknown); // one for a run of them
  }
}
