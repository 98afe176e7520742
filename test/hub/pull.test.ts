// Downloads from a hub on loopback: what is fetched, where it lies, and that cut, wrong and refused answers end well.
import { spawn } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import promises from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { loadModel } from 'statespace';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { neededFiles } from '../../dist/lib/hub/choose.js';
import { claim, leave } from '../../dist/lib/hub/partial.js';
import { pull } from '../../dist/lib/hub/pull.js';
import { parseHubSource } from '../../dist/lib/hub/source.js';
import { statespace } from '../support/cli.js';
import { modelCase } from '../support/golden.js';
import { until } from '../support/stalls.js';
import { COMMIT, fakeHub, gitSha1, type Repository, send, sha256 } from './fake-hub.js';

const golden = modelCase('mamba_hf').folder;
const weights = readFileSync(join(golden, 'model.safetensors'));
const config = readFileSync(join(golden, 'config.json'));
const files = {
  'config.json': config,
  'model.safetensors': weights,
  'README.md': Buffer.from('no'),
  'pytorch_model.bin': Buffer.from('the same again'),
};
const MAIN = resolve(__dirname, '../../dist/lib/cli/main.js');
const repositories: Record<string, Repository> = {
  'lab/mamba': { files, large: ['model.safetensors'] },
  'lab/gated': { files, large: ['model.safetensors'], token: 'hf_secret' },
};

let hub: Awaited<ReturnType<typeof fakeHub>>;
let cache: string;
const kept: Record<string, string | undefined> = {};
const VARIABLES = ['HF_ENDPOINT', 'HF_HUB_CACHE', 'HF_HUB_OFFLINE', 'HF_TOKEN', 'HF_TOKEN_PATH'];

beforeAll(async () => {
  hub = await fakeHub(repositories);
  for (const name of VARIABLES) kept[name] = process.env[name];
});
beforeEach(() => {
  cache = mkdtempSync(join(tmpdir(), 'statespace-hub-'));
  Object.assign(process.env, { HF_ENDPOINT: hub.url, HF_HUB_CACHE: cache, HF_TOKEN_PATH: join(cache, 'none') });
  delete process.env.HF_HUB_OFFLINE;
  delete process.env.HF_TOKEN;
  hub.fault = undefined;
  hub.status = 0;
  hub.requests.length = 0;
});
afterEach(() => rmSync(cache, { recursive: true }));
afterAll(async () => {
  for (const [name, value] of Object.entries(kept)) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
  await hub.close();
});

const fetched = () => hub.requests.filter((r) => r.url.includes('/resolve/')).map((r) => r.url.split('/').pop());
const blobs = () => readdirSync(join(cache, 'models--lab--mamba', 'blobs'));

/** Bytes of the file with this hash that have come and are not the whole. */
function written(repository: string, hash: string): number {
  const folder = join(cache, `models--lab--${repository}`, 'blobs');
  const partial = existsSync(folder) && readdirSync(folder).find((name) => name.startsWith(`${hash}.`));
  return partial ? (statSync(join(folder, partial), { throwIfNoEntry: false })?.size ?? 0) : 0;
}

/** Ends a connection when what was sent lies in the cache: the weights have then come to so many bytes. */
async function cutAt(bytes: number, response: ServerResponse): Promise<void> {
  await until(() => written('mamba', sha256(weights)) >= bytes);
  response.destroy();
}

test("what loadModel reads, and no more, in the layout of Python's cache", async () => {
  const heard: number[] = [];
  const folder = await pull('hf:lab/mamba', { onProgress: ({ loadedBytes }) => heard.push(loadedBytes) });
  expect(folder).toBe(join(cache, 'models--lab--mamba', 'snapshots', COMMIT));
  expect(fetched().sort()).toEqual(['config.json', 'model.safetensors']);
  expect(blobs().sort()).toEqual([gitSha1(config), sha256(weights)].sort());
  expect(lstatSync(join(folder, 'model.safetensors')).isSymbolicLink()).toBe(true);
  expect(readFileSync(join(folder, 'model.safetensors'))).toEqual(weights);
  expect(readFileSync(join(cache, 'models--lab--mamba', 'refs', 'main'), 'utf8')).toBe(COMMIT);
  expect(heard.at(-1)).toBe(weights.length + config.length);
});

test('a model by its name on the hub; the second time nothing is fetched, offline nothing is asked', async () => {
  const model = await loadModel('hf:lab/mamba@v1.0');
  expect(model.modelType).toBe('mamba');
  await model.dispose();
  hub.requests.length = 0;
  await pull('hf:lab/mamba@v1.0');
  expect(fetched()).toEqual([]);
  process.env.HF_HUB_OFFLINE = '1';
  hub.requests.length = 0;
  await (await loadModel('hf:lab/mamba@v1.0')).dispose();
  expect(hub.requests).toEqual([]);
  await expect(pull('hf:lab/other')).rejects.toThrow(/not in the cache, and HF_HUB_OFFLINE/);
  rmSync(join(cache, 'models--lab--mamba', 'snapshots', COMMIT, 'model.safetensors'));
  await expect(pull('hf:lab/mamba@v1.0')).rejects.toThrow(/its weights are not in the cache, and HF_HUB_OFFLINE/);
});

