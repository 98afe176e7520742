import { mismatch, StatespaceError, show } from '../errors.js';
import { checkCall } from './cancellation.js';
import { Sampler, type SamplingOptions } from './sampler.js';
import type { Session } from './session.js';

/** What is generated from, how tokens are chosen, and where it ends. */
export interface GenerateOptions extends SamplingOptions {
  /** Text (needs a tokenizer) or token ids to feed first. */
  prompt?: string | ArrayLike<number>;
  /** Default: 256. */
  maxTokens?: number;
  /** Ends at these token ids or texts; neither is part of what is streamed. */
  stop?: (string | number)[];
  /** Ends the stream; it throws the signal's reason. */
  signal?: AbortSignal;
}

/** One token of the stream. */
export interface Generated {
  /** Its id. */
  token: number;
  /** What this token adds, where the model has a tokenizer. */
  text?: string;
  /** Natural log of its probability before temperature and filters. */
  logprob: number;
}

const DEFAULT_MAX_TOKENS = 256;

/** The loop behind Session.generate(). */
export async function* generate(
  session: Session,
  options: GenerateOptions,
  memory: { lastRow(): Float32Array | undefined; seen(): Iterable<number> },
): AsyncGenerator<Generated> {
  const { model } = session;
  checkCall('generate', options);
  const { maxTokens = DEFAULT_MAX_TOKENS, stop = [], signal } = options;
  if (!Number.isSafeInteger(maxTokens) || maxTokens < 0) {
    throw new StatespaceError(
      'ERR_ARGUMENT',
      `generate: maxTokens: expected a non-negative integer, received ${show(maxTokens)}`,
    );
  }
  if (!Array.isArray(stop) || !stop.every((s) => typeof s === 'string' || Number.isInteger(s)))
    throw mismatch('ERR_ARGUMENT', 'generate: stop', 'an array of token ids and texts', show(stop));
  const stopTexts = stop.filter((s) => typeof s === 'string');
  if (stopTexts.length > 0 && !model.tokenizer)
    throw new StatespaceError('ERR_ARGUMENT', 'generate: stop: texts need a tokenizer.json; give token ids');
  const stopIds = new Set<number>([...stop.filter((s) => typeof s === 'number'), ...model.eosTokens]);
  const sampler = new Sampler(options, model.vocabSize);
  signal?.throwIfAborted();

  let row = memory.lastRow();
  if (options.prompt !== undefined) {
    const ids = typeof options.prompt === 'string' ? encode(session, options.prompt) : options.prompt;
    if (typeof ids !== 'object' || ids === null || typeof ids.length !== 'number')
      throw mismatch('ERR_ARGUMENT', 'generate: prompt', 'a text or an array of token ids', show(ids));
    if (ids.length === 0 && !row)
      throw new StatespaceError('ERR_ARGUMENT', 'generate: prompt: expected at least one token');
    if (ids.length > 0) row = (await session.forward(ids, { signal })).toFloat32Array();
  }
  if (!row)
    throw new StatespaceError(
      'ERR_ARGUMENT',
      "generate: expected a prompt, or an earlier forward with logits 'last' or 'all'",
    );
  sampler.observe(memory.seen());

  const decoder = model.tokenizer && new TextStream((ids) => model.tokenizer!.decode(ids), stopTexts);
  /** What follows from `row`, unless that is a stop. */
  const choose = () => {
    const chosen = sampler.next(row!);
    return stopIds.has(chosen.token) ? undefined : chosen;
  };
  let chosen = maxTokens > 0 ? choose() : undefined;
  for (let count = 1; chosen; count++) {
    signal?.throwIfAborted();
    const { token, logprob } = chosen;
    let text = decoder?.push(token);
    if (decoder?.stopped) {
      if (text) yield { token, text, logprob };
      return;
    }
    // The token joins the session before it is handed out, so that a consumer who stops here can go on later.
    row = (await session.forward([token], { signal })).toFloat32Array();
    chosen = count < maxTokens ? choose() : undefined;
    if (!chosen && decoder) text += decoder.rest();
    yield decoder ? { token, text: text!, logprob } : { token, logprob };
  }
}

function encode(session: Session, text: string): Int32Array {
  if (!session.model.tokenizer) {
    throw new StatespaceError(
      'ERR_ARGUMENT',
      'generate: prompt: text needs a tokenizer.json in the model folder; give token ids',
    );
  }
  return session.model.tokenizer.encode(text);
}

/** Turns ids into text as they come: holds back bytes of an unfinished character and what may become a stop text. */
export class TextStream {
  stopped = false;
  private ids: number[] = [];
  private given = '';

  constructor(
    private readonly decode: (ids: number[]) => string,
    private readonly stops: string[],
  ) {}

  push(token: number): string {
    this.ids.push(token);
    let text = this.decode(this.ids);
    if (text.endsWith('\ufffd')) return '';
    for (const stop of this.stops) {
      const at = text.indexOf(stop, Math.max(0, this.given.length - stop.length));
      if (at >= 0) {
        text = text.slice(0, at);
        this.stopped = true;
      }
    }
    const safe = this.stopped ? text.length : text.length - this.held(text);
    const news = text.slice(this.given.length, Math.max(this.given.length, safe));
    this.given += news;
    return news;
  }

  /** What was held back, at the end of the stream. */
  rest(): string {
    return this.decode(this.ids).slice(this.given.length);
  }

  /** Length of the longest end of `text` that begins a stop text. */
  private held(text: string): number {
    let longest = 0;
    for (const stop of this.stops) {
      for (let n = Math.min(stop.length - 1, text.length); n > longest; n--) {
        if (text.endsWith(stop.slice(0, n))) longest = n;
      }
    }
    return longest;
  }
}
