import type { GenerateRequest } from '../engine/request.js';
import { show } from '../errors.js';
import type { Body } from './body.js';
import { invalid } from './errors.js';

const MAX_N = 128;
const MAX_STOPS = 16;

/** What completions and chats have in common. */
export interface Common {
  request: Omit<GenerateRequest, 'prompt' | 'tokens' | 'messages'>;
  n: number;
  stream: boolean;
  includeUsage: boolean;
}

/** `maxTokens`: where the request names none; `least`: what it may name. */
export function readCommon(body: Body, maxTokens: number | undefined, limit: number, least = 0): Common {
  body.checkSpelling(FIELDS);
  for (const [key, neutral] of UNSUPPORTED) body.unsupported(key, neutral);
  const asked =
    body.integer('max_completion_tokens', least, limit) ??
    body.integer('max_tokens', least, limit) ??
    maxTokens ??
    limit;
  body.boolean('parallel_tool_calls');
  body.boolean('store');
  body.object('metadata');
  if (body.array('modalities')?.some((kind) => kind !== 'text')) throw body.wrong('modalities', 'text alone');
  const options = {
    maxTokens: Math.min(asked, limit),
    temperature: body.number('temperature', 0, 100) ?? 1,
    topP: body.number('top_p', 0, 1),
    topK: body.integer('top_k', -1, 2 ** 31 - 1),
    minP: body.number('min_p', 0, 1),
    typicalP: body.number('typical_p', 0, 1),
    repetitionPenalty: body.number('repetition_penalty', 1e-3, 1e3),
    frequencyPenalty: body.number('frequency_penalty', -2, 2),
    presencePenalty: body.number('presence_penalty', -2, 2),
    minTokens: body.integer('min_tokens', 0, limit),
    seed: readSeed(body),
    logitBias: readBias(body),
    stop: readStop(body),
    responseFormat: readFormat(body),
    priority: body.integer('priority', -1000, 1000),
    client: body.string('user'),
  };
  if (options.topK === -1) options.topK = 0;
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const streamOptions = body.object('stream_options');
  const stream = body.boolean('stream') ?? false;
  if (streamOptions && !stream) throw body.wrong('stream_options', 'no stream_options without stream');
  return {
    request: given as Common['request'],
    n: body.integer('n', 1, MAX_N) ?? 1,
    stream,
    includeUsage: streamOptions?.boolean('include_usage') ?? false,
  };
}

const UNSUPPORTED: [string, unknown[]][] = [
  ['best_of', [1]],
  ['suffix', ['']],
  ['audio', []],
  ['prediction', []],
  ['web_search_options', []],
  ['functions', []],
  ['function_call', ['none', 'auto']],
];

/** All that this API has: read here or by a route, refused, or without a meaning for a model of one's own. */
export const FIELDS: readonly string[] = [
  ...[
    'model',
    'prompt',
    'messages',
    'input',
    'n',
    'stream',
    'stream_options',
    'stop',
    'stop_token_ids',
    'seed',
    'user',
  ],
  ...['max_tokens', 'max_completion_tokens', 'min_tokens', 'temperature', 'top_p', 'top_k', 'min_p', 'typical_p'],
  ...['repetition_penalty', 'frequency_penalty', 'presence_penalty', 'logit_bias', 'logprobs', 'top_logprobs'],
  ...[
    'response_format',
    'tools',
    'tool_choice',
    'parallel_tool_calls',
    'chat_template_kwargs',
    'documents',
    'priority',
  ],
  ...[
    'add_generation_prompt',
    'continue_final_message',
    'echo',
    'encoding_format',
    'dimensions',
    'metadata',
    'modalities',
  ],
  ...['prompt_cache_key', 'reasoning_effort', 'safety_identifier', 'service_tier', 'store', 'verbosity'],
  ...UNSUPPORTED.map(([key]) => key),
];

// OpenAI's seeds have 64 bits; the choices of one request have seeds of their own behind it.
const SEEDS = 2 ** 53 - MAX_N * 2 ** 10;

