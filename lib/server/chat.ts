import { randomUUID } from 'node:crypto';
import type { Engine } from '../engine/engine.js';
import type { EngineToken } from '../engine/request.js';
import { Body } from './body.js';
import { Choices, textOf, tokenBytes } from './choices.js';
import { invalid, ofTools } from './errors.js';
import { checkLogprobs, readCommon } from './sampling.js';
import { type Limits, now, type Served } from './served.js';
import { eventStream } from './sse.js';
import {
  type ForcedCall,
  forceCall,
  parseToolCalls,
  readForcedCall,
  shownLength,
  type ToolCall,
} from './tool-calls.js';

const MAX_MESSAGES = 10_000;

/** POST /v1/chat/completions */
export async function chat(engine: Engine, body: Body, limits: Limits, gone: AbortController): Promise<Served> {
  const common = readCommon(body, undefined, limits.maxTokens, 1);
  const { request, n, stream, includeUsage } = common;
  const messages = readMessages(body);
  const tools = readTools(body);
  if (tools?.forced) {
    if (request.responseFormat) throw body.wrong('response_format', 'none beside a tool_choice that forces a call');
    request.responseFormat = tools.forced.format;
  }
  const withLogprobs = body.boolean('logprobs') ?? false;
  const top = body.integer('top_logprobs', 0, 20);
  if (top !== undefined && !withLogprobs) throw body.wrong('top_logprobs', 'logprobs: true beside it');
  body.unsupported('echo', [false]);
  if (withLogprobs) checkLogprobs(common, 1, top ?? 0);
  const [adds, continues] = [body.boolean('add_generation_prompt'), body.boolean('continue_final_message')];
  if (adds && continues) throw body.wrong('add_generation_prompt', 'false beside continue_final_message: true');
  const templateOptions = {
    ...given('addGenerationPrompt', adds),
    ...given('continueFinalMessage', continues),
    ...given('documents', body.array('documents', MAX_MESSAGES)),
    ...readVariables(body),
    ...(tools ? { tools: tools.list } : {}),
  };
  const logprobs = withLogprobs ? { logprobs: top ?? 0 } : {};
  const choices = new Choices(engine, [{ ...request, ...logprobs, messages, templateOptions }], n, gone, 'messages');
  const id = `chatcmpl-${randomUUID()}`;
  const events = await choices.start().catch((error) => {
    throw tools?.forced ? ofTools(error) : error;
  });
  const shown = (token: EngineToken) => (withLogprobs ? { content: [logprobOf(engine, token)], refusal: null } : null);

  if (stream) {
    const base = { id, object: 'chat.completion.chunk', created: now(), model: limits.model };
    const usage = includeUsage ? { usage: null } : {};
    const one = (index: number, delta: object, finish_reason: string | null, logprobs: object | null = null) => {
      return { ...base, choices: [{ index, delta, logprobs, finish_reason }], ...usage };
    };
    async function* chunks() {
      const written = Array.from({ length: n }, () => new Answer(tools));
      // In their order and before any text: clients put what comes of a choice at its place in a list.
      for (const index of written.keys()) yield one(index, { role: 'assistant', content: '' }, null);
      for await (const event of events) {
        const index = event.choice;
        const answer = written[index]!;
        if ('token' in event) {
          const content = answer.add(textOf(event.token));
          if (content || withLogprobs) yield one(index, { content }, null, shown(event.token));
          continue;
        }
        const { content, calls } = answer.end(event.text);
        if (content) yield one(index, { content }, null);
        for (const [i, call] of calls.entries()) yield one(index, { tool_calls: [{ index: i, ...call }] }, null);
        yield one(index, {}, finishOf(tools, calls, event.finishReason));
      }
      if (includeUsage) yield { ...base, choices: [], usage: choices.usage };
    }
    return { ...eventStream(chunks(), gone), usage: choices.usage };
  }

  const all = Array.from({ length: n }, (_, index) => {
    return { index, text: '', content: [] as object[], finish_reason: '' };
  });
  for await (const event of events) {
    const choice = all[event.choice]!;
    if ('token' in event) {
      choice.text += textOf(event.token);
      if (withLogprobs) choice.content.push(logprobOf(engine, event.token));
    } else {
      choice.text += event.text;
      choice.finish_reason = event.finishReason;
    }
  }
  const answered = all.map(({ index, text, content, finish_reason }) => {
    const { content: said, calls } = readAnswer(tools, text);
    const called = calls.length > 0;
    const message = {
      ...{ role: 'assistant', content: called && !said ? null : said, refusal: null },
      ...(called ? { tool_calls: calls } : {}),
    };
    const logprobs = withLogprobs ? { content, refusal: null } : null;
    return { index, message, logprobs, finish_reason: finishOf(tools, calls, finish_reason) };
  });
  const json = { id, object: 'chat.completion', created: now(), model: limits.model, choices: answered };
  return { json: { ...json, usage: choices.usage }, usage: choices.usage };
}

interface Tools {
  list: unknown[];
  names: ReadonlySet<string>;
  /** What the answer has to be. */
  forced: ForcedCall | undefined;
}

function readAnswer(tools: Tools | undefined, text: string): { content: string; calls: ToolCall[] } {
  if (!tools) return { content: text, calls: [] };
  return tools.forced ? readForcedCall(text, tools.forced) : parseToolCalls(text, tools.names);
}

/** As OpenAI's API has it: who named the tool gets the reason for which the text ended, and so does who must know that it was cut. */
const finishOf = (tools: Tools | undefined, calls: readonly ToolCall[], reason: string): string =>
  calls.length > 0 && reason !== 'length' && tools?.forced?.name === undefined ? 'tool_calls' : reason;

