import { checkCall } from '../cancellation.js';
import { mismatch, StatespaceError, show } from '../errors.js';
import type { Model } from '../models/model.js';
import { checkKnown } from '../options.js';
import { GENERATE_OPTIONS } from '../session/generate.js';
import type { Generated, GenerateOptions } from '../session/generation.js';
import { encodePrompt, LONG_TEXT } from '../session/prompt.js';
import { readStops, type Stops } from '../session/stops.js';
import { SharedTurns } from '../turns.js';

/** What Engine.generate() takes: one of prompt, tokens and messages, how tokens are chosen, and how it is served. */
export interface GenerateRequest extends GenerateOptions {
  /** Token ids; the same as an array of ids for `prompt`. */
  tokens?: ArrayLike<number> | undefined;
  /** A chat, rendered by the model's template. */
  messages?: readonly object[] | undefined;
  /** What else the template gets: tools, documents, variables of its own. */
  templateOptions?: object | undefined;
  /** Higher ones are admitted first. Default: 0. */
  priority?: number | undefined;
  /** Whose request this is: clients of equal priority are served equally. Default: one for all. */
  client?: string | undefined;
  /** Until its last token; past that it fails with ERR_TIMEOUT. */
  timeoutMs?: number | undefined;
}

/** What a request took. */
export interface Usage {
  promptTokens: number;
  /** Of those, found in the prefix cache. */
  cachedTokens: number;
  generatedTokens: number;
}

/** One token of a stream; the last also says why it is the last. */
export interface EngineToken extends Generated {
  /** Of the prompt, found in the prefix cache. */
  cachedTokens: number;
  usage?: Usage;
}

/** A request whose options have been checked, and its prompt as ids. */
export interface Prompt {
  tokens: Int32Array;
  /** Where messages end. */
  boundaries: number[];
}

export interface Limits {
  maxTokens: number;
  stops: Stops;
}

const DEFAULT_MAX_TOKENS = 256;
const INPUTS = ['tokens', 'messages', 'templateOptions'];
export const REQUEST_OPTIONS: readonly string[] = [...GENERATE_OPTIONS, ...INPUTS, 'priority', 'client', 'timeoutMs'];

/** ERR_ARGUMENT for what session.generate() refuses as well, and for what only the engine takes. */
export function readLimits(model: Model, request: GenerateRequest): Limits {
  checkCall('generate', request);
  checkKnown('generate', request, REQUEST_OPTIONS);
  const { maxTokens = DEFAULT_MAX_TOKENS, stop = [], priority = 0, timeoutMs, client, processLogits } = request;
  if (!Number.isSafeInteger(maxTokens) || maxTokens < 0)
    throw mismatch('ERR_ARGUMENT', 'generate: maxTokens', 'a non-negative integer', show(maxTokens));
  if (processLogits !== undefined && typeof processLogits !== 'function')
    throw mismatch('ERR_ARGUMENT', 'generate: processLogits', 'a function', show(processLogits));
  if (!Number.isFinite(priority)) throw mismatch('ERR_ARGUMENT', 'generate: priority', 'a number', show(priority));
  if (timeoutMs !== undefined && !(Number.isFinite(timeoutMs) && timeoutMs > 0))
    throw mismatch('ERR_ARGUMENT', 'generate: timeoutMs', 'milliseconds above 0', show(timeoutMs));
  if (client !== undefined && typeof client !== 'string')
    throw mismatch('ERR_ARGUMENT', 'generate: client', 'a string', show(client));
  const { templateOptions, messages } = request;
  if (templateOptions !== undefined && messages === undefined)
    throw new StatespaceError('ERR_ARGUMENT', 'generate: templateOptions: go with messages alone');
  if (templateOptions !== undefined && (typeof templateOptions !== 'object' || Array.isArray(templateOptions ?? [])))
    throw mismatch('ERR_ARGUMENT', 'generate: templateOptions', 'an object', show(templateOptions));
  return { maxTokens, stops: readStops(model, stop) };
}

/**
 * The prompt's ids; ERR_ARGUMENT where there is none or more than one, or an id is none of the model's. `field`: what errors
 * call a text or ids that came in as a prompt.
 */
