import { checkCall, unlessAborted } from '../cancellation.js';
import { mismatch, StatespaceError, show } from '../errors.js';
import type { TokenMask } from '../grammar/mask.js';
import { checkKnown } from '../options.js';
import type { FinishReason, Generated, GenerateOptions, Generation } from './generation.js';
import { chooseByHook } from './hook.js';
import type { Network, Tokenizing } from './network.js';
import { encodePrompt } from './prompt.js';
import { type Chosen, SAMPLING_OPTIONS, Sampler } from './sampler.js';
import { readStops, type Stops } from './stops.js';
import { lastWithText, TextStream } from './text.js';
import { type Unsaid, UnsaidText } from './unsaid.js';

export interface StepOptions {
  signal?: AbortSignal | undefined;
  /** A bit for each id that may come. */
  mask?: Int32Array | undefined;
  /** Called with the session's position when the step has ended, before a call that waits for it begins: it may read the session. */
  read?: ((position: number) => void) | undefined;
}

/** Ids, or those of a long text, which another thread makes. */
export type Tokens = Int32Array | Promise<Int32Array>;

/** What generate() does with its session. */
export interface Generating {
  network: Network;
  position(): number;
  /** Feeds tokens, and one that was accepted before them; chooses what follows. */
  next(tokens: Tokens, sampler: Sampler, options: StepOptions): Promise<Chosen>;
  /** What comes of the row of logits that follows, which is its own to change; when `use` is called is said at `read`. */
  row<T>(
    tokens: Tokens,
    options: { signal?: AbortSignal | undefined },
    use: (row: Float32Array, position: number) => T,
  ): Promise<T>;
  /** From such a row. */
  choose(row: Float32Array, sampler: Sampler): number;
  tokens(from: number): Int32Array;
  /** The token belongs to the sequence; it is fed with what comes next. */
  accept(token: number): void;
  /** Of the last call that ended early. */
  unsaid: Unsaid | undefined;
  /** ERR_STATE where another generate() of the session has not ended. */
  begin(): void;
  end(): void;
}

// Loaded at its first use.
const lazyMasks = (): typeof import('../grammar/mask.js') => require('../grammar/mask.js');

const DEFAULT_MAX_TOKENS = 256;
export const GENERATE_OPTIONS: readonly string[] = [
  ...SAMPLING_OPTIONS,
  ...['prompt', 'maxTokens', 'stop', 'signal', 'processLogits', 'responseFormat'],
];
const NONE = new Int32Array(0);

interface Checked {
  options: GenerateOptions;
  maxTokens: number;
  stops: Stops;
  sampler: Sampler;
  prompt: Tokens;
}

const isNone = (tokens: Tokens): boolean => !(tokens instanceof Promise) && tokens.length === 0;

/** The loop behind Session.generate(). */
export function generate(session: Generating, options: GenerateOptions): Generation {
  const end: { reason?: FinishReason; by?: string | number } = {};
  const stream = run(session, options, end);
  Object.defineProperties(stream, {
    finishReason: { get: () => end.reason, enumerable: true },
    stoppedBy: { get: () => end.by, enumerable: true },
  });
  return stream as unknown as Generation;
}

async function* run(
  session: Generating,
  given: GenerateOptions,
  end: { reason?: FinishReason; by?: string | number },
): AsyncGenerator<Generated, void, undefined> {
  session.begin();
  let last: Generated | undefined;
  let mask: TokenMask | undefined;
  let unsaid = undefined as UnsaidText | undefined;
  // Who has read the last token need not ask for another before the session may generate again.
  const finish = (reason: FinishReason, by?: string | number) => {
    if (end.reason) return;
    end.reason = reason;
    end.by = by;
    if (last) last.finishReason = reason;
    mask?.close();
    session.end();
  };
  try {
    const { options, maxTokens, stops, sampler, prompt } = check(session, given);
    const { signal } = options;
    const { tokenizer } = session.network;
    signal?.throwIfAborted();
    const { responseFormat } = options;
    if (responseFormat !== undefined)
      mask = await lazyMasks().TokenMask.open(session.network, responseFormat, new Set(stops.ids.keys()), signal);
    if (maxTokens === 0) {
      if (!isNone(prompt)) await session.row(prompt, { signal }, () => undefined);
      return finish('length');
    }
    let tokens = prompt;
    let text = undefined as TextStream | undefined;
    let waiting: Generated | undefined; // its text is not known before the next token is
    for (let count = 1; ; count++) {
      let said = ''; // what an earlier call held back
      const begin = (position: number) => {
        unsaid = new UnsaidText(isNone(prompt) && session.unsaid?.until === position ? session.unsaid : undefined);
        const { from = position } = unsaid.left ?? {};
        text = new TextStream(tokenizer!, stops, contextOf(session, tokenizer!, from));
        for (const token of session.tokens(from)) said += unsaid.news(text.push(token));
        session.unsaid = undefined;
      };
      const chosen = await next(session, sampler, tokens, options, mask, tokenizer && !text ? begin : undefined);
      tokens = NONE;
      const stop = chosen ? stops.ids.get(chosen.token) : WHOLE;
      if (!chosen || stop) {
        const left = waiting ?? (unsaid?.left && { ...unsaid.left.last, text: said });
        if (left) {
          left.text += unsaid!.news(text!.rest());
          last = left;
          finish(stop!.reason, stop!.by);
          yield left;
        }
        return finish(stop!.reason, stop!.by);
      }
      if (count < maxTokens) mask?.accept(chosen.token);
      const part: Generated = { ...chosen };
      for (const a of part.alternatives ?? []) if (text) a.text = text.peek(a.token);
      if (text) part.text = said + unsaid!.news(text.push(chosen.token));
      if (waiting) {
        last = waiting;
        unsaid?.say(waiting.text!);
        yield waiting;
        waiting = undefined;
        signal?.throwIfAborted();
      }
      if (text?.stopped !== undefined) {
        if (part.text) last = part;
        finish('stop', text.stopped);
        if (part.text) yield part;
        return;
      }
      if (text?.holds) unsaid!.hold(session.position(), part);
      else unsaid?.clear();
      session.accept(part.token);
      if (count === maxTokens) {
        if (text) part.text += unsaid!.news(text.rest(false));
        last = part;
        finish('length');
        yield part;
        return;
      }
      if (text?.holds) {
        waiting = part;
      } else {
        last = part;
        yield part;
      }
      signal?.throwIfAborted();
    }
  } finally {
    if (!end.reason && unsaid) session.unsaid = unsaid.left;
    finish('abort');
  }
}

