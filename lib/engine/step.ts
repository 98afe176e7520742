import type { TokenMask } from '../grammar/mask.js';
import type { Model } from '../models/model.js';
import { type Chosen, Sampler, type SamplingOptions } from '../session/sampler.js';
import { Session } from '../session/session.js';

/**
 * All that the engine asks of a model: feed some tokens of many sessions in one native call, and get for each what it
 * wants. Nothing else in this folder runs a forward.
 */
export interface Piece {
  session: Session;
  tokens: Int32Array;
  /** next: chosen by `chooser` where the logits of the last token are; all: the logits of every
   *  token; hidden: what the head would read. */
  want: 'none' | 'next' | 'all' | 'hidden';
  chooser?: Chooser;
}

export interface Outcome {
  next?: Chosen;
  /** Nothing was fed: the text is all that its format allows. */
  whole?: true;
  /** (tokens, V), or (tokens, dModel) of hidden states. */
  rows?: Float32Array;
}

/** What chooses a sequence's tokens: a sampler, and what the text must keep to. */
export class Chooser {
  readonly sampler: Sampler;

  constructor(
    options: SamplingOptions,
    vocabSize: number,
    stopIds: Iterable<number>,
    readonly mask?: TokenMask,
  ) {
    this.sampler = new Sampler(options, vocabSize, stopIds);
  }
}

/**
 * One native call for all pieces and the tokens that follow; all or nothing, as Model.forwardBatch(). Pieces that want
 * hidden states go by themselves.
 */
export async function runStep(model: Model, pieces: readonly Piece[], signal: AbortSignal): Promise<Outcome[]> {
  if (pieces[0]!.want !== 'hidden') return step(model, pieces, signal);
  return (await hiddenRows(model, pieces, signal)).map((rows) => ({ rows }));
}

async function step(model: Model, all: readonly Piece[], signal: AbortSignal): Promise<Outcome[]> {
  const masks = await Promise.all(
    all.map(({ want, chooser }) => (want === 'next' ? chooser!.mask?.allowed() : undefined)),
  );
  const pieces = all.filter((_, i) => masks[i] !== 'whole');
  const outcomes =
    pieces.length > 0
      ? await feed(
          model,
          pieces,
          masks.filter((m) => m !== 'whole'),
          signal,
        )
      : [];
  let at = 0;
  return masks.map((mask) => (mask === 'whole' ? { whole: true } : outcomes[at++]!));
}

async function feed(
  model: Model,
  pieces: readonly Piece[],
  masks: readonly (Int32Array | undefined)[],
  signal: AbortSignal,
): Promise<Outcome[]> {
  const results = await Session.together(
    pieces.map((p) => p.session),
    (handles) =>
      model.step(
        pieces.map(({ tokens, want, chooser }, i) => ({
          session: handles[i]!,
          tokens,
          logits: want === 'all' ? 'all' : 'none',
          ...(want === 'next' ? { sampler: chooser!.sampler, mask: masks[i] } : {}),
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

async function hiddenRows(model: Model, pieces: readonly Piece[], signal: AbortSignal): Promise<Float32Array[]> {
  const lengths = pieces.map((p) => p.tokens.length);
  const total = lengths.reduce((a, b) => a + b, 0);
  const data = new Int32Array(total);
  let at = 0;
  for (const { tokens } of pieces) {
    data.set(tokens, at);
    at += tokens.length;
  }
  const rows = await Session.together(
    pieces.map((p) => p.session),
    (handles) => model.forward(handles, data, lengths, new Array(handles.length).fill('hidden'), { signal }),
  );
  const width = rows.length / total;
  at = 0;
  return lengths.map((length) => {
    at += length;
    return rows.slice((at - length) * width, at * width);
  });
}