export function readPrompt(model: Model, request: GenerateRequest, field?: string): Prompt {
  const given = (['prompt', 'tokens', 'messages'] as const).filter((key) => request[key] !== undefined);
  const where = field ?? `generate: ${given[0]}`;
  if (given.length === 0 && field)
    throw mismatch('ERR_ARGUMENT', field, 'a text or an array of token ids', 'undefined');
  if (given.length !== 1)
    throw mismatch('ERR_ARGUMENT', 'generate', 'one of prompt, tokens and messages', given.join(' and ') || 'none');
  const tokens = model.readInput(idsOf(model, request, where), where) as Int32Array;
  if (tokens.length === 0) throw new StatespaceError('ERR_ARGUMENT', `${where}: expected at least one token`);
  const boundaries: number[] = [];
  // A template ends each message with a token that also ends what the model says.
  const ends = new Set(model.eosTokens);
  for (let i = 0; i < tokens.length - 1; i++) if (ends.has(tokens[i]!)) boundaries.push(i + 1);
  return { tokens, boundaries };
}

const lazyElsewhere = (): typeof import('../models/encode-elsewhere.js') => require('../models/encode-elsewhere.js');

const turns = new SharedTurns();

/** readPrompt(), long texts encoded in a thread of their own where the model's tokenizer lies in files, many short ones in turns. */
export function readLongPrompt(model: Model, request: GenerateRequest, field?: string): Prompt | Promise<Prompt> {
  const { prompt, messages, templateOptions, tokens } = request;
  const { tokenizerIn: folder, tokenizer } = model;
  const given = [prompt, messages, tokens].filter((x) => x !== undefined).length;
  const chat = Array.isArray(messages) && messages.length > 0 ? messages : undefined;
  const long =
    typeof prompt === 'string'
      ? prompt.length > LONG_TEXT
      : chat !== undefined && lengthOf([chat, templateOptions]) > LONG_TEXT;
  if (given !== 1 || !long || !folder || !tokenizer) return turns.run(() => readPrompt(model, request, field));
  const ids = lazyElsewhere().encodeElsewhere(
    chat
      ? { folder, chat: { messages: chat, options: chatOptions(templateOptions) } }
      : { folder, text: prompt as string },
  );
  return ids.then(
    (found) => readPrompt(model, { tokens: found }, field ?? `generate: ${chat ? 'messages' : 'prompt'}`),
    (error) => {
      if (error.name === 'DataCloneError' || error instanceof RangeError) return readPrompt(model, request, field); // which says what is wrong with it
      throw error;
    },
  );
}

/** About as many characters as a chat has, or its tools; no more is looked at than is needed to know that it is long. */
function lengthOf(value: unknown, depth = 0): number {
  if (typeof value === 'string') return value.length;
  if (typeof value !== 'object' || value === null || depth > 8) return 0;
  let length = 0;
  for (const item of Object.values(value)) {
    length += lengthOf(item, depth + 1);
    if (length > LONG_TEXT) break;
  }
  return length;
}

const chatOptions = (given: object = {}): Record<string, unknown> => ({
  addGenerationPrompt: (given as { continueFinalMessage?: unknown }).continueFinalMessage !== true,
  ...given,
});

function idsOf(
  model: Model,
  { prompt, tokens, messages, templateOptions }: GenerateRequest,
  where: string,
): ArrayLike<number> {
  const { tokenizer } = model;
  if (messages !== undefined) {
    if (!Array.isArray(messages) || messages.length === 0)
      throw mismatch('ERR_ARGUMENT', 'generate: messages', 'an array of at least one message', show(messages));
    if (!tokenizer)
      throw new StatespaceError('ERR_ARGUMENT', 'generate: messages: the model folder has no chat template');
    return tokenizer.encodeChat(messages, chatOptions(templateOptions));
  }
  if (typeof prompt !== 'string') return (prompt ?? tokens)!;
  if (!tokenizer)
    throw new StatespaceError('ERR_ARGUMENT', `${where}: text needs a tokenizer in the model folder; give token ids`);
  return encodePrompt(tokenizer, prompt, true);
}

/** Whether the model's folder says how a chat is written. */
export function canChat(model: Model): boolean {
  try {
    return Boolean(
      model.tokenizer?.applyChatTemplate([{ role: 'user', content: 'Hello' }], { addGenerationPrompt: true }),
    );
  } catch {
    return false;
  }
}
