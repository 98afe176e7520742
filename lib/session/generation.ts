// What generating is asked for, and what it gives.
import type { ResponseFormat } from '../grammar/format.js';
import type { SamplingOptions } from './sampler.js';

/** What is generated from, how tokens are chosen, and where it ends. */
export interface GenerateOptions extends SamplingOptions {
  /** Text (needs a tokenizer) or token ids to feed first. */
  prompt?: string | ArrayLike<number> | undefined;
  /** Default: 256. */
  maxTokens?: number | undefined;
  /** Ends at these token ids or texts (the text of a special token is its id); none of it is part of what is streamed. */
  stop?: (string | number)[] | undefined;
  /**
   * What the text must be: JSON, by a schema or not, or text that a regular expression or a grammar (EBNF of GBNF's kind, its
   * first rule `root`) matches. Tokens that do not lead there are left out of the choice, end-of-text and `stop` ids until
   * the text is complete. ERR_ARGUMENT for a format that cannot be kept to.
   */
  responseFormat?: ResponseFormat | undefined;
  /** Ends the stream; it throws the signal's reason. */
  signal?: AbortSignal | undefined;
  /**
   * Changes the logits in place before a token is chosen; tokens: all of the sequence so far. The slow way: each row is
   * copied to JavaScript, and the event loop waits for the hook.
   */
  processLogits?: ((row: Float32Array, tokens: readonly number[]) => void) | undefined;
}

/** One token of the stream. */
export interface Generated {
  /** Its id. */
  token: number;
  /** What this token adds, where the model has a tokenizer. */
  text?: string;
  /** Natural log of its probability before penalties, temperature and filters. */
  logprob: number;
  /** The likeliest tokens at its place, where `logprobs` asks for them; one of them may be the token itself. */
  alternatives?: { token: number; logprob: number; text?: string }[];
  /** On the last token, once the stream has ended. */
  finishReason?: FinishReason;
}

/** eos: an end-of-text token of the model; stop: one of `stop`; length: maxTokens; abort: the signal, or the reader. */
export type FinishReason = 'eos' | 'stop' | 'length' | 'abort';

/** Tokens as they are chosen; after the end, why it ended. */
export interface Generation extends AsyncGenerator<Generated, void, undefined> {
  readonly finishReason: FinishReason | undefined;
  /** Which of `stop` (or which eos token) it was. */
  readonly stoppedBy: string | number | undefined;
}
