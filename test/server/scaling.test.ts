// Past one machine: several processes that share nothing but a Redis, some of them killed.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type Jobs, loadModel, type Model, openJobs, startWorker } from 'statespace';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { alone, ids, numbers, textAlone } from '../support/engines.js';
import { needs } from '../support/needs.js';
import { findRedis, type RedisServer, selfSigned, startRedis } from '../support/redis.js';
import { amount } from '../support/scale.js';
import { complete, metric, type ServerProcess, serveProcess } from '../support/server-process.js';
import { until } from '../support/stalls.js';
import { textModelFolder } from '../support/text-model.js';

const redisPath = findRedis();
const MAIN = resolve(__dirname, '../../dist/lib/cli/main.js');
const folder = textModelFolder({ ends: false });
let redis: RedisServer;
let model: Model;
const servers: ServerProcess[] = [];
const workers = new Set<ChildProcess>();

beforeAll(async () => {
  model = await loadModel(folder);
  if (redisPath) redis = await startRedis(redisPath);
});
afterEach(async () => {
  for (const server of servers.splice(0)) await server.end('SIGKILL');
  for (const worker of workers) await kill(worker);
});
afterAll(async () => {
  await model.dispose();
  if (redisPath) await redis.stop();
  rmSync(folder, { recursive: true });
});

const prompt = (seed: number, length: number) => [...ids(numbers(seed), length, 80)].map((id) => id + 10);

function kill(worker: ChildProcess): Promise<void> {
  workers.delete(worker);
  return new Promise((done) => {
    if (worker.exitCode !== null || worker.signalCode !== null) done();
    worker.on('exit', () => done());
    worker.kill('SIGKILL');
  });
}

/** Resolves when it takes jobs. */
function work(queue: string): Promise<ChildProcess> {
  const args = [
    'worker',
    folder,
    '--redis',
    redis.url,
    '--queue',
    queue,
    '--concurrency',
    '4',
    '--lock',
    '1',
    '--log',
    'none',
  ];
  const child = spawn(process.execPath, [MAIN, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env },
  });
  workers.add(child);
  return new Promise((ready, fail) => {
    child.stdout.on('data', (text: Buffer) => text.includes('statespace: working on') && ready(child));
    child.on('exit', (code, signal) => fail(new Error(`the worker ended with ${signal ?? code}`)));
  });
}

describe.runIf(needs(redisPath, 'redis-server (Debian: redis-server)'))('replicas', () => {
  test('any goes on with any conversation; one that is killed takes nothing with it', async () => {
    const replica = async () => {
      const server = await serveProcess([folder, '--redis', redis.url, '--log', 'none']);
      servers.push(server);
      return server;
    };
    const [a, idle] = await Promise.all([replica(), replica()]);
    const shared = prompt(1, 200);
    const said = (tokens: number[]) => textAlone(model, { prompt: tokens, maxTokens: 8 });
    expect(await complete(a.url, { prompt: shared })).toEqual({ text: await said(shared), cached: 0 });
    await until(async () => (await metric(a.url, 'store_writes_total')) >= 3);
    await a.end('SIGKILL');
    const later = [...shared, ...prompt(2, 20)];
    let b = idle;
    let answer = await complete(b.url, { prompt: later });
    // A Redis that is halted for longer than a replica waits for it: another replica.
    for (let i = 0; i < 10 && answer.cached === 0; i++) {
      b = await replica();
      answer = await complete(b.url, { prompt: later });
    }
    expect(answer.text).toBe(await said(later));
    expect(answer.cached).toBeGreaterThanOrEqual(199);
    // Without its Redis it reads for itself, and finds the Redis again.
    await redis.restart();
    const other = prompt(3, 100);
    expect((await complete(b.url, { prompt: other })).text).toBe(await said(other));
  });
});

const certificates = mkdtempSync(join(tmpdir(), 'statespace-tls-'));
afterAll(() => rmSync(certificates, { recursive: true }));
const certificate = redisPath ? selfSigned(certificates) : undefined;

test.runIf(needs(certificate, 'redis-server and openssl'))(
  'over TLS: replicas share, who does not trust the certificate says so and reads for itself',
  async () => {
    const secure = await startRedis(redisPath!, certificate);
    try {
      const args = [folder, '--redis', secure.tlsUrl!, '--log', 'none'];
      const trusting = { NODE_EXTRA_CA_CERTS: certificate!.cert };
      const [a, b, stranger] = await Promise.all([
        ...[1, 2].map(() => serveProcess(args, trusting)),
        serveProcess(args, { NODE_EXTRA_CA_CERTS: '' }),
      ]);
      servers.push(a!, b!, stranger!);
      const shared = prompt(4, 200);
      const said = await textAlone(model, { prompt: shared, maxTokens: 8 });
      expect(await complete(a!.url, { prompt: shared })).toEqual({ text: said, cached: 0 });
      await until(async () => (await metric(a!.url, 'store_writes_total')) >= 3);
      let found = await complete(b!.url, { prompt: shared });
      for (let i = 0; i < 10 && found.cached === 0; i++) {
        servers.push(await serveProcess(args, trusting));
        found = await complete(servers.at(-1)!.url, { prompt: shared });
      }
      expect(found).toEqual({ text: said, cached: 199 });
      expect(await complete(stranger!.url, { prompt: shared })).toEqual({ text: said, cached: 0 });
      const told =
        /\[STATESPACE_STORE\] Warning: prefixCache\.store: redis: self-signed certificate; prompts are read cold/g;
      expect(stranger!.stderr().match(told)).toHaveLength(1);
      expect(a!.stderr()).not.toMatch(/Warning/);
    } finally {
      await secure.stop();
    }
  },
);

