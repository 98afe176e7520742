// A progress callback that fails, in whatever way: the call rejects with its error, and is as if it had not been made.
import { AsyncLocalStorage } from 'node:async_hooks';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createModel, loadModel, type Model, quantize } from 'statespace';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { encodeRows } from '../dist/lib/blocks.js';
import { pull } from '../dist/lib/hub/pull.js';
import { fakeHub } from './hub/fake-hub.js';
import { modelCase } from './support/golden.js';

const MAMBA = { model_type: 'mamba', vocab_size: 61, hidden_size: 32, num_hidden_layers: 2, state_size: 16 };
const folder = mkdtempSync(join(tmpdir(), 'statespace-progress-'));
const failure = new TypeError('mine');
/** At once, as a promise, and as one that rejects when others have had their turn. */
const callbacks: Record<string, () => unknown> = {
  throws: () => {
    throw failure;
  },
  rejects: async () => {
    throw failure;
  },
};

let model: Model;
let hub: Awaited<ReturnType<typeof fakeHub>>;
const kept = { ...process.env };
beforeAll(async () => {
  model = await createModel(MAMBA, { seed: 1 });
  hub = await fakeHub({
    'lab/small': { files: { 'config.json': Buffer.from('{}'), 'model.safetensors': Buffer.alloc(9) } },
  });
  Object.assign(process.env, { HF_ENDPOINT: hub.url, HF_HUB_CACHE: folder, HF_TOKEN_PATH: join(folder, 'none') });
});
afterAll(async () => {
  for (const name of ['HF_ENDPOINT', 'HF_HUB_CACHE', 'HF_TOKEN_PATH'])
    if (kept[name] === undefined) delete process.env[name];
    else process.env[name] = kept[name];
  await model.dispose();
  await hub.close();
  rmSync(folder, { recursive: true });
});

describe.each(Object.entries(callbacks))('one that %s', (_, callback) => {
  const onProgress = callback as () => void;

  it.each([1, 7, 50_000])('forward of %i tokens: the session is as it was', async (tokens) => {
    const session = model.createSession();
    await session.forward([1, 2, 3]);
    const before = session.save();
    await expect(session.forward(new Int32Array(tokens), { onProgress })).rejects.toBe(failure);
    expect([session.position, session.save()]).toEqual([3, before]);
    const next = await session.forward([4]);
    expect(next.data).toEqual((await model.restoreSession(before).forward([4])).data);
  });

  it.each([1, 50_000])('forwardBatch of %i tokens: all sessions are as they were', async (tokens) => {
    const sessions = [model.createSession(), model.createSession()];
    await sessions[0]!.forward([1, 2, 3]);
    const entries = sessions.map((session) => ({ session, tokens: new Int32Array(tokens) }));
    await expect(model.forwardBatch(entries, { onProgress })).rejects.toBe(failure);
    expect(sessions.map((s) => s.position)).toEqual([3, 0]);
  });

  it('loadModel', async () => {
    await expect(loadModel(modelCase('mamba_hf').folder, { onProgress })).rejects.toBe(failure);
    const one = await loadModel(modelCase('mamba_hf').folder);
    await expect(loadModel(modelCase('mamba_hf').folder, { onProgress })).rejects.toBe(failure); // its weights are there
    await one.dispose();
  });

  it('pull: no second attempt', async () => {
    hub.requests.length = 0;
    await expect(pull('hf:lab/small', { onProgress })).rejects.toBe(failure);
    expect(hub.requests.filter((r) => r.url.endsWith('/model.safetensors')).length).toBeLessThanOrEqual(1);
  });

  it('quantize: no file', async () => {
    const out = join(folder, 'out.gguf');
    await expect(quantize(modelCase('mamba_hf').folder, out, { type: 'q8_0', onProgress })).rejects.toBe(failure);
    expect(readdirSync(folder).filter((name) => name.includes('gguf'))).toEqual([]);
  });

  it('blocks', async () => {
    const values = new Float32Array(1 << 20);
    await expect(encodeRows('q8_0', values, 1024, 1024, { onProgress })).rejects.toBe(failure);
  });
});

it.each([1, 7, 50_000])(
  'an abort from within it is heard, though %i tokens may be done: the session is as it was',
  async (tokens) => {
    const session = model.createSession();
    await session.forward([1, 2, 3]);
    const before = session.save();
    const controller = new AbortController();
    const onProgress = () => controller.abort(failure);
    const call = session.forward(new Int32Array(tokens), { signal: controller.signal, onProgress });
    await expect(call).rejects.toBe(failure);
    expect([session.position, session.save()]).toEqual([3, before]);
  },
);

it('what is thrown and no object comes as the cause of an error', async () => {
  for (const thrown of ['a text', undefined, 5, Symbol('s')]) {
    const onProgress = () => {
      throw thrown;
    };
    const told = await model
      .createSession()
      .forward(new Int32Array(50_000), { onProgress })
      .catch((e) => e);
    expect(told).toMatchObject({ message: String(thrown), cause: thrown });
  }
});

it('a rejection after the end is a warning, not the end of the process', async () => {
  const warned = new Promise<Error>((done) => process.once('warning', done));
  let fail: (reason: Error) => void;
  const onProgress = () =>
    new Promise<void>((_, reject) => {
      fail = reject;
    });
  const session = model.createSession();
  await session.forward([1], { onProgress: onProgress as () => void });
  fail!(failure);
  expect((await warned).message).toBe('onProgress: TypeError: mine');
  expect(session.position).toBe(1);
});

it.each<[string, (onProgress: () => void) => Promise<unknown>]>([
  ['forward', (onProgress) => model.createSession().forward(new Int32Array(3000), { logits: 'none', onProgress })],
  [
    'forwardBatch',
    (onProgress) =>
      model.forwardBatch([{ session: model.createSession(), tokens: new Int32Array(3000) }], { onProgress }),
  ],
  ['loadModel', async (onProgress) => (await loadModel(modelCase('mamba_hf').folder, { onProgress })).dispose()],
])('%s: two at once have a context of their own each', async (_, call) => {
  const context = new AsyncLocalStorage<string>();
  const seen: Record<string, Set<unknown>> = { a: new Set(), b: new Set() };
  await Promise.all(
    Object.entries(seen).map(([name, its]) => context.run(name, () => call(() => its.add(context.getStore())))),
  );
  expect(seen).toEqual({ a: new Set(['a']), b: new Set(['b']) });
});
