import { StatespaceError } from '../errors.js';

/** A failure as OpenAI's API reports it. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  constructor(
    readonly status: number,
    message: string,
    readonly code: string | null = null,
    readonly param: string | null = null,
    /** Seconds after which it may be tried again. */
    readonly retryAfter?: number,
  ) {
    super(message);
  }

  get body(): { error: { message: string; type: string; param: string | null; code: string | null } } {
    const { message, param, code } = this;
    return { error: { message, type: typeOf(this.status), param, code } };
  }
}

/** Wrong in the request: 400. */
export const invalid = (message: string, param: string | null = null, code: string | null = null): ApiError =>
  new ApiError(400, message, code, param);

function typeOf(status: number): string {
  if (status === 429) return 'rate_limit_error';
  return status >= 500 ? 'server_error' : 'invalid_request_error';
}

/** What the engine calls fields of a request in its messages. */
const ENGINE_NAMES: [RegExp, string][] = [
  [/^(?:generate: )?logitBias\b/, 'logit_bias'],
  [/^(?:generate: )?responseFormat\b/, 'response_format'],
  [/^generate: stop(?=: expected ids)/, 'stop_token_ids'],
  [/^generate: stop\b/, 'stop'],
  [/^(?:generate: )?messages\b/, 'messages'],
  [/^applyChatTemplate: continueFinalMessage\b/, 'continue_final_message'],
  [/^applyChatTemplate: tools\b/, 'tools'],
  [/^applyChatTemplate(?=: unknown option)/, 'chat_template_kwargs'],
  [/^applyChatTemplate: (?=messages\[)/, ''],
  [/^applyChatTemplate\b/, 'messages'],
];

/** 400 by the name of the field whose value the engine refused. */
function refused(message: string): ApiError {
  const [named, field] = ENGINE_NAMES.find(([pattern]) => pattern.test(message)) ?? [];
  return named ? invalid(message.replace(named, field!), field || 'messages') : invalid(message);
}

/** A failure of the format that a forced call of a tool has to have, by the field that it was made of. */
export function ofTools(error: unknown): unknown {
  if (!(error instanceof StatespaceError && error.code === 'ERR_ARGUMENT')) return error;
  const [named] = /^(?:generate: )?responseFormat: (?:schema: )?/.exec(error.message) ?? [];
  return named === undefined ? error : invalid(`tools: parameters: ${error.message.slice(named.length)}`, 'tools');
}

/** A failure by the field that a text came in, which the engine has another name for. */
export function ofText(error: unknown, field: string): unknown {
  if (!(error instanceof StatespaceError && error.code === 'ERR_ARGUMENT')) return error;
  const [named, place = ''] =
    /^(?:generate: (?:prompt|messages)|embed: input)(\[\d+\])?(?=:)/.exec(error.message) ?? [];
  return named === undefined ? error : invalid(field + place + error.message.slice(named.length), field);
}

// nginx's number for a client that went away before its answer; nobody is there to read it, but logs do.
const CLOSED = 499;
// Another replica, or this one started anew, is there by then.
const RETRY_S = 5;

export const shuttingDown = (): ApiError =>
  new ApiError(503, 'the server is shutting down', 'shutting_down', null, RETRY_S);

export const closed = (): ApiError => new ApiError(CLOSED, 'the client closed the request', 'closed');

/** Any failure in that form; what is nobody's fault says nothing of what is inside. */
export function apiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof StatespaceError) {
    switch (error.code) {
      case 'ERR_ARGUMENT':
      case 'ERR_SHAPE':
        return refused(error.message);
      case 'ERR_OUT_OF_MEMORY':
        return invalid(error.message, null, 'context_length_exceeded');
      case 'ERR_OVERLOADED':
        return new ApiError(429, error.message, 'overloaded', null, 1);
      case 'ERR_TIMEOUT':
        return new ApiError(504, error.message, 'timeout');
      case 'ERR_DISPOSED':
        return shuttingDown();
    }
  }
  if ((error as Error)?.name === 'AbortError') return closed();
  return new ApiError(500, 'the server failed at this request', 'internal_error');
}