function readSeed(body: Body): number | undefined {
  const seed = body.number('seed', -(2 ** 63), 2 ** 63);
  if (seed === undefined) return undefined;
  if (!Number.isInteger(seed)) throw body.wrong('seed', 'a whole number');
  return Math.abs(seed) % SEEDS;
}

function readStop(body: Body): (string | number)[] | undefined {
  const value = body.get('stop');
  const list = value === undefined ? [] : Array.isArray(value) ? value : [value];
  if (list.length > MAX_STOPS || !list.every((s) => typeof s === 'string' && s !== ''))
    throw invalid(
      `stop: expected a text of at least one character, or at most ${MAX_STOPS} of them in an array, received ${show(value)}`,
      'stop',
    );
  const ids = body.array('stop_token_ids', 64) ?? [];
  if (!ids.every((id) => Number.isSafeInteger(id) && (id as number) >= 0))
    throw body.wrong('stop_token_ids', 'an array of token ids');
  const all = [...list, ...ids] as (string | number)[];
  return all.length > 0 ? all : undefined;
}

function readBias(body: Body): Record<number, number> | undefined {
  const bias = body.object('logit_bias');
  if (!bias) return undefined;
  const entries = Object.keys(bias.fields);
  if (entries.length > 1024) throw body.wrong('logit_bias', 'at most 1024 entries');
  return Object.fromEntries(
    entries.map((id) => {
      if (!/^\d{1,9}$/.test(id)) throw body.wrong('logit_bias', 'token ids as keys');
      return [Number(id), bias.number(id, -100, 100) ?? 0];
    }),
  );
}

function readFormat(body: Body): GenerateRequest['responseFormat'] | undefined {
  const format = body.object('response_format');
  if (!format) return undefined;
  switch (format.string('type')) {
    case 'text':
      return undefined;
    case 'json_object':
      return { type: 'json_object' };
    case 'json_schema': {
      const schema = format.object('json_schema')?.object('schema');
      if (!schema) throw format.wrong('json_schema', 'an object with a schema');
      return { type: 'json_schema', schema: schema.fields };
    }
    case 'regex':
      return { type: 'regex', pattern: format.string('pattern') ?? '' };
    case 'grammar':
      return { type: 'grammar', ebnf: format.string('ebnf') ?? '' };
  }
  throw format.wrong('type', 'text, json_object, json_schema, regex or grammar');
}

// Of an answer that is sent as a whole: some 300 bytes each, until it is.
const MOST_LOGPROBS = 1 << 20;

/** Refuses log-probabilities that would not fit in memory together; streamed, they need not. */
export function checkLogprobs({ request, n, stream }: Common, prompts: number, each: number): void {
  if (!stream) checkCount(prompts * n * request.maxTokens! * (1 + each));
}

/** Of the choices of one answer, or of its prompts. */
export function checkCount(asked: number): void {
  if (asked > MOST_LOGPROBS)
    throw invalid(
      `logprobs: expected at most ${MOST_LOGPROBS} in one answer: choices × max_tokens × (1 + alternatives), unless they are streamed, and tokens of echoed prompts × (1 + alternatives); received ${asked}`,
      'logprobs',
    );
}

/** Texts or lists of token ids: one, or an array of them. */
export function readInputs(body: Body, key: string, most: number): (string | number[])[] {
  const value = body.get(key);
  const wanted = `a text, an array of token ids, or an array of at most ${most} of these`;
  const isIds = (x: unknown): x is number[] =>
    Array.isArray(x) && x.length > 0 && x.every((id) => Number.isSafeInteger(id) && id >= 0);
  if (typeof value === 'string' || isIds(value)) return [value];
  const fits = Array.isArray(value) && value.length > 0 && value.length <= most;
  if (!fits || !value.every((x) => typeof x === 'string' || isIds(x))) throw body.wrong(key, wanted);
  return value as (string | number[])[];
}
