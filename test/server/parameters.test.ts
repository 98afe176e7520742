// Right, absurd and wrong values of what OpenAI's API takes, and of what HTTP takes around it.
import { rmSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { gzipSync } from 'node:zlib';
import { createEngine, type Engine, type Listening, type LogEntry, listen, loadModel, type Model } from 'statespace';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { least, took, until } from '../support/stalls.js';
import { textModelFolder } from '../support/text-model.js';

const folder = textModelFolder();
const log: LogEntry[] = [];
let model: Model;
let engine: Engine;
let server: Listening;

beforeAll(async () => {
  model = await loadModel(folder);
  engine = createEngine(model, { maxRunning: 8, maxQueued: 8 });
  server = await listen(engine, { port: 0, model: 'tiny', log: (entry) => log.push(entry) });
});
afterAll(async () => {
  await server.close(0);
  await engine.dispose();
  await model.dispose();
  rmSync(folder, { recursive: true });
});

interface Answer {
  choices: { text: string }[];
  data: { index: number; embedding: number[] }[];
  error: { message: string; type: string; param: string | null };
}

async function post(path: string, body: object | string, headers: Record<string, string> = {}) {
  const response = await fetch(`${server.url}/v1/${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : Buffer.isBuffer(body) ? (body as never) : JSON.stringify(body),
  });
  return { status: response.status, body: (await response.json()) as Answer };
}

const said = [{ role: 'user', content: 'hello' }];
const call = (fn: unknown) => [...said, { role: 'assistant', content: null, tool_calls: [{ id: 'a', function: fn }] }];
const tool = (more: object) => [{ type: 'function', function: { name: 'f' }, ...more }];

test.each([
  [{ messages: [{ role: 'user' }] }, 'messages.0.content'],
  [{ messages: [{ role: 'user', content: null }] }, 'messages.0.content'],
  [{ messages: [{ role: 'system', content: [] }, ...said] }, 'messages.0.content'],
  [{ messages: [{ role: 'assistant', content: [] }] }, 'messages.0.content'],
  [{ messages: [{ role: 'user', content: 'x', name: 5 }] }, 'messages.0.name'],
  [{ messages: [{ role: 'tool', content: 'x', tool_call_id: 5 }] }, 'messages.0.tool_call_id'],
  [{ messages: call(undefined) }, 'messages.1.tool_calls.0.function'],
  [{ messages: call({ arguments: '{}' }) }, 'messages.1.tool_calls.0.function.name'],
  [{ tools: tool({ type: 'search' }) }, 'tools.0.type'],
  [{ tools: tool({ function: { name: 'f', parameters: 5 } }) }, 'tools.0.function.parameters'],
  [{ parallel_tool_calls: 5 }, 'parallel_tool_calls'],
  [{ store: 'yes' }, 'store'],
  [{ metadata: 5 }, 'metadata'],
  [{ modalities: ['text', 'audio'] }, 'modalities'],
  [{ max_tokens: 0 }, 'max_tokens'],
  [{ max_completion_tokens: 0 }, 'max_completion_tokens'],
  [{ seed: 1.5 }, 'seed'],
  [{ logit_bias: { 99999999: 1 } }, 'logit_bias'],
  [{ response_format: { type: 'json_schema', json_schema: { schema: { type: 'banana' } } } }, 'response_format'],
  [{ chat_template_kwargs: { template: '{% for i in range(9) %}{% endfor %}' } }, 'chat_template_kwargs.template'],
])('a chat with %j is refused', async (fields, param) => {
  const { status, body } = await post('chat/completions', { messages: said, max_tokens: 1, ...fields });
  expect({ status, ...body.error }).toMatchObject({ status: 400, type: 'invalid_request_error', param });
});

test.each([
  ['completions', { prompt: '' }, 'prompt', 'prompt: expected at least one token'],
  [
    'completions',
    { prompt: ['hello', [1, 99_999]] },
    'prompt',
    /^prompt\[1\]: expected an id from 0 to .*, received 99999$/,
  ],
  ['completions', { prompt: ['hello', [99_999]], stream: true }, 'prompt', /^prompt\[0\]: expected an id/],
  ['embeddings', { input: '' }, 'input', 'input: expected at least one token'],
  ['embeddings', { input: [[5], [99_999]] }, 'input', /^input\[0\]: expected an id/],
  ['completions', { prompt: 'hello', logit_bias: { 99999999: 1 } }, 'logit_bias', /^logit_bias: expected ids from 0/],
  [
    'completions',
    { prompt: 'hello', response_format: { type: 'regex', pattern: '(' } },
    'response_format',
    /^response_format: /,
  ],
  [
    'completions',
    { prompt: 'hello', stop: [5] },
    'stop',
    'stop: expected a text of at least one character, or at most 16 of them in an array, received [5]',
  ],
  ['completions', { prompt: 'hello', stop: '' }, 'stop', /received ""$/],
  [
    'chat/completions',
    { continue_final_message: true, add_generation_prompt: true },
    'add_generation_prompt',
    'add_generation_prompt: expected false beside continue_final_message: true, received true',
  ],
  [
    'chat/completions',
    { tools: tool({ function: { name: 'f', parameters: { type: 'banana' } } }), tool_choice: 'required' },
    'tools',
    /^tools: parameters: .*banana/,
  ],
  [
    'chat/completions',
    { chat_template_kwargs: { addGenerationPromt: true } },
    'chat_template_kwargs',
    /^chat_template_kwargs: unknown option/,
  ],
  ...['messages', 'tools', 'add_generation_prompt', 'continue_final_message'].map(
    (key): [string, object, string, RegExp] => [
      'chat/completions',
      { chat_template_kwargs: { [key]: [] } },
      `chat_template_kwargs.${key}`,
      /a field of the request itself/,
    ],
  ),
  ['completions', '{"prompt":"hello","max_tokens":1e400}', 'max_tokens', /received Infinity$/],
  ['completions', { prompt: 'hello', stop_token_ids: [1e9] }, 'stop_token_ids', /^stop_token_ids: expected ids from 0/],
] as [string, object | string, string, string | RegExp][])(
  '%s with %j: the field is named',
  async (path, fields, param, message) => {
    const beside = {
      ...(path === 'embeddings' ? {} : { max_tokens: 1 }),
      ...(path === 'chat/completions' ? { messages: said } : {}),
    };
    const { status, body } = await post(path, typeof fields === 'string' ? fields : { ...beside, ...fields });
    expect({ status, param: body.error.param }).toEqual({ status: 400, param });
    expect(body.error.message).toMatch(message);
  },
);

test.each([
  { messages: call({ name: 'f', arguments: '{bad' }) },
  { messages: [...said, { role: 'assistant', content: null, refusal: null }, ...said] },
  { messages: [{ role: 'developer', content: [{ type: 'text', text: 'be brief' }], name: 'x' }, ...said] },
  { seed: 2 ** 62, n: 2 },
  { seed: Number.MAX_SAFE_INTEGER, n: 3 },
  { seed: null, stop: null, tools: null, tool_choice: null, response_format: null, metadata: null },
  { modalities: ['text'], parallel_tool_calls: true, store: false },
])('a chat with %j is answered', async (fields) => {
  const { status, body } = await post('chat/completions', { messages: said, max_tokens: 1, ...fields });
  expect(body.error).toBe(undefined);
  expect(status).toBe(200);
});

describe('more at once than the engine has places for', () => {
  test('choices are generated in turn', async () => {
    const ask = { prompt: ['hello', 'world', 'one'], n: 20, max_tokens: 2, temperature: 0 };
    const { status, body } = await post('completions', ask);
    expect(status).toBe(200);
    expect(body.choices.length).toBe(60);
    const alone = await post('completions', { ...ask, prompt: 'world', n: 1 });
    expect(new Set(body.choices.slice(20, 40).map((c) => c.text))).toEqual(new Set([alone.body.choices[0]!.text]));
  });

  test('so are embeddings, and a wrong one ends the others', async () => {
    const { status, body } = await post('embeddings', {
      input: Array.from({ length: 100 }, (_, i) => [10 + (i % 50)]),
    });
    expect(status).toBe(200);
    expect(body.data.map((d) => d.index)).toEqual(Array.from({ length: 100 }, (_, i) => i));
    for (const [i, x] of body.data[60]!.embedding.entries()) expect(x).toBeCloseTo(body.data[10]!.embedding[i]!, 5);
    expect((await post('embeddings', { input: [...Array(40).fill('hello'), [99_999]] })).status).toBe(400);
    expect(engine.stats()).toMatchObject({ running: 0, queued: 0 });
  });

  test('a misspelt field is one here too', async () => {
    const { status, body } = await post('embeddings', { input: 'hello', encodng_format: 'base64' });
    expect({ status, param: body.error.param }).toEqual({ status: 400, param: 'encodng_format' });
  });
});

describe('names without end hold up nobody', () => {
  const many = Object.fromEntries(Array.from({ length: 20_000 }, (_, i) => [`key${i}`, 1]));
  test.each([
    ['fields', { ...many }, 400],
    ['a long field', { ['x'.repeat(500_000)]: 1 }, 200],
    ['variables of the template', { chat_template_kwargs: many }, 400],
    ['a long variable', { chat_template_kwargs: { ['x'.repeat(500_000)]: 1 } }, 200],
    [
      'a prototype as one',
      '{"chat_template_kwargs":{"__proto__":{"tools":1}},"max_tokens":1,"messages":[{"role":"user","content":"a"}]}',
      200,
    ],
  ])('%s', async (_, fields, wanted) => {
    const body = typeof fields === 'string' ? fields : { messages: said, max_tokens: 1, ...fields };
    const ask = async () => expect((await post('chat/completions', body)).status).toBe(wanted);
    expect(await least(1500, () => took(ask))).toBeLessThan(1500); // it was seconds
  });
});

test('a long message beside something that is nested without end', async () => {
  const deep = `${'{"a":'.repeat(5000)}1${'}'.repeat(5000)}`;
  const body = `{"messages":[{"role":"user","content":"${'hello '.repeat(8000)}","more":${deep}}],"max_tokens":1}`;
  const { status, body: answer } = await post('chat/completions', body);
  expect({ status, message: answer.error.message }).toEqual({
    status: 400,
    message: expect.stringContaining('nested too deeply'),
  });
});

describe('HTTP', () => {
  test('a compressed body is 415', async () => {
    const { status } = await post('completions', gzipSync('{"prompt":"hello"}'), { 'content-encoding': 'gzip' });
    expect(status).toBe(415);
  });

  test.each([
    ['PUT', '/v1/completions', 405, 'POST'],
    ['GET', '/v1/chat/completions', 405, 'POST'],
    ['DELETE', '/v1/models/tiny', 405, 'GET, HEAD'],
    ['POST', '/v1/models', 405, 'GET, HEAD'],
    ['POST', '/health', 405, 'GET, HEAD'],
    ['GET', '/v1/models/', 404, null],
    ['GET', '/v1/modelsx', 404, null],
    ['GET', '/v1/constructor', 404, null],
    ['POST', '/v1/__proto__', 404, null],
    ['POST', '/v1/completions/', 404, null],
    ['HEAD', '/v1/models', 200, null],
    ['GET', '/v1/models/%74iny?x=%', 200, null],
  ])('%s %s: %d', async (method, path, status, allow) => {
    const response = await fetch(`${server.url}${path}`, { method });
    expect({ status: response.status, allow: response.headers.get('allow') }).toEqual({ status, allow });
  });

  const port = () => Number(new URL(server.url).port);
  test.each(['Content-Length: 100', 'Transfer-Encoding: chunked'])(
    'an upload that is cut is no failure of the server: %s',
    async (length) => {
      const before = log.length;
      const socket = connect(port(), '127.0.0.1');
      const text = `POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n${length}\r\n\r\n9\r\n{"prompt"`;
      await new Promise((sent) => socket.write(text, sent));
      await new Promise((done) => setTimeout(done, 30));
      socket.destroy();
      await until(() => log.length > before);
      expect(log.slice(before).map((entry) => entry.status)).toEqual([499]);
    },
  );

  test('of a chunked request whose client goes away generation ends too', async () => {
    await new Promise<void>((resolve) => {
      const request = httpRequest(`${server.url}/v1/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
      });
      request.on('error', () => {});
      request.on('response', (response) => {
        response.on('error', () => {});
        response.once('data', () => {
          request.destroy();
          resolve();
        });
      });
      request.write('{"prompt":"hello","stream":true,"max_tokens":4000,');
      request.end('"logit_bias":{"42":100}}');
    });
    await until(() => engine.stats().running === 0);
    expect(engine.stats()).toMatchObject({ running: 0, queued: 0 });
  });
});

test('while it ends, a connection that was kept open is told so, and closed', async () => {
  const ending = await listen(engine, { port: 0, model: 'tiny' });
  const ask = JSON.stringify({ prompt: 'hello', stream: true, max_tokens: 600, logit_bias: { '42': 100 } });
  const head = (length: number) =>
    `POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${length}\r\n\r\n`;
  let text = '';
  const socket = connect(Number(new URL(ending.url).port), '127.0.0.1');
  socket.on('data', (data) => {
    text += data.toString();
  });
  const end = new Promise((done) => socket.on('close', done));
  socket.write(head(ask.length) + ask);
  while (!text.includes('w42')) await new Promise((done) => setTimeout(done, 2));
  const closed = ending.close(2 ** 31 - 1); // nobody waits for that
  socket.write(head(ask.length) + ask);
  await Promise.all([closed, end]);
  expect(text).toContain('[DONE]');
  expect(text.slice(text.indexOf('[DONE]'))).toMatch(/HTTP\/1.1 503 [\s\S]*retry-after: 5[\s\S]*shutting_down/);
});