/** The last tokens before a place. */
const contextOf = (session: Generating, tokenizer: Tokenizing, until: number): Int32Array =>
  lastWithText(tokenizer, until, (from) => session.tokens(from).subarray(0, until - from));

// All that a format allows has been said.
const WHOLE = { reason: 'eos', by: undefined } as const;

/** The token that follows, in native code or through the caller's hook; undefined where the format allows none. */
async function next(
  session: Generating,
  sampler: Sampler,
  tokens: Tokens,
  { signal, processLogits, logprobs }: GenerateOptions,
  mask: TokenMask | undefined,
  read: StepOptions['read'],
): Promise<Chosen | undefined> {
  const allowed = mask && (await unlessAborted(signal, mask.allowed()));
  if (allowed === 'whole') {
    read?.(session.position());
    return undefined;
  }
  if (!processLogits) return session.next(tokens, sampler, { signal, mask: allowed, read });
  return session.row(tokens, { signal }, (row, position) => {
    read?.(position);
    return chooseByHook(
      { processLogits, logprobs },
      {
        ...{ row, vocabSize: session.network.vocabSize, tokens: session.tokens(0), mask: allowed },
        choose: (changed) => session.choose(changed, sampler),
      },
    );
  });
}

function check(session: Generating, options: GenerateOptions): Checked {
  const { network } = session;
  checkCall('generate', options);
  checkKnown('generate', options, GENERATE_OPTIONS);
  const { maxTokens = DEFAULT_MAX_TOKENS, stop = [], processLogits } = options;
  if (!Number.isSafeInteger(maxTokens) || maxTokens < 0)
    throw mismatch('ERR_ARGUMENT', 'generate: maxTokens', 'a non-negative integer', show(maxTokens));
  if (processLogits !== undefined && typeof processLogits !== 'function')
    throw mismatch('ERR_ARGUMENT', 'generate: processLogits', 'a function', show(processLogits));
  const stops = readStops(network, stop);
  if (!network.hasLogits)
    throw new StatespaceError(
      'ERR_ARGUMENT',
      'generate: expected a network whose rows are logits of tokens; this one reads float rows or has no head',
    );
  const sampler = new Sampler(options, network.vocabSize, stops.ids.keys());
  return { options, maxTokens, stops, sampler, prompt: readPrompt(session, options.prompt) };
}

function readPrompt(session: Generating, prompt: unknown): Tokens {
  const { network } = session;
  if (prompt === undefined) return NONE;
  if (typeof prompt === 'string') {
    if (!network.tokenizer)
      throw new StatespaceError(
        'ERR_ARGUMENT',
        'generate: prompt: text needs a tokenizer in the model folder; give token ids',
      );
    const first = session.position() === 0;
    return network.encodeLong(prompt, first) ?? encodePrompt(network.tokenizer, prompt, first);
  }
  if (typeof prompt !== 'object' || prompt === null || typeof (prompt as ArrayLike<number>).length !== 'number')
    throw mismatch('ERR_ARGUMENT', 'generate: prompt', 'a text or an array of token ids', show(prompt));
  return network.readInput(prompt as ArrayLike<number>, 'generate: prompt') as Int32Array;
}
