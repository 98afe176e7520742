// An app that is asked without a server, with options of its own.
import { rmSync } from 'node:fs';
import { createApp, createEngine, type Engine, listen, loadModel, type Model } from 'statespace';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventStream } from '../../lib/server/sse.js';
import { until } from '../support/stalls.js';
import { textModelFolder } from '../support/text-model.js';

type App = ReturnType<typeof createApp>;
const folder = textModelFolder();
let model: Model;
let engine: Engine;

beforeAll(async () => {
  model = await loadModel(folder);
  engine = createEngine(model, { prefixCache: { every: 16 } });
});
afterAll(async () => {
  await engine.dispose();
  await model.dispose();
  rmSync(folder, { recursive: true });
});

describe('an app of its own options', () => {
  const post = (app: App, body: object) =>
    app.request('/v1/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
  const endless = { prompt: 'hello', max_tokens: 4000, logit_bias: { '42': 100 } };

  test.each([true, false])('past its time a request ends: streamed: %s', async (stream) => {
    const response = await post(createApp(engine, { timeoutMs: 80 }), { ...endless, stream });
    const text = await response.text();
    expect(response.status).toBe(stream ? 200 : 504);
    expect(text).toContain('"code":"timeout"');
    expect(text).not.toContain('[DONE]');
    await until(() => engine.stats().running === 0);
  });

  test('a log that throws costs no answer', async () => {
    const warnings: string[] = [];
    const listen = ({ message }: Error) => warnings.push(message);
    process.on('warning', listen);
    const app = createApp(engine, {
      log: () => {
        throw new Error('full');
      },
    });
    expect((await post(app, { prompt: 'hello', max_tokens: 2 })).status).toBe(200);
    const streamed = await (await post(app, { prompt: 'hello', max_tokens: 2, stream: true })).text();
    expect(streamed).toContain('[DONE]');
    await until(() => warnings.length >= 2);
    process.off('warning', listen);
    expect(warnings).toEqual(['log: Error: full', 'log: Error: full']);
  });

  test('events are one line to clients that end lines where Unicode does', async () => {
    async function* values() {
      yield { text: 'a\u2028b\u2029c\u0085d' };
    }
    const text = await eventStream(values(), new AbortController()).response.text();
    expect(text).toBe('data: {"text":"a\\u2028b\\u2029c\\u0085d"}\n\ndata: [DONE]\n\n');
  });

  test('names that somebody makes up are no labels of metrics', async () => {
    const app = createApp(engine, { apiKey: 'k' });
    for (let i = 0; i < 20; i++) {
      expect((await app.request(`/v1/x${i}`)).status).toBe(401);
      await app.request(`/v1/models/y${i}`, { method: 'POST', headers: { authorization: 'Bearer k' } });
    }
    const text = await (await app.request('/metrics')).text();
    expect(text).toContain('statespace_http_requests_total{path="other",status="401"} 20');
    expect(text.match(/^statespace_http_requests_total/gm)!.length).toBe(2);
    expect(text).toContain('# TYPE statespace_generated_tokens_total counter');
  });

  test.each([
    { apiKey: '' },
    { apiKey: [] },
    { apiKey: null },
    { apiKey: ['good', 'a key with a line end\n'] },
    { apiKey: ' x' },
    { apiKey: 'schlüssel' },
    { maxTokens: 0 },
    { bodyLimit: -1 },
    { timeoutMs: Number.NaN },
    { page: 'no' },
    { log: true },
    { model: 5 },
    { cors: 5 },
    { cors: 'https://example.org/' },
    { cors: ['https://example.org', 'example.com'] },
    { cors: 'https://Example.org' },
    { cors: 'https://example.org:443' },
    { cors: 'http://example.org/page' },
    { cors: 'localhost:3000' },
  ] as never[])('%j is refused', (options) => {
    expect(() => createApp(engine, options)).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }));
  });

  test('a key that no header carries is refused, and not shown', () => {
    for (const apiKey of ['one', 'two words', 'sk-~!']) expect(() => createApp(engine, { apiKey })).not.toThrow();
    const refused = () => createApp(engine, { apiKey: ['very secret', 'other\n'] });
    expect(refused).toThrow(/apiKey: expected .* white space/);
    expect(refused).not.toThrow(/secret|other\n/);
  });

  test('a port that is none is refused', async () => {
    await expect(listen(engine, { port: 70_000 })).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
    await expect(listen(engine, { host: 5 as never })).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
  });
});