test('a Redis that is not there is an error that says so, for jobs and workers', async () => {
  const nowhere = 'redis://user:secret@127.0.0.1:1';
  const jobs = openJobs(nowhere);
  await expect(jobs.add({ prompt: [1] })).rejects.toMatchObject({
    code: 'ERR_STATE',
    message: expect.stringMatching(/^jobs: the Redis at redis:\/\/127\.0\.0\.1:1 cannot be asked: .*ECONNREFUSED/),
  });
  await expect(jobs.result('a')).rejects.toMatchObject({ code: 'ERR_STATE' });
  const failing = jobs.result('a').catch((error) => error.code);
  await jobs.close(); // of what cannot be opened nothing is left to close
  expect(['ERR_STATE', 'ERR_DISPOSED']).toContain(await failing);
  await using engine = model.createEngine();
  await expect(startWorker(engine, nowhere)).rejects.toMatchObject({ code: 'ERR_STATE' });
  for (const wrong of [{ concurrency: 0 }, { lockMs: -1 }, { queue: '' }, { log: 5 }])
    await expect(startWorker(engine, nowhere, wrong as never)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
});

describe.runIf(needs(redisPath, 'redis-server (Debian: redis-server)'))('jobs', () => {
  let jobs: Jobs;
  afterEach(() => jobs.close());

  test('survive kill -9 of workers and of the Redis, and are done once each', { timeout: 3_600_000 }, async () => {
    jobs = openJobs(redis.url, { queue: 'killed' });
    const next = numbers(8);
    const rounds = amount(2, 200);
    const requests = Array.from({ length: 8 * rounds }, (_, i) => ({
      prompt: prompt(100 + (i % 30), 20 + (i % 30)),
      maxTokens: 200 + (i % 10) * 20,
    }));
    const added = await Promise.all(requests.map((request, i) => jobs.add(request, { id: `job-${i}` })));
    await jobs.add(requests[0]!, { id: 'job-0' });
    expect(added.length).toBe(requests.length);
    const results = Promise.all(added.map((id) => jobs.result(id)));
    await Promise.all([work('killed'), work('killed')]);
    let finished = false;
    void results.finally(() => {
      finished = true;
    });
    for (let round = 0; round < rounds && !finished; round++) {
      await new Promise((done) => setTimeout(done, next(300)));
      if (round % 2 === 1) {
        await redis.restart();
        continue;
      }
      const [oldest] = workers;
      await kill(oldest!);
      await work('killed');
    }
    for (const [i, result] of (await results).entries()) {
      expect(result.tokens, `job ${i}`).toEqual(await expected(requests[i]!));
      expect(result).toMatchObject({ finishReason: 'length', usage: { promptTokens: requests[i]!.prompt.length } });
    }
  });

  const known = new Map<string, Promise<number[]>>();
  function expected(request: { prompt: number[]; maxTokens: number }): Promise<number[]> {
    const key = `${request.maxTokens}:${request.prompt.join()}`;
    const promise = known.get(key) ?? alone(model, request);
    known.set(key, promise);
    return promise;
  }

  test('a wrong one fails at once, with what is wrong', async () => {
    jobs = openJobs(redis.url, { queue: 'wrong' });
    await work('wrong');
    const id = await jobs.add({ prompt: [100_000], maxTokens: 3 });
    await expect(jobs.result(id)).rejects.toMatchObject({
      ...{ name: 'StatespaceError', code: 'ERR_ARGUMENT' },
      message: expect.stringMatching(/^generate: prompt\[0\]: expected an id from 0 to/),
    });
    await expect(jobs.result('none')).rejects.toThrow(/there is no job/);
    for (const wrong of [{ promt: [1] }, { prompt: [1], signal: new AbortController().signal }])
      await expect(jobs.add(wrong as never)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
    await expect(jobs.add({ prompt: [1] }, { id: '' })).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
    // Ids of any form, and numbers that JSON does not have.
    const [plain] = (await alone(model, { prompt: [11], maxTokens: 1 })) as [number];
    const banned = { prompt: [11], maxTokens: 5, logitBias: { [plain]: Number.NEGATIVE_INFINITY } };
    for (const id of ['17', 'row:17', '%17']) expect(await jobs.add(banned, { id })).toBe(id);
    for (const id of ['17', 'row:17', '%17'])
      expect((await jobs.result(id)).tokens).toEqual(await alone(model, banned));
    const endless = await jobs.add({ prompt: [11], maxTokens: 5 });
    await expect(jobs.result(endless, { signal: AbortSignal.abort() })).rejects.toThrow(/abort/);
    expect((await jobs.result(endless)).tokens.length).toBe(5);
  });

  test('closed, they stay closed, whenever that was', async () => {
    for (const early of [true, false]) {
      const closing = openJobs(redis.url, { queue: 'closed' });
      const adding = closing.add({ prompt: [1] }).catch((error) => error.code);
      if (!early) await adding;
      await closing.close();
      await adding;
      const refused = { code: 'ERR_DISPOSED', message: 'jobs: they were closed' };
      await expect(closing.add({ prompt: [1] })).rejects.toMatchObject(refused);
      await expect(closing.result('x')).rejects.toMatchObject(refused);
      await closing.close();
    }
  });
});
