// What nobody should send, and what everybody else must not notice of it.

import { rmSync } from 'node:fs';
import { createServer, request as httpRequest } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createApp, createEngine, type Engine, type Listening, listen, loadModel, type Model } from 'statespace';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cutStalled } from '../../lib/server/connections.js';
import { amount } from '../support/scale.js';
import { until } from '../support/stalls.js';
import { textModelFolder } from '../support/text-model.js';

const folder = textModelFolder();
let model: Model;
let engine: Engine;
let server: Listening;

beforeAll(async () => {
  model = await loadModel(folder);
  engine = createEngine(model);
  server = await listen(engine, { port: 0, model: 'tiny', bodyLimit: 100_000 });
});
afterAll(async () => {
  await server.close(0);
  await engine.dispose();
  await model.dispose();
  rmSync(folder, { recursive: true });
});

async function post(path: string, body: string | Uint8Array, headers: Record<string, string> = {}) {
  const response = await fetch(`${server.url}/v1/${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: body as string,
  });
  return { status: response.status, body: (await response.json()) as { error?: { message: string; code?: string } } };
}

const small = { model: 'tiny', prompt: 'hello', max_tokens: 4, temperature: 0 };

/** Ask as everybody does, and see that it is answered. */
async function stillServes(): Promise<void> {
  expect((await post('completions', JSON.stringify(small))).status).toBe(200);
  await until(() => engine.stats().running + engine.stats().queued === 0);
}

describe('bodies', () => {
  const deep = `${'['.repeat(40_000)}${']'.repeat(40_000)}`;
  test.each([
    ['nothing', '', 400],
    ['no JSON', '{"prompt": ', 400],
    ['no object', '[1,2]', 400],
    ['null', 'null', 400],
    ['invalid UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d]), 400],
    ['a lone surrogate as the prompt', '{"prompt":"\\ud800","max_tokens":2}', 200],
    ['nested arrays', `{"prompt": ${deep}}`, 400],
    ['too large', JSON.stringify({ ...small, prompt: 'x'.repeat(200_000) }), 413],
    ['a prototype', '{"__proto__":{"prompt":"hello"}}', 400],
    ['a constructor', '{"constructor":{"prototype":{}},"prompt":"hello","max_tokens":1}', 200],
  ])('%s', async (_, body, status) => {
    const answer = await post('completions', body);
    expect(answer.status).toBe(status);
    if (status !== 200) expect(answer.body.error!.message).toEqual(expect.any(String));
    await stillServes();
  });

  test.each([
    ['max_tokens', -1],
    ['max_tokens', 1e99],
    ['max_tokens', 1.5],
    ['max_tokens', '5'],
    ['temperature', 1e300],
    ['temperature', 'hot'],
    ['top_p', 2],
    ['n', 1000],
    ['n', 0.5],
    ['seed', 1e300],
    ['seed', 'x'],
    ['stop', 5],
    ['stop', ['']],
    ['stop', new Array(100).fill('a')],
    ['logit_bias', { '-1': 1 }],
    ['logit_bias', { x: 1 }],
    ['logit_bias', { '1': 1000 }],
    ['logit_bias', [1]],
    ['logprobs', 1000],
    ['stream', 'yes'],
    ['prompt', {}],
    ['prompt', []],
    ['prompt', [1.5]],
    ['prompt', [-1]],
    ['prompt', [2 ** 31]],
    ['prompt', [[]]],
    ['prompt', [{}]],
    ['prompt', new Array(1000).fill('a')],
    ['frequency_penalty', 9],
    ['presence_penalty', -9],
    ['user', 5],
    ['stream_options', { include_usage: true }],
    ['response_format', { type: 'xml' }],
    ['priority', 1e9],
    ['best_of', 5],
    ['model', 5],
    ['model', 'x'.repeat(10_000)],
  ])('%s: %j', async (key, value) => {
    const { status, body } = await post('completions', JSON.stringify({ ...small, [key]: value }));
    expect(status).toBe(key === 'model' && typeof value === 'string' ? 404 : 400);
    expect(body.error!.message.length).toBeLessThan(1000);
  });

  test('more log-probabilities than fit in memory are refused, unless they are streamed', async () => {
    const many = { n: 128, max_tokens: 4096 };
    const { status, body } = await post('completions', JSON.stringify({ ...small, ...many, logprobs: 5 }));
    expect([status, body.error!.message]).toEqual([
      400,
      'logprobs: expected at most 1048576 in one answer: choices × max_tokens × (1 + alternatives), unless they are streamed, and tokens of echoed prompts × (1 + alternatives); received 3145728',
    ]);
    const messages = [{ role: 'user', content: 'hello' }];
    const chat = { model: 'tiny', messages, n: 13, logprobs: true, top_logprobs: 20 };
    expect((await post('chat/completions', JSON.stringify(chat))).status).toBe(400);
    expect((await post('chat/completions', JSON.stringify({ ...chat, max_tokens: 3 }))).status).toBe(200);
    const stop = new AbortController();
    const streamed = await fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ...small, ...many, logprobs: 5, stream: true }),
      signal: stop.signal,
    });
    expect(streamed.status).toBe(200);
    stop.abort();
    await stillServes();
  });

  test('another content type, another method, another path', async () => {
    expect((await post('completions', 'a=b', { 'content-type': 'application/x-www-form-urlencoded' })).status).toBe(
      415,
    );
    expect((await fetch(`${server.url}/v1/completions`)).status).toBe(405);
    expect((await fetch(`${server.url}/../../etc/passwd`)).status).toBe(404);
    expect((await fetch(`${server.url}/v1/${'x'.repeat(4000)}`)).status).toBe(404);
  });

  test('a chunked body that is too large is refused before it has come whole', async () => {
    const status = await new Promise<number>((resolve, reject) => {
      const request = httpRequest(`${server.url}/v1/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'transfer-encoding': 'chunked' },
      });
      request.on('response', (response) => {
        resolve(response.statusCode!);
        request.destroy();
      });
      request.on('error', reject);
      for (let i = 0; i < 30; i++) request.write('x'.repeat(10_000));
    });
    expect(status).toBe(413);
    await stillServes();
  });
});

