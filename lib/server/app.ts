import { createHash, randomUUID, timingSafeEqual } from 'node:crypto';
import { type Context, Hono } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { cors } from 'hono/cors';
import { checkEngine, type Engine } from '../engine/engine.js';
import { type AppOptions, checkApp, type LogEntry } from './app-options.js';
import { Body } from './body.js';
import { chat } from './chat.js';
import type { ApiUsage } from './choices.js';
import { completions } from './completions.js';
import { embeddings } from './embeddings.js';
import { ApiError, apiError, closed, invalid } from './errors.js';
import { Metrics } from './metrics.js';
import { page } from './page.js';
import { type Limits, now, type Served } from './served.js';

type Route = (engine: Engine, body: Body, limits: Limits, gone: AbortController) => Promise<Served>;
type Variables = { id: string; usage: Partial<ApiUsage>; error: unknown; ended: Promise<unknown> | undefined };

/** What createApp() gives: a fetch handler, which a Hono app is. */
export interface App {
  fetch(request: Request, ...rest: unknown[]): Response | Promise<Response>;
  request(input: string | Request | URL, init?: RequestInit): Response | Promise<Response>;
}

/**
 * An engine as an OpenAI-compatible HTTP API: a Hono app, whose `fetch` runs by itself or mounted in another. The engine
 * stays the caller's to dispose of. `running` holds the requests that have not been answered whole.
 */
export function createApp(engine: Engine, options: AppOptions = {}, running = new Set<AbortController>()): App {
  checkApp(options);
  checkEngine('createApp', engine);
  const limits: Limits = { model: options.model ?? 'model', maxTokens: options.maxTokens ?? 4096 };
  const created = now();
  const metrics = new Metrics(engine);
  const app = new Hono<{ Variables: Variables }>();

  app.use(logged(metrics, options.log));
  const origins = [options.cors ?? []].flat();
  if (origins.length > 0) app.use(cors({ origin: origins.includes('*') ? '*' : origins }));
  app.get('/health', (c) => (engine.model.disposed ? c.json({ status: 'stopped' }, 503) : c.json({ status: 'ok' })));
  app.get('/metrics', async (c) =>
    c.body(await metrics.registry.metrics(), 200, { 'content-type': metrics.registry.contentType }),
  );
  if (options.page ?? true) app.get('/', (c) => c.html(page(engine, limits)));

  if (options.apiKey !== undefined) app.use('/v1/*', guarded([options.apiKey].flat()));
  const entry = { id: limits.model, object: 'model', created, owned_by: 'statespace' };
  app.get('/v1/models', (c) => c.json({ object: 'list', data: [entry] }));
  app.get(MODEL_PATH, (c) => {
    checkModel(c.req.param('id'), limits);
    return c.json(entry);
  });
  const maxSize = options.bodyLimit ?? 4 << 20;
  const tooLarge = () => {
    throw new ApiError(413, `the body has more than ${maxSize} bytes`, 'request_too_large');
  };
  const routes: Record<string, Route> = { completions, 'chat/completions': chat, embeddings };
  for (const [path, route] of Object.entries(routes))
    app.post(`/v1/${path}`, bodyLimit({ maxSize, onError: tooLarge }), (c) =>
      serve(c, engine, route, limits, options, running),
    );
  const taken = new Map(app.routes.filter((r) => r.method !== 'ALL').map((r) => [r.path, r.method]));
  app.notFound((c) => {
    const method = taken.get(/^\/v1\/models\/./.test(c.req.path) ? MODEL_PATH : c.req.path);
    return failed(c, method ? notAllowed(c, method) : notFound(c), method);
  });
  // What fails of a request whose client is gone, such as the reading of its body, fails of that.
  app.onError((error, c) => failed(c, cut(error) ? closed() : error));
  return app;
}

type AppContext = Context<{ Variables: Variables }>;

const MODEL_PATH = '/v1/models/:id{.+}';

const notAllowed = (c: AppContext, method: string): ApiError =>
  new ApiError(405, `${c.req.method} is not what ${c.req.path} takes, but ${method}`, 'method_not_allowed');

const notFound = (c: AppContext): ApiError =>
  new ApiError(404, `there is no ${c.req.method} ${c.req.path}`, 'not_found');

/** allow: the method that the path takes. */
function failed(c: AppContext, error: unknown, allow?: string): Response {
  const its = apiError(error);
  c.set('error', error);
  const headers: Record<string, string> = { 'content-type': 'application/json' };
  // What it had not read yet of the body would be taken for the next request.
  if (its.status === 413) headers.connection = 'close';
  if (its.retryAfter !== undefined) headers['retry-after'] = `${its.retryAfter}`;
  if (allow) headers.allow = allow === 'GET' ? 'GET, HEAD' : allow;
  if (its.status === 401) headers['www-authenticate'] = 'Bearer';
  return new Response(JSON.stringify(its.body), { status: its.status, headers });
}

