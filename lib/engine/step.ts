import { AsyncResource } from 'node:async_hooks';
import type { TokenMask } from '../grammar/mask.js';
import type { Model } from '../models/model.js';
import type { GenerateOptions } from '../session/generation.js';
import { chooseOfSession } from '../session/hook.js';
import type { StepEntry, StepResult } from '../session/network.js';
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
  readonly options: SamplingOptions & Pick<GenerateOptions, 'processLogits'>;

  constructor(
    options: SamplingOptions & Pick<GenerateOptions, 'processLogits'>,
    readonly vocabSize: number,
    stopIds: Iterable<number>,
    readonly mask?: TokenMask,
  ) {
    const { processLogits } = options;
    // The steps of an engine run in the context of whoever woke it: an AsyncLocalStorage has this request's.
    this.options = processLogits ? { ...options, processLogits: AsyncResource.bind(processLogits) } : options;
    this.sampler = new Sampler(options, vocabSize, stopIds);
  }
}

/** What came of a piece, or what it failed of by itself. */
export type Stepped = Outcome | { error: unknown };

/** What comes of each piece, in one native call, and another for those that want hidden states. */
export async function runSteps(model: Model, pieces: readonly Piece[], signal: AbortSignal): Promise<Stepped[]> {
  const outcomes = new Map<Piece, Stepped>();
  for (const hidden of [false, true]) {
    const group = pieces.filter((piece) => (piece.want === 'hidden') === hidden);
    if (group.length === 0) continue;
    for (const [i, outcome] of (await together(model, group, signal)).entries()) outcomes.set(group[i]!, outcome);
  }
  return pieces.map((piece) => outcomes.get(piece)!);
}

/** All in one call; where that fails each by itself, so that one that cannot go on takes no other with it. */
async function together(model: Model, pieces: readonly Piece[], signal: AbortSignal): Promise<Stepped[]> {
  try {
    return await call(model, pieces, signal);
  } catch (error) {
    if (pieces.length === 1 || signal.aborted) return pieces.map(() => ({ error }));
    const alone: Stepped[] = [];
    for (const piece of pieces)
      alone.push(
        await call(model, [piece], signal).then(
          ([outcome]) => outcome!,
          (its: unknown) => ({ error: its }),
        ),
      );
    return alone;
  }
}

/** All or nothing, as Model.forwardBatch(), but for what a request's own hook throws. */
async function call(model: Model, pieces: readonly Piece[], signal: AbortSignal): Promise<Stepped[]> {
  if (pieces[0]!.want !== 'hidden') return step(model, pieces, signal);
  return (await hiddenRows(model, pieces, signal)).map((rows) => ({ rows }));
}

type Mask = Int32Array | undefined;

async function step(model: Model, all: readonly Piece[], signal: AbortSignal): Promise<Stepped[]> {
  const masks = await Promise.all(
    all.map(({ want, chooser }) => (want === 'next' ? chooser!.mask?.allowed() : undefined)),
  );
  const pieces = all.filter((_, i) => masks[i] !== 'whole');
  const allowed = masks.filter((mask): mask is Mask => mask !== 'whole');
  const outcomes = pieces.length > 0 ? await feed(model, pieces, allowed, signal) : [];
  let at = 0;
  return masks.map((mask) => (mask === 'whole' ? { whole: true } : outcomes[at++]!));
}

function feed(model: Model, pieces: readonly Piece[], masks: readonly Mask[], signal: AbortSignal): Promise<Stepped[]> {
  return Session.together(
    pieces.map((p) => p.session),
    async (handles) => {
      const entries = pieces.map(({ tokens, want, chooser }, i): StepEntry => {
        const session = handles[i]!;
        if (want !== 'next') return { session, tokens, logits: want === 'all' ? 'all' : 'none' };
        if (chooser!.options.processLogits) return { session, tokens, logits: 'last' };
        return { session, tokens, logits: 'none', sampler: chooser!.sampler, mask: masks[i] };
      });
      const results = await model.step(entries, { signal });
      return results.map((result, i) => outcome(pieces[i]!, result, handles[i]!, masks[i]));
    },
  );
}

function outcome({ want, chooser }: Piece, result: StepResult, session: StepEntry['session'], mask: Mask): Stepped {
  if (want === 'all') return { rows: result.rows };
  if (want !== 'next') return {};
  try {
    const next = result.next ?? chooseOfSession(chooser!, result.rows, session, mask);
    chooser!.mask?.accept(next.token);
    return { next };
  } catch (error) {
    return { error };
  }
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
  return Session.together(
    pieces.map((p) => p.session),
    (handles) => model.forwardApart(handles, data, lengths, new Array(handles.length).fill('hidden'), { signal }),
  );
}