test('the command reads it by that name, as its help says', async () => {
  const args = ['generate', 'hf:lab/mamba', '--prompt', '12,5,7', '--max-tokens', '3', '--quiet'];
  expect(await statespace(args)).toMatchObject({ code: 0, stdout: expect.stringMatching(/^\d+,\d+,\d+\n$/) });
});

test('of a model on the hub loadModel tells how far its files have come, then its weights', async () => {
  const heard: number[] = [];
  const model = await loadModel('hf:lab/mamba', { onProgress: ({ loadedBytes }) => heard.push(loadedBytes) });
  await model.dispose();
  expect(heard).toContain(weights.length + config.length);
  expect(heard.indexOf(weights.length + config.length)).toBeLessThan(heard.length - 1);
});

describe('faults', () => {
  test('a connection that is cut again and again goes on where it was', async () => {
    let cuts = 0;
    hub.fault = (request, response, bytes, path) => {
      if (path !== 'model.safetensors' || cuts >= 3) return false;
      cuts++;
      const from = Number(/(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
      response.writeHead(from ? 206 : 200, { 'content-length': bytes.length - from });
      response.write(bytes.subarray(from, from + 1000));
      void cutAt(from + 1000, response);
      return true;
    };
    const folder = await pull('hf:lab/mamba');
    expect(readFileSync(join(folder, 'model.safetensors'))).toEqual(weights);
    const ranges = hub.requests.filter((r) => r.url.endsWith('model.safetensors')).map((r) => r.range);
    expect(ranges).toEqual([undefined, 'bytes=1000-', 'bytes=2000-', 'bytes=3000-']);
  });

  test('a server that knows no ranges sends the whole again', async () => {
    let cut = false;
    hub.fault = (_, response, bytes, path) => {
      if (path !== 'model.safetensors') return false;
      response.writeHead(200, { 'content-length': bytes.length });
      if (cut) response.end(bytes);
      else response.write(bytes.subarray(0, 1000));
      if (!cut) void cutAt(1000, response);
      cut = true;
      return true;
    };
    const heard: number[] = [];
    const folder = await pull('hf:lab/mamba', { onProgress: ({ loadedBytes }) => heard.push(loadedBytes) });
    expect(readFileSync(join(folder, 'model.safetensors'))).toEqual(weights);
    expect(heard.at(-1)).toBe(weights.length + config.length);
  });

  test('wrong bytes: once more from the start, then an error, and nothing of it in the cache', async () => {
    const wrong = Buffer.from(weights).fill(7, 100, 200);
    hub.fault = (request, response, _bytes, path) => {
      if (path === 'model.safetensors') send(request, response, wrong);
      return path === 'model.safetensors';
    };
    await expect(pull('hf:lab/mamba')).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT',
      message: expect.stringMatching(/resolve.*expected sha256 .* damaged/),
    });
    expect(fetched().filter((f) => f === 'model.safetensors')).toHaveLength(2);
    expect(blobs()).toEqual([gitSha1(config)]);
    hub.fault = undefined;
    await expect(pull('hf:lab/mamba')).resolves.toContain(COMMIT);
  });

  test('what an earlier version left behind is not gone on from', async () => {
    let first = true;
    hub.fault = (_request, response, bytes, path) => {
      if (path !== 'model.safetensors' || !first) return false;
      first = false;
      response.writeHead(200, { 'content-length': bytes.length });
      response.write(Buffer.alloc(1000, 9));
      void cutAt(1000, response);
      return true;
    };
    const folder = await pull('hf:lab/mamba');
    expect(readFileSync(join(folder, 'model.safetensors'))).toEqual(weights);
  });

  test('busy and broken servers are asked again', async () => {
    const answers = [429, 503];
    hub.fault = (_, response, __, path) => {
      const status = path === 'config.json' ? answers.shift() : undefined;
      if (status) response.writeHead(status, { 'retry-after': '0.05' }).end();
      return status !== undefined;
    };
    await expect(pull('hf:lab/mamba')).resolves.toContain(COMMIT);
    expect(fetched().filter((f) => f === 'config.json')).toHaveLength(3);
  });

  test.each([
    ['a model that is not there', 'hf:lab/nothing', /401: there is no such model, or it needs a token/],
    ['a revision that is not there', 'hf:lab/mamba@nowhere', /404: there is no such model or revision/],
    ['a gated model without a token', 'hf:lab/gated', /HF_TOKEN/],
    ['a file that is not there', 'hf:lab/mamba/x.gguf', /there is no file x\.gguf/],
  ])('%s', async (_, source, message) => {
    await expect(pull(source)).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT',
      message: expect.stringMatching(message),
    });
  });

  test('too many requests, and a hub that is not there', async () => {
    hub.status = 429;
    await expect(pull('hf:lab/mamba')).rejects.toThrow(/429: too many requests/);
    process.env.HF_ENDPOINT = 'http://127.0.0.1:1';
    await expect(pull('hf:lab/mamba')).rejects.toThrow(/hub at http:\/\/127\.0\.0\.1:1 cannot be asked/);
  });

  test('a token from the environment', async () => {
    process.env.HF_TOKEN = 'hf_secret';
    await expect(pull('hf:lab/gated')).resolves.toContain(COMMIT);
  });

  test('an abort leaves what has come for the next time', async () => {
    const controller = new AbortController();
    hub.fault = (_, response, bytes, path) => {
      if (path !== 'model.safetensors') return false;
      response.writeHead(200, { 'content-length': bytes.length });
      response.write(bytes.subarray(0, 1000));
      void until(() => written('mamba', sha256(weights)) >= 1000).then(() => controller.abort(new Error('enough')));
      return true;
    };
    await expect(pull('hf:lab/mamba', { signal: controller.signal })).rejects.toThrow('enough');
    expect(existsSync(join(cache, 'models--lab--mamba', 'blobs', `${sha256(weights)}.incomplete`))).toBe(true);
    hub.fault = undefined;
    await pull('hf:lab/mamba');
    expect(hub.requests.at(-1)!.range).toBe('bytes=1000-');
  });
});