const given = (key: string, value: unknown) => (value === undefined ? {} : { [key]: value });

/** A streamed answer: what may be the beginning of a tool call is held back until it is clear. */
class Answer {
  private text = '';
  private given = 0;

  constructor(private readonly tools: Tools | undefined) {}

  add(text: string): string {
    this.text += text;
    if (this.tools?.forced) return '';
    return this.give(this.tools ? shownLength(this.text) : this.text.length);
  }

  end(text: string): { content: string; calls: ToolCall[] } {
    this.text += text;
    const { content, calls } = readAnswer(this.tools, this.text);
    return { content: this.give(content.length), calls };
  }

  private give(to: number): string {
    const news = this.text.slice(this.given, Math.max(this.given, to));
    this.given += news.length;
    return news;
  }
}

function logprobOf(engine: Engine, token: EngineToken): object {
  const one = (id: number, logprob: number) => {
    const bytes = tokenBytes(engine, id);
    return { token: bytes.toString(), logprob, bytes: [...bytes] };
  };
  const top_logprobs = (token.alternatives ?? []).map((a) => one(a.token, a.logprob));
  return { ...one(token.token, token.logprob), top_logprobs };
}

function readMessages(body: Body): Record<string, unknown>[] {
  const list = body.array('messages', MAX_MESSAGES);
  if (!list || list.length === 0) throw body.wrong('messages', 'an array of at least one message');
  return list.map((item, i) => {
    const at = `messages.${i}`;
    const message = Body.of(item, at);
    const role = message.string('role');
    if (!role) throw message.wrong('role', 'system, user, assistant or tool');
    const content = message.get('content');
    const text = Array.isArray(content) && content.length > 0 ? partsOf(content, at) : content;
    // What an assistant did may be its calls alone.
    const empty = text === undefined && role === 'assistant';
    if (!empty && typeof text !== 'string') throw message.wrong('content', 'a text or an array of parts');
    for (const key of ['name', 'tool_call_id']) message.string(key);
    const calls = message.array('tool_calls', 1024)?.map((call, j) => readCall(call, `${at}.tool_calls.${j}`));
    return {
      ...message.fields,
      // OpenAI's newer name; templates know the older.
      role: role === 'developer' ? 'system' : role,
      content: text ?? '',
      ...(calls ? { tool_calls: calls } : {}),
    };
  });
}

/** What has a field, and in the template's variables would be passed over or be said twice. */
const OF_REQUEST = ['messages', 'tools', 'add_generation_prompt', 'continue_final_message'];

/** A template of the request's own is a program of anybody's, which need not come to an end. */
function readVariables(body: Body): Record<string, unknown> {
  const given = body.object('chat_template_kwargs');
  given?.checkCount();
  given?.unsupported('template');
  for (const key of OF_REQUEST)
    if (given?.get(key) !== undefined) throw given.wrong(key, 'a field of the request itself, not of its template');
  return { ...given?.fields };
}

function partsOf(parts: unknown[], at: string): string {
  return parts
    .map((part, i) => {
      const { type, text } = (part ?? {}) as Record<string, unknown>;
      if (type !== 'text' || typeof text !== 'string')
        throw invalid(`${at}.content.${i}: this model reads text alone`, `${at}.content`, 'unsupported_content');
      return text;
    })
    .join('');
}

/** Templates read the arguments as an object; OpenAI's API sends them as JSON. */
function readCall(call: unknown, at: string): unknown {
  const given = Body.of(call, at);
  const fn = given.object('function');
  if (!fn) throw given.wrong('function', 'an object with a name and arguments');
  if (!fn.string('name')) throw fn.wrong('name', 'a name');
  const args = fn.get('arguments');
  if (typeof args !== 'string') return call;
  try {
    return { ...(call as object), function: { ...fn.fields, arguments: JSON.parse(args) } };
  } catch {
    return call;
  }
}

function readTools(body: Body): Tools | undefined {
  const choice = readChoice(body);
  const list = body.array('tools', 1024);
  if (!list || list.length === 0) {
    if (choice === 'auto' || choice === 'none') return undefined;
    throw body.wrong('tool_choice', 'auto or none where there are no tools');
  }
  if (choice === 'none') return undefined;
  const parameters = new Map<string, unknown>();
  for (const [i, tool] of list.entries()) {
    const given = Body.of(tool, `tools.${i}`);
    if ((given.get('type') ?? 'function') !== 'function') throw given.wrong('type', 'function');
    const fn = given.object('function');
    const name = fn?.string('name');
    if (!name) throw invalid(`tools.${i}.function.name: expected a string`, 'tools');
    parameters.set(name, fn?.object('parameters')?.fields);
  }
  const named = typeof choice === 'object' ? choice.name : undefined;
  if (named !== undefined && !parameters.has(named)) throw body.wrong('tool_choice', 'the name of one of the tools');
  const forced = choice === 'auto' ? undefined : forceCall(parameters, named);
  return { list, names: new Set(parameters.keys()), forced };
}

function readChoice(body: Body): 'auto' | 'none' | 'required' | { name: string } {
  const choice = body.get('tool_choice') ?? 'auto';
  if (choice === 'auto' || choice === 'none' || choice === 'required') return choice;
  const { type, function: fn } = (typeof choice === 'object' ? choice : {}) as Record<string, unknown>;
  const name = (fn as { name?: unknown } | null | undefined)?.name;
  if (type === 'function' && typeof name === 'string') return { name };
  throw body.wrong('tool_choice', 'auto, none, required, or a function by its name');
}
