// The command in processes of their own: ready, drained, restarted from a folder, killed.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadModel, type Model } from 'statespace';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { statespace } from '../support/cli.js';
import { ids, numbers, textAlone } from '../support/engines.js';
import { amount } from '../support/scale.js';
import { complete, metric, type ServerProcess, serveProcess } from '../support/server-process.js';
import { until, wanted } from '../support/stalls.js';
import { textModelFolder } from '../support/text-model.js';

const folder = textModelFolder();
const cache = mkdtempSync(join(tmpdir(), 'statespace-cache-'));
const running: ServerProcess[] = [];
let model: Model;

beforeAll(async () => {
  model = await loadModel(folder);
});
afterEach(async () => {
  for (const process of running.splice(0)) await process.end('SIGKILL');
});
afterAll(async () => {
  await model.dispose();
  rmSync(folder, { recursive: true });
  rmSync(cache, { recursive: true, force: true });
});

async function start(...args: string[]): Promise<ServerProcess> {
  const process = await serveProcess([folder, ...args]);
  running.push(process);
  return process;
}

const prompt = (seed: number, length = 150) => [...ids(numbers(seed), length, 90)].map((id) => Math.max(id, 10));
const said = (tokens: number[]) => textAlone(model, { prompt: tokens, maxTokens: 8 });
const files = () =>
  readdirSync(cache, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.snapshot'));

test('SIGTERM: what runs is answered to its end, nothing new is taken, and it ends with 0', async () => {
  const server = await start('--model-name', 'words');
  expect(await (await fetch(`${server.url}/v1/models`)).json()).toMatchObject({ data: [{ id: 'words' }] });
  const response = await fetch(`${server.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: 'hello', stream: true, max_tokens: 400, logit_bias: { '42': 100 } }),
  });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = (await reader.read()).value!;
  const ended = server.end('SIGTERM');
  for (let part = await reader.read(); !part.done; part = await reader.read()) text += part.value;
  expect(text.match(/w42/g)!.length).toBe(400);
  expect(text.endsWith('data: [DONE]\n\n')).toBe(true);
  expect(await ended).toEqual({ code: 0, signal: null });
  await expect(fetch(`${server.url}/health`)).rejects.toThrow();
  const [line] = server
    .stderr()
    .split('\n')
    .filter((l) => l.includes('/v1/completions'));
  expect(JSON.parse(line!)).toMatchObject({ method: 'POST', status: 200, promptTokens: 1, generatedTokens: 400 });
});

test('what has not ended when the grace has is told so: an event of a stream, 503 else', async () => {
  const server = await start('--grace', '0', '--max-tokens', '1000000000');
  const endless = { prompt: 'hello', n: 40, max_tokens: 1e9, logit_bias: { '42': 100 } };
  const ask = (more: object) =>
    fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ...endless, ...more }),
    });
  const [whole, stream] = [ask({}), await ask({ stream: true })];
  const reader = stream.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = (await reader.read()).value!;
  await until(async () => (await metric(server.url, 'requests_running')) > 40); // both
  const ended = server.end('SIGTERM');
  for (let part = await reader.read(); !part.done; part = await reader.read()) text += part.value;
  const last = text.trim().split('\n\n').at(-1)!;
  const error = { message: 'the server is shutting down', type: 'server_error', param: null, code: 'shutting_down' };
  expect(JSON.parse(last.replace('data: ', ''))).toEqual({ error });
  expect((await whole).status).toBe(503);
  expect((await whole).headers.get('retry-after')).toBe('5');
  expect(await (await whole).json()).toEqual({ error });
  expect(await ended).toEqual({ code: 0, signal: null });
});

test('wrong usage ends with 2 and says what is wrong, a taken port with 1', async () => {
  expect(await statespace(['serve', '/no/such/folder'])).toMatchObject({ code: 2 });
  expect(await statespace(['serve', folder, '--port', 'x'])).toMatchObject({ code: 2 });
  const empty = await statespace(['serve', folder, '--api-key', '']);
  expect(empty).toMatchObject({ code: 2, stderr: expect.stringContaining('--api-key') });
  const { port } = new URL((await start()).url);
  const taken = await statespace(['serve', folder, '--port', port]);
  expect(taken).toMatchObject({ code: 1, stderr: expect.stringContaining('EADDRINUSE') });
});

describe('from a folder', () => {
  test('a restarted server goes on from what the one before had read', async () => {
    const first = await start('--cache-folder', cache);
    const cold = await complete(first.url, { prompt: prompt(1) });
    expect(cold).toEqual({ text: await said(prompt(1)), cached: 0 });
    expect(await first.end('SIGTERM')).toMatchObject({ code: 0 });
    const restarted = async (tokens: number[]) =>
      complete((await start('--cache-folder', cache)).url, { prompt: tokens, max_tokens: 8 });
    const found = await wanted(
      ({ cached }) => cached > 0,
      () => restarted(prompt(1)),
    );
    expect(found).toEqual({ text: cold.text, cached: 149 });
    const other = [...prompt(1).slice(0, 140), ...prompt(2, 20)];
    const answer = await wanted(
      ({ cached }) => cached > 0,
      () => restarted(other),
    );
    expect(answer.text).toBe(await said(other));
    expect(answer.cached).toBeGreaterThanOrEqual(118);
  });

  test('damaged and foreign entries are dropped and counted, never used', async () => {
    const next = numbers(5);
    for (const file of files()) {
      const bytes = readFileSync(join(cache, file));
      bytes[next(bytes.length)]! ^= 1 + next(255);
      writeFileSync(join(cache, file), next(3) === 0 ? bytes.subarray(0, next(bytes.length)) : bytes);
    }
    const server = await start('--cache-folder', cache);
    const answer = await complete(server.url, { prompt: prompt(1) });
    expect(answer).toEqual({ text: await said(prompt(1)), cached: 0 });
    expect(await metric(server.url, 'store_dropped_total')).toBeGreaterThan(0);
    expect(await metric(server.url, 'store_hits_total')).toBe(0);
  });

  test('killed at any moment, it never says anything else', { timeout: 3_600_000 }, async () => {
    const next = numbers(6);
    const prompts = Array.from({ length: 6 }, (_, i) => [...prompt(7, 100), ...prompt(10 + i, 60)]);
    const expected = await Promise.all(prompts.map(said));
    let answered = 0;
    for (let round = 0; round < amount(2, 200); round++) {
      const server = await start('--cache-folder', cache, '--cache', `${20 + next(200)}K`);
      const asked = prompts.map(async (tokens, i) => {
        const answer = await complete(server.url, { prompt: tokens }).catch(() => undefined);
        if (!answer) return;
        answered++;
        expect(answer.text).toBe(expected[i]);
      });
      // In the middle of reading, or of writing what was read.
      if (round % 2 === 0) await Promise.race(asked);
      await new Promise((done) => setTimeout(done, next(60)));
      await server.end('SIGKILL');
      await Promise.all(asked);
    }
    const server = await start('--cache-folder', cache);
    for (const [i, tokens] of prompts.entries())
      expect((await complete(server.url, { prompt: tokens })).text).toBe(expected[i]);
    expect(await metric(server.url, 'store_dropped_total')).toBe(0);
    expect(answered).toBeGreaterThan(0);
  });
});
