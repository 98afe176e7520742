import { randomUUID } from 'node:crypto';
import { StringDecoder } from 'node:string_decoder';
import type { Engine } from '../engine/engine.js';
import type { EngineToken } from '../engine/request.js';
import type { Body } from './body.js';
import { type ChoiceEvent, Choices, isSilent, textOf, tokenBytes } from './choices.js';
import { type Echo, echoes } from './echo.js';
import { checkLogprobs, readCommon, readInputs } from './sampling.js';
import { type Limits, type Logprobs, now, type Served } from './served.js';
import { eventStream } from './sse.js';

const MAX_PROMPTS = 64;
// What OpenAI's API gives where a completion names no max_tokens.
const DEFAULT_TOKENS = 16;

/** POST /v1/completions */
export async function completions(engine: Engine, body: Body, limits: Limits, gone: AbortController): Promise<Served> {
  const common = readCommon(body, DEFAULT_TOKENS, limits.maxTokens);
  const { request, n, stream, includeUsage } = common;
  const prompts = readInputs(body, 'prompt', MAX_PROMPTS);
  const logprobs = body.integer('logprobs', 0, 20);
  if (logprobs !== undefined) checkLogprobs(common, prompts.length, logprobs);
  const options = logprobs === undefined ? request : { ...request, logprobs };
  const choices = new Choices(
    engine,
    prompts.map((prompt) => ({ ...options, prompt })),
    n,
    gone,
    'prompt',
  );
  const base = { id: `cmpl-${randomUUID()}`, object: 'text_completion', created: now(), model: limits.model };
  const echo = body.boolean('echo') ? await echoed(engine, prompts, logprobs, request, gone) : undefined;
  const echoOf = (choice: number) => echo?.[Math.floor(choice / n)];
  const events = await choices.start();
  const offsets = Array.from({ length: prompts.length * n }, (_, i) => new Offsets(echoOf(i)?.text.length));
  const shown = (choice: number, token: EngineToken, whole: boolean): Logprobs | null => {
    if (logprobs === undefined) return null;
    return logprobsOf(engine, token, offsets[choice]!.next(engine, token, whole));
  };
  const logprobsIn = (event: ChoiceEvent): Logprobs | null => {
    if ('token' in event) return shown(event.choice, event.token, event.whole);
    // Who has the prompt's counts on one for each token that was drawn.
    return echo && event.closing ? shown(event.choice, event.closing, true) : null;
  };

  if (stream) {
    async function* chunks() {
      const usage = includeUsage ? { usage: null } : {};
      for (const index of echo ? offsets.keys() : [])
        yield { ...base, choices: [{ index, ...echoOf(index)!, finish_reason: null }], ...usage };
      for await (const event of events) {
        const [index, finish_reason] = [event.choice, 'token' in event ? null : event.finishReason];
        const text = 'token' in event ? textOf(event.token) : event.text;
        const choice = { index, text, logprobs: logprobsIn(event), finish_reason };
        yield { ...base, choices: [choice], ...usage };
      }
      if (includeUsage) yield { ...base, choices: [], usage: choices.usage };
    }
    return { ...eventStream(chunks(), gone), usage: choices.usage };
  }

  const all = Array.from({ length: prompts.length * n }, (_, index) => {
    const { text, logprobs } = echoOf(index) ?? { text: '', logprobs: null };
    return { index, text, logprobs, finish_reason: null as string | null };
  });
  for await (const event of events) {
    const choice = all[event.choice]!;
    choice.logprobs = joined(choice.logprobs, logprobsIn(event));
    if ('token' in event) {
      choice.text += textOf(event.token);
    } else {
      choice.text += event.text;
      choice.finish_reason = event.finishReason;
    }
  }
  return { json: { ...base, choices: all, usage: choices.usage }, usage: choices.usage };
}

async function echoed(
  engine: Engine,
  prompts: (string | number[])[],
  logprobs: number | undefined,
  { client }: { client?: string | undefined },
  gone: AbortController,
): Promise<Echo[]> {
  try {
    return await echoes(engine, prompts, logprobs, { ...(client ? { client } : {}), signal: gone.signal });
  } catch (error) {
    gone.abort(error);
    throw error;
  }
}

/** Where tokens begin in a text, parts of which (what may become a stop text) come later than the tokens. */
class Offsets {
  private news = 0;
  private held: Buffer[] = [];

  /** `known`: characters that came before nothing was held back the last time; `news`: since. */
  constructor(private known = 0) {}

  /** Where the token begins whose event this is; one within a character where that does. */
  next(engine: Engine, token: EngineToken, whole: boolean): number {
    const offset = this.known + new StringDecoder('utf8').write(Buffer.concat(this.held)).length;
    this.news += textOf(token).length;
    if (!isSilent(engine, token.token)) this.held.push(tokenBytes(engine, token.token));
    if (whole) {
      this.known += this.news;
      this.news = 0;
      this.held = [];
    }
    return offset;
  }
}

function logprobsOf(engine: Engine, token: EngineToken, offset: number): Logprobs {
  const text = tokenBytes(engine, token.token).toString();
  const top = (token.alternatives ?? []).map((a) => [tokenBytes(engine, a.token).toString(), a.logprob]);
  // As OpenAI's API has it, one more than was asked for where the token is none of the likeliest.
  top.push([text, token.logprob]);
  return {
    ...{ tokens: [text], token_logprobs: [token.logprob], text_offset: [offset] },
    top_logprobs: [Object.fromEntries(top)],
  };
}

function joined(a: Logprobs | null, b: Logprobs | null): Logprobs | null {
  if (!a || !b) return a ?? b;
  return {
    tokens: [...a.tokens, ...b.tokens],
    token_logprobs: [...a.token_logprobs, ...b.token_logprobs],
    top_logprobs: [...a.top_logprobs, ...b.top_logprobs],
    text_offset: [...a.text_offset, ...b.text_offset],
  };
}
