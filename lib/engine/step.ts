import type { Model } from '../models/model.js';
import { type Chosen, Sampler, type SamplingOptions } from '../session/sampler.js';
import { Session } from '../session/session.js';
import type { TokenMask } from './masks.js';

/**
 * All that the engine asks of a model: feed some tokens of many sessions in one native call, and get for each what it
 * wants. Nothing else in this folder runs a forward.
 */
export interface Piece {
  session: Session;
  tokens: Int32Array;
  /** next: chosen by `chooser` where the logits of the last token are; all: the logits of every token. */
  want: 'none' | 'next' | 'all';
  chooser?: Chooser;
}

export interface Outcome {
  next?: Chosen;
  /** (tokens, V) */
  rows?: Float32Array;
}

/** What chooses a sequence's tokens: a sampler, and what the text must keep to. */
export class Chooser {
  readonly sampler: Sampler;

  constructor(
    options: SamplingOptions,
    vocabSize: number,
    readonly mask?: TokenMask,
  ) {
    this.sampler = new Sampler(options, vocabSize);
  }
}

/** One native call for all pieces and the tokens that follow; all or nothing, as Model.forwardBatch(). */
export async function runStep(model: Model, pieces: readonly Piece[], signal: AbortSignal): Promise<Outcome[]> {
  const results = await Session.together(
    pieces.map((p) => p.session),
    (handles) =>
      model.step(
        pieces.map(({ tokens, want, chooser }, i) => ({
          session: handles[i]!,
          tokens,
          logits: want === 'all' ? 'all' : 'none',
          ...(want === 'next' ? { sampler: chooser!.sampler, mask: chooser!.mask?.allowed() } : {}),
        })),
        { signal },
      ),
  );
  return results.map(({ next, rows }, i) => {
    const { want, chooser } = pieces[i]!;
    if (want === 'all') return { rows: rows.slice() };
    if (!next) return {};
    chooser!.mask?.accept(next.token);
    return { next };
  });
}
