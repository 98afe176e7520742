import type { Model } from '../models/model.js';
import { Sampler, type SamplingOptions } from '../session/sampler.js';
import type { Session } from '../session/session.js';
import type { TokenMask } from './masks.js';

/**
 * All that the engine asks of a model: feed some tokens of many sessions in one native call, and get for each what it
 * wants. Nothing else in this folder runs a forward.
 */
export interface Piece {
  session: Session;
  tokens: Int32Array;
  /** next: chosen by `chooser` from the logits of the last token; all: the logits of every token. */
  want: 'none' | 'next' | 'all';
  chooser?: Chooser;
}

export interface Chosen {
  token: number;
  /** Natural log of its probability before temperature and filters. */
  logprob: number;
  /** The likeliest tokens at its place, where they were asked for. */
  alternatives?: { token: number; logprob: number }[];
}

export interface Outcome {
  next?: Chosen;
  /** (tokens, V) */
  rows?: Float32Array;
}

/** What chooses a sequence's tokens, and has seen those so far. */
export class Chooser {
  private readonly sampler: Sampler;

  constructor(
    options: SamplingOptions,
    private readonly vocabSize: number,
    private readonly mask?: TokenMask,
  ) {
    this.sampler = new Sampler(options, vocabSize);
  }

  observe(tokens: Iterable<number>): void {
    this.sampler.observe(tokens);
  }

  next(row: Float32Array): Chosen {
    if (!this.mask) return this.sampler.next(row);
    const allowed = this.mask.allowed();
    const masked = allowed ? row.map((x, t) => (allowed[t >> 5]! & (1 << (t & 31)) ? x : -Infinity)) : row;
    const chosen = this.sampler.next(masked.subarray(0, this.vocabSize));
    this.mask.accept(chosen.token);
    return chosen;
  }
}

/** One native call for all pieces; all or nothing, as Model.forwardBatch(). */
export async function runStep(model: Model, pieces: readonly Piece[], signal: AbortSignal): Promise<Outcome[]> {
  const entries = pieces.map(({ session, tokens, want }) => {
    const logits = ({ none: 'none', next: 'last', all: 'all' } as const)[want];
    return { session, tokens, logits };
  });
  const tensors = await model.forwardBatch(entries, { signal });
  return pieces.map(({ want, chooser }, i) => {
    if (want === 'none') return {};
    const rows = tensors[i]!.toFloat32Array();
    return want === 'all' ? { rows } : { next: chooser!.next(rows) };
  });
}
