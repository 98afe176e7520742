import type { Model } from '../models/model.js';
import type { FinishReason } from '../session/generation.js';
import { lastWithText, TextStream } from '../session/text.js';
import type { EngineToken, Limits, Usage } from './request.js';
import type { Task } from './run.js';
import type { Chooser, Outcome, Piece } from './step.js';

/** A token as soon as it is chosen, or the end. */
export type GenerationEvent =
  /** `whole`: no part of its text is held back as the beginning of a character or of a stop text. */
  | { kind: 'token'; token: EngineToken; whole: boolean }
  /** `text`: what had been held back as the beginning of a stop text. */
  /** `closing`: the token that ended it, where it was one; no part of the text. */
  | {
      kind: 'end';
      finishReason: FinishReason;
      stoppedBy?: string | number;
      usage: Usage;
      text: string;
      closing?: EngineToken;
    };

/** A text that is generated: what it has come to so far, and what its reader has not taken yet. */
export class Generation implements Task {
  readonly cacheable = true;
  readonly mostTokens: number;
  private readonly text: TextStream | undefined;
  private readonly generated: number[] = [];
  private fedTokens = 0;
  private cachedTokens = 0;
  private readonly events: GenerationEvent[] = [];
  private failure: { error: unknown } | undefined;
  private wake: (() => void) | undefined;

  constructor(
    model: Model,
    private readonly prompt: Int32Array,
    private readonly limits: Limits,
    private readonly chooser: Chooser,
    private readonly onToken: () => void,
  ) {
    this.mostTokens = prompt.length + limits.maxTokens;
    const { tokenizer } = model;
    if (!tokenizer) return;
    const before = lastWithText(tokenizer, prompt.length, (from) => prompt.subarray(from));
    this.text = new TextStream(tokenizer, limits.stops, before);
  }

  want(last: boolean): Pick<Piece, 'want' | 'chooser'> {
    return last ? { want: 'next', chooser: this.chooser } : { want: 'none' };
  }

  waits(): Promise<unknown> | undefined {
    const { mask } = this.chooser;
    return mask && !mask.ready ? mask.allowed() : undefined;
  }

  admitted(cachedTokens: number): void {
    this.cachedTokens = cachedTokens;
  }

  received({ next, whole }: Outcome, _piece: Int32Array, last: boolean): Int32Array | 'ended' | undefined {
    if (whole) return this.end('eos');
    if (!last) return undefined;
    this.fedTokens = this.generated.length;
    const { token, logprob, alternatives } = next!;
    const stop = this.limits.stops.ids.get(token);
    const part: EngineToken = { token, logprob, cachedTokens: this.cachedTokens };
    const { text } = this;
    if (alternatives)
      // Named one by one: a spread of the addon's objects takes twice the memory, while a reader is behind.
      part.alternatives = alternatives.map((a) => {
        const its = { token: a.token, logprob: a.logprob };
        return text ? { ...its, text: text.peek(a.token) } : its;
      });
    if (stop) return this.end(stop.reason, stop.by, part);
    this.generated.push(token);
    if (text) part.text = text.push(token);
    const stopped = text?.stopped;
    if (stopped !== undefined && !part.text) {
      this.generated.pop();
      return this.end('stop', stopped);
    }
    this.onToken();
    this.push({ kind: 'token', token: part, whole: !text?.holds });
    if (stopped !== undefined) return this.end('stop', stopped);
    return this.generated.length < this.limits.maxTokens ? Int32Array.of(token) : this.end('length');
  }

  /** At once, where no token was asked for. */
  end(finishReason: FinishReason, stoppedBy?: string | number, closing?: EngineToken): 'ended' {
    const text = this.text?.rest() ?? '';
    const counts = { promptTokens: this.prompt.length, cachedTokens: this.cachedTokens };
    const usage = { ...counts, generatedTokens: this.generated.length };
    const more = { ...(stoppedBy === undefined ? {} : { stoppedBy }), ...(closing ? { closing } : {}) };
    this.push({ kind: 'end', finishReason, ...more, text, usage });
    return 'ended';
  }

  failed(error: unknown): void {
    this.failure = { error };
    this.wake?.();
  }

  read(): Int32Array {
    const all = new Int32Array(this.prompt.length + this.fedTokens);
    all.set(this.prompt);
    for (let i = 0; i < this.fedTokens; i++) all[this.prompt.length + i] = this.generated[i]!;
    return all;
  }

  /** Ends after the end; throws what the request failed of. */
  async *stream(): AsyncGenerator<GenerationEvent, void> {
    for (;;) {
      const event = this.events.shift();
      if (event) {
        yield event;
        if (event.kind === 'end') return;
      } else if (this.failure) {
        throw this.failure.error;
      } else {
        await new Promise<void>((resolve) => {
          this.wake = resolve;
        });
      }
    }
  }

  private push(event: GenerationEvent): void {
    this.events.push(event);
    this.wake?.();
  }
}

/** Tokens as they are chosen; after the end, why it ended and what it took. */
export interface EngineStream extends AsyncGenerator<EngineToken, void, undefined> {
  readonly finishReason: FinishReason | undefined;
  /** Which of `stop` (or which eos token) it was. */
  readonly stoppedBy: string | number | undefined;
  readonly usage: Usage | undefined;
}

/**
 * The tokens of a stream, at once but for those whose text is not whole. When it has ended, the last of them and the
 * stream itself say why, and what it took.
 */
export function tokensOf(events: AsyncGenerator<GenerationEvent, void>): EngineStream {
  const end: End = {};
  const stream = run(events, end);
  Object.defineProperties(stream, {
    finishReason: { get: () => end.finishReason, enumerable: true },
    stoppedBy: { get: () => end.stoppedBy, enumerable: true },
    usage: { get: () => end.usage, enumerable: true },
  });
  return stream as unknown as EngineStream;
}

interface End {
  finishReason?: FinishReason;
  stoppedBy?: string | number;
  usage?: Usage;
}

async function* run(
  events: AsyncGenerator<GenerationEvent, void>,
  end: End,
): AsyncGenerator<EngineToken, void, undefined> {
  let last: EngineToken | undefined;
  let held: EngineToken | undefined;
  try {
    for await (const event of events) {
      if (event.kind === 'token') {
        if (held) yield held;
        last = event.token;
        held = event.whole ? undefined : last;
        if (!held) yield last;
        continue;
      }
      const { finishReason, stoppedBy, usage } = event;
      Object.assign(end, { finishReason, stoppedBy, usage });
      if (last) Object.assign(last, { finishReason, usage });
      if (held) {
        held.text += event.text;
        const whole = held;
        held = undefined;
        yield whole;
      }
    }
  } finally {
    end.finishReason ??= 'abort';
    if (last) last.finishReason ??= 'abort';
  }
}