describe('several that want the same model at once', () => {
  const large = Buffer.from(Uint8Array.from({ length: 1 << 20 }, (_, i) => (i * 31) >> 3));
  /** What the last of all pieces waits for. */
  let open: () => boolean;
  /** The whole or the rest, in pieces, so that it takes a while. */
  const slowly = (request: IncomingMessage, response: ServerResponse, bytes: Uint8Array) => {
    let at = Number(/(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
    response.writeHead(at ? 206 : 200, { 'content-length': bytes.length - at });
    const go = () => {
      if (at >= bytes.length) return response.end();
      if (at + (1 << 16) >= bytes.length && !open()) return setTimeout(go, 5);
      response.write(bytes.subarray(at, at + (1 << 16)));
      at += 1 << 16;
      return setTimeout(go, 5);
    };
    go();
    return true;
  };
  beforeEach(() => {
    open = () => true;
    repositories['lab/large'] = { files: { 'config.json': config, 'model.safetensors': large }, large: [WEIGHTS] };
    hub.fault = (request, response, bytes, path) => path === WEIGHTS && slowly(request, response, bytes);
  });
  const WEIGHTS = 'model.safetensors';
  const held = (folder: string) => readFileSync(join(folder, WEIGHTS)).equals(large);
  const left = () => readdirSync(join(cache, 'models--lab--large', 'blobs')).sort();
  const whole = () => [gitSha1(config), sha256(large)].sort();

  test('get it once: pulls of this process', async () => {
    const heard: number[] = [];
    const listings = () => hub.requests.filter((r) => r.url.includes('/tree/')).length;
    open = () => listings() >= 4;
    const asked = Array.from({ length: 4 }, async (_, i) => {
      await until(() => listings() >= i);
      return pull('hf:lab/large', { onProgress: ({ loadedBytes }) => i === 3 && heard.push(loadedBytes) });
    });
    for (const folder of await Promise.all(asked)) expect(held(folder)).toBe(true);
    expect(fetched().filter((f) => f === WEIGHTS)).toHaveLength(1);
    expect(left()).toEqual(whole());
    expect(heard.at(-1)).toBe(large.length + config.length);
  });

  test('one that gives up leaves what has come to the next', async () => {
    const controller = new AbortController();
    const first = pull('hf:lab/large', { signal: controller.signal });
    const second = pull('hf:lab/large');
    open = () => controller.signal.aborted;
    await until(() => written('large', sha256(large)) > 0);
    controller.abort(new Error('enough'));
    await expect(first).rejects.toThrow('enough');
    expect(held(await second)).toBe(true);
    expect(fetched().filter((f) => f === WEIGHTS).length).toBeLessThanOrEqual(2);
    expect(left()).toEqual(whole());
  });

  test('what a killed process had is gone on from; two processes do not mix their bytes', async () => {
    let first = true;
    hub.fault = (request, response, bytes, path) => {
      if (path !== WEIGHTS) return false;
      if (!first) return slowly(request, response, bytes);
      first = false; // half of it, and nothing more
      response.writeHead(200, { 'content-length': bytes.length });
      return response.write(bytes.subarray(0, bytes.length / 2)) || true;
    };
    const args = ['pull', 'lab/large'];
    const killed = spawn(process.execPath, [MAIN, ...args], { env: process.env, stdio: 'ignore' });
    await until(() => written('large', sha256(large)) > 0);
    killed.kill('SIGKILL');
    await new Promise((done) => killed.on('exit', done));
    const [a, b] = await Promise.all([statespace(args), pull('hf:lab/large')]);
    expect(a.code).toBe(0);
    expect(held(b)).toBe(true);
    const ranges = hub.requests.filter((r) => r.url.endsWith(WEIGHTS)).map((r) => r.range);
    expect(ranges.length).toBe(2);
    expect(ranges[1]).toMatch(/^bytes=[1-9]/);
    expect(left()).toEqual(whole());
  });
});

test('two that begin at once never both write, wherever one is halted', async () => {
  const path = join(cache, 'blob');
  const { writeFile } = promises;
  for (const halted of [0, 1]) {
    let [begun, go] = [0, () => {}];
    promises.writeFile = (async (...args: Parameters<typeof writeFile>) => {
      if (begun++ === halted) await new Promise<void>((resolve) => (go = resolve));
      return writeFile(...args);
    }) as typeof writeFile;
    const owners: string[] = [];
    const pause = () => new Promise<void>((resolve) => setTimeout(resolve, 5));
    const claims = [0, 1].map(async () => {
      const mine = (await claim(path, 9, pause))!;
      owners.push(mine);
      return mine;
    });
    await until(() => owners.length === 1);
    promises.writeFile = writeFile;
    go();
    await new Promise((resolve) => setTimeout(resolve, 100)); // time to go wrong
    expect(owners).toHaveLength(1);
    await leave(path, owners[0]!);
    for (const mine of await Promise.all(claims)) await leave(path, mine);
  }
});

test('what is whole by the time that nobody writes to it any more is not fetched again', async () => {
  const path = join(cache, 'blob');
  const { readdir } = promises;
  promises.readdir = (async (...args: Parameters<typeof readdir>) => {
    writeFileSync(path, 'whole');
    return readdir(...args);
  }) as typeof readdir;
  try {
    expect(await claim(path, 5, async () => {})).toBeUndefined();
  } finally {
    promises.readdir = readdir;
  }
  expect(readdirSync(cache)).toEqual(['blob']);
});

describe('names', () => {
  test('owner, name, revision, file', () => {
    expect(parseHubSource('hf:a/b')).toEqual({ repo: 'a/b', revision: 'main', file: undefined });
    expect(parseHubSource('hf:a/b.c@refs/pr/1')).toEqual({ repo: 'a/b.c', revision: 'refs/pr/1', file: undefined });
    expect(parseHubSource('hf:a/b/x/q4.gguf@v1')).toEqual({ repo: 'a/b', revision: 'v1', file: 'x/q4.gguf' });
  });
  test.each(['hf:a', 'hf:../b', 'hf:a/b@../c', 'hf:a/b/../c', 'hf:a b/c', 'hf:', 'hf:a/b@'])(
    '%s is refused',
    (text) => {
      expect(() => parseHubSource(text)).toThrow(/hf:owner\/name/);
    },
  );
  const q = ['m-Q4_K_M-00001-of-00002.gguf', 'm-Q4_K_M-00002-of-00002.gguf'];
  test.each<[string[], string | undefined, string[] | RegExp]>([
    [
      ['model.safetensors.index.json', 'model-00001-of-00001.safetensors', 'x.bin'],
      undefined,
      ['model.safetensors.index.json', 'model-00001-of-00001.safetensors'],
    ],
    [['rwkv.pth', 'README.md'], undefined, ['rwkv.pth']],
    [['tokenizer.model', 'model.safetensors'], undefined, ['tokenizer.model', 'model.safetensors']],
    [['rwkv_vocab_v20230424.txt', 'rwkv.pth'], undefined, ['rwkv_vocab_v20230424.txt', 'rwkv.pth']],
    [['tokenizer.json', 'tokenizer.model', 'rwkv.pth'], undefined, ['tokenizer.json', 'rwkv.pth']],
    [q, undefined, q],
    [[...q, 'm-Q8_0.gguf'], undefined, /holds 2 GGUF files; name one: hf:r\/m-Q4/],
    [[...q, 'm-Q8_0.gguf'], 'm-Q8_0.gguf', ['m-Q8_0.gguf']],
    [[...q, 'm-Q8_0.gguf'], q[0], q],
    [['README.md'], undefined, /holds no weights/],
  ])('%j, %s', (listed, file, wanted) => {
    if (wanted instanceof RegExp) expect(() => neededFiles('r', listed, file)).toThrow(wanted);
    else expect(neededFiles('r', listed, file)).toEqual(wanted);
  });
});