async function serve(
  c: AppContext,
  engine: Engine,
  route: Route,
  limits: Limits,
  { timeoutMs }: AppOptions,
  running: Set<AbortController>,
): Promise<Response> {
  const gone = new AbortController();
  const { signal } = c.req.raw;
  if (signal.aborted) gone.abort();
  signal.addEventListener('abort', () => gone.abort(), { once: true });
  const body = Body.of(await readJson(c.req.raw));
  checkModel(body.string('model') ?? limits.model, limits);
  const late = timeoutMs && setTimeout(() => gone.abort(new ApiError(504, 'it took too long', 'timeout')), timeoutMs);
  const end = () => {
    running.delete(gone);
    if (late) clearTimeout(late);
  };
  running.add(gone);
  try {
    const served = await route(engine, body, limits, gone);
    c.set('usage', served.usage);
    if ('json' in served) {
      end();
      return c.json(served.json as object);
    }
    void served.ended.then(end);
    c.set('ended', served.ended);
    return served.response;
  } catch (error) {
    end();
    throw error;
  }
}

async function readJson(request: Request): Promise<unknown> {
  const type = request.headers.get('content-type')?.replace(/;.*/s, '').trim().toLowerCase();
  if (type !== undefined && type !== 'application/json')
    throw new ApiError(415, `content-type: expected application/json, received ${type}`, 'unsupported_media_type');
  const transfer = request.headers.get('transfer-encoding')?.trim().toLowerCase() || 'chunked';
  if (transfer !== 'chunked')
    throw new ApiError(
      501,
      `transfer-encoding: expected chunked, received ${transfer}`,
      'unsupported_transfer_encoding',
    );
  const encoding = request.headers.get('content-encoding')?.trim().toLowerCase() || 'identity';
  if (encoding !== 'identity')
    throw new ApiError(415, `content-encoding: expected none, received ${encoding}`, 'unsupported_media_type');
  const bytes = await request.arrayBuffer();
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw invalid('the body is not UTF-8');
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw invalid(`the body is not JSON: ${(error as Error).message.slice(0, 200)}`);
  }
}

/** A body that ended before it was whole. */
const cut = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ECONNRESET';

function checkModel(asked: string, { model }: Limits): void {
  if (asked !== model)
    throw new ApiError(
      404,
      `the model ${JSON.stringify(asked.slice(0, 200))} does not exist; this server has ${JSON.stringify(model)}`,
      'model_not_found',
      'model',
    );
}

/** Refuses who has no key; takes as long for a wrong one as for a right one. */
function guarded(keys: readonly string[]) {
  const hash = (key: string) => createHash('sha256').update(key).digest();
  const known = keys.map(hash);
  return async (c: AppContext, next: () => Promise<void>): Promise<void> => {
    const given = /^Bearer +(.+)$/i.exec(c.req.header('authorization') ?? '')?.[1];
    const its = hash(given ?? '');
    const right = known.filter((key) => timingSafeEqual(key, its)).length > 0;
    if (given === undefined || !right)
      throw new ApiError(
        401,
        given ? 'this API key is not known here' : 'an API key is needed: Authorization: Bearer KEY',
        'invalid_api_key',
      );
    await next();
  };
}

/** Counts and logs every request, one that is streamed when its stream has ended. */
function logged(metrics: Metrics, log: AppOptions['log']) {
  return async (c: AppContext, next: () => Promise<void>): Promise<void> => {
    const started = performance.now();
    const id =
      c.req
        .header('x-request-id')
        ?.slice(0, 128)
        .replace(/[^\x21-\x7e]/g, '') || randomUUID();
    c.set('id', id);
    await next();
    c.header('x-request-id', id);
    const done = () => {
      metrics.answered(c.req.path, c.res.status);
      const { usage, error } = c.var;
      told(log, {
        ...{ time: new Date().toISOString(), id, method: c.req.method, path: c.req.path.slice(0, 200) },
        ...{ status: c.res.status, ms: Math.round(performance.now() - started) },
        ...(usage?.prompt_tokens === undefined ? {} : { promptTokens: usage.prompt_tokens }),
        ...(usage?.prompt_tokens_details ? { cachedTokens: usage.prompt_tokens_details.cached_tokens } : {}),
        ...(usage?.completion_tokens === undefined ? {} : { generatedTokens: usage.completion_tokens }),
        ...(error === undefined ? {} : { error: String((error as Error)?.message ?? error).slice(0, 500) }),
      });
    };
    const { ended } = c.var;
    if (!ended) return done();
    void ended.then((failure) => {
      c.set('error', failure);
      done();
    });
  };
}

/** A log that fails is no reason to fail a request. */
function told(log: AppOptions['log'], entry: LogEntry): void {
  try {
    log?.(entry);
  } catch (error) {
    process.emitWarning(`log: ${String(error)}`, { code: 'STATESPACE_LOG' });
  }
}