describe('connections', () => {
  const { stringify } = JSON;
  const port = () => Number(new URL(server.url).port);
  const head = (length: number) =>
    `POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${length}\r\n\r\n`;

  test('hundreds that are opened and dropped at every point leave nothing behind', async () => {
    const endless = stringify({ ...small, max_tokens: 4000, stream: true, logit_bias: { '42': 100 } });
    const whole = head(endless.length) + endless;
    const drop = (i: number) =>
      new Promise<void>((resolve) => {
        const socket = connect(port(), '127.0.0.1');
        socket.on('error', () => resolve());
        socket.on('close', () => resolve());
        socket.write(whole.slice(0, i % 4 === 3 ? whole.length : (i * 37) % whole.length));
        // Some before anything comes, some in the middle of the answer.
        if (i % 4 === 3) socket.once('data', () => socket.destroy());
        else setTimeout(() => socket.destroy(), i % 20);
        setTimeout(() => socket.destroy(), 5000);
      });
    let answers = 0;
    let on = true;
    const asking = (async () => {
      for (; on; answers++) expect((await post('completions', stringify(small))).status).toBe(200);
    })();
    const count = amount(300, 1000);
    // Others are answered while that goes on, or it would never end.
    for (let i = 0; i < count || answers < 4; i += 50)
      await Promise.all([...Array.from({ length: 50 }, (_, j) => drop(i + j)), Promise.race([asking, undefined])]);
    on = false;
    await asking;
    await stillServes();
  });

  test('a slow client holds up nobody', async () => {
    const slow = Array.from({ length: 20 }, () => {
      const socket = connect(port(), '127.0.0.1');
      socket.on('error', () => {});
      socket.write(`${head(1000)}{"prompt": "`);
      return { socket, dropped: new Promise((done) => socket.on('close', done)) };
    });
    // Not only once the server has given them up.
    const dropped = Promise.race(slow.map((client) => client.dropped)).then(() => 'dropped');
    expect(await Promise.race([stillServes(), dropped])).toBeUndefined();
    for (const { socket } of slow) socket.destroy();
  });

  /** What is answered until the server ends the connection; `end`: to one who says that no more comes. */
  const say = (text: string, { end }: { end: boolean }) =>
    new Promise<string>((resolve) => {
      let answer = '';
      const socket = connect(port(), '127.0.0.1');
      socket.on('data', (data) => {
        answer += data.toString('latin1');
      });
      socket.on('error', () => {});
      socket.on('close', () => resolve(answer));
      if (end) socket.end(text);
      else socket.write(text);
    });

  const content = stringify(small);
  const length = `Content-Length: ${content.length}\r\n`;
  const chunk = `${content.length.toString(16)}\r\n${content}\r\n0\r\n\r\n`;
  const chunked = 'Transfer-Encoding: chunked\r\n';
  const last = 'Connection: close\r\n';
  const line = (start: string) => `${start} HTTP/1.1\r\nHost: x\r\n`;
  const raw = (headers: string, sent = content) =>
    `${line('POST /v1/completions')}Content-Type: application/json\r\n${headers}\r\n${sent}`;
  test.each<[string, string, number[]]>([
    ['several in one go', raw(length).repeat(2) + raw(length + last), [200, 200, 200]],
    ['Expect: 100-continue', raw(`${length}${last}Expect: 100-continue\r\n`), [100, 200]],
    ['an expectation of something else', raw(`${length}${last}Expect: tea\r\n`), [417]],
    ['in chunks, with a trailer', raw(`${chunked}${last}Trailer: X\r\n`, `${chunk.slice(0, -2)}X: y\r\n\r\n`), [200]],
    ['chunks of no length', raw(chunked, 'zz\r\n'), [400]],
    ['chunks and a length', raw(`${chunked}Content-Length: 5\r\n`, chunk), [400]],
    ['two lengths', raw('Content-Length: 5\r\nContent-Length: 6\r\n'), [400]],
    ['a length below nothing', raw('Content-Length: -5\r\n'), [400]],
    ['no host', raw(length).replace('Host: x\r\n', ''), [400]],
    ['HTTP/1.0', raw(length).replace('HTTP/1.1', 'HTTP/1.0'), [200]],
    ['HEAD', `${line('HEAD /v1/models')}${last}\r\n`, [200]],
    ['OPTIONS', `${line('OPTIONS /v1/completions')}${last}\r\n`, [405]],
    ['CONNECT', `${line('CONNECT x:443')}\r\n`, []],
    ['chunks, and in them gzip', raw(`Transfer-Encoding: gzip, chunked\r\n${last}`, chunk), [501]],
    ['gzip and no chunks', raw('Transfer-Encoding: gzip\r\n'), [400]],
    ['a chunk that is cut', raw(chunked, `ff\r\n${content}`), [400]],
    ['less than its length', raw(`Content-Length: ${content.length + 5}\r\n`), [400]],
  ])('%s', async (name, text, expected) => {
    const said = await say(text, { end: /cut|less/.test(name) });
    expect([...said.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => Number(status))).toEqual(expected);
    // Node's own answer to what lacks a host, or expects something else, is without words.
    if (![200, 405, 417].includes(expected.at(-1) ?? 200) && name !== 'no host') {
      expect(JSON.parse(said.slice(said.indexOf('\r\n\r\n'))).error.message).toMatch(
        /^(the request is not HTTP\/1\.1: |transfer-encoding: expected chunked, received gzip, chunked)/,
      );
    }
    await stillServes();
  });

  test('rubbish behind a stream ends the connection, and writes nothing into the answer', async () => {
    const body = stringify({ ...small, max_tokens: 400, stream: true, logit_bias: { '42': 100 } });
    const said = await say(`${head(body.length)}${body}\0\0\0\r\n\r\n`, { end: false });
    expect(said.match(/HTTP\/1\.1 \d/g)).toHaveLength(1);
    await stillServes();
  });

  test('who takes nothing of an answer is cut off; who is slow, or waits for it, is not', async () => {
    const [piece, pieces] = [Buffer.alloc(1 << 20), 32];
    const cut: string[] = [];
    const its = createServer(async (request, response) => {
      response.on('close', () => response.writableFinished || cut.push(request.url!));
      if (request.url === '/thinks') await new Promise((done) => setTimeout(done, 1000));
      await pipeline(Readable.from(new Array<Buffer>(pieces).fill(piece)), response).catch(() => {});
    });
    cutStalled(its, 300);
    await new Promise<void>((done) => its.listen(0, '127.0.0.1', done));
    const ask = (path: string, read: (socket: ReturnType<typeof connect>) => void) =>
      new Promise<number>((resolve) => {
        let length = 0;
        const socket = connect((its.address() as AddressInfo).port, '127.0.0.1');
        socket.on('data', (data) => {
          length += data.length;
        });
        socket.on('error', () => {});
        socket.on('close', () => resolve(length));
        read(socket);
        socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
      });
    const slowly = (socket: ReturnType<typeof connect>) => {
      const turn = setInterval(() => (socket.isPaused() ? socket.resume() : socket.pause()), 20);
      socket.on('close', () => clearInterval(turn));
    };
    // It reads on when it has been cut off, so as to hear of that.
    const never = (socket: ReturnType<typeof connect>) => {
      socket.pause();
      const wait = setInterval(() => {
        if (!cut.includes('/never')) return;
        clearInterval(wait);
        socket.resume();
      }, 20);
    };
    const lengths = await Promise.all([ask('/never', never), ask('/slow', slowly), ask('/thinks', () => {})]);
    expect(cut).toEqual(['/never']);
    expect(lengths.map((length) => length > pieces * piece.length)).toEqual([false, true, true]);
    await new Promise((done) => its.close(done));
  });

  test('a head that is no HTTP, or too large', async () => {
    expect(await say('\0\x01\x02\r\n\r\n', { end: true })).toMatch(/^HTTP\/1.1 400/);
    expect(await say(`GET / HTTP/1.1\r\nHost: x\r\nX: ${'y'.repeat(40_000)}\r\n\r\n`, { end: true })).toMatch(
      /^HTTP\/1.1 431[\s\S]*more than 16384 bytes/,
    );
    await stillServes();
  });
});

test('pages of other origins may not read it, unless they are named', async () => {
  const asked = { headers: { origin: 'https://example.org' } };
  const plain = await fetch(`${server.url}/v1/models`, asked);
  expect(plain.headers.get('access-control-allow-origin')).toBe(null);
  const open = await listen(engine, { port: 0, cors: ['https://example.org'] });
  const named = await fetch(`${open.url}/v1/models`, asked);
  expect(named.headers.get('access-control-allow-origin')).toBe('https://example.org');
  await open.close(0);
  for (const origins of ['*', ['*'], ['https://other.org:8443', '*']]) {
    const all = await createApp(engine, { cors: origins }).request('/v1/models', asked);
    expect(all.headers.get('access-control-allow-origin')).toBe('*');
  }
  const own = createApp(engine, { cors: ['chrome-extension://abcdef', 'tauri://localhost', 'null'] });
  for (const origin of ['chrome-extension://abcdef', 'tauri://localhost', 'null'])
    expect((await own.request('/v1/models', { headers: { origin } })).headers.get('access-control-allow-origin')).toBe(
      origin,
    );
});
