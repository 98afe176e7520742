// A state is of the weights that made it: the cache and the store give none to a model with others, however alike.
import { cpSync, mkdtempSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createEngine, createModel, type LoadOptions, loadModel, type Model, type SnapshotStore } from 'statespace';
import { afterAll, expect, test } from 'vitest';
import { safetensors } from '../support/checkpoint-files.js';
import { ids, llama, mamba, mambaConfig, numbers } from '../support/engines.js';
import { modelCase } from '../support/golden.js';
import { loopTime } from '../support/stalls.js';

const root = mkdtempSync(join(tmpdir(), 'statespace-owner-'));
afterAll(() => rmSync(root, { recursive: true }));
const prompt = ids(numbers(5), 200, 32);

function inMemory(): SnapshotStore & { values: Map<string, Uint8Array>; deleted: number } {
  const values = new Map<string, Uint8Array>();
  return {
    ...{ values, deleted: 0 },
    get: async (key) => values.get(key),
    put: async (key, value) => void values.set(key, value.slice()),
    async delete(key) {
      this.deleted++;
      values.delete(key);
    },
    async *list(prefix) {
      for (const key of values.keys()) if (key.startsWith(prefix)) yield key;
    },
  };
}

type AnEngine = ReturnType<typeof createEngine>;

async function ask(engine: AnEngine) {
  const said = { logprobs: [] as number[], cached: -1 };
  for await (const { logprob, cachedTokens } of engine.generate({ prompt, maxTokens: 4 })) {
    said.logprobs.push(logprob);
    said.cached = cachedTokens;
  }
  return said;
}

async function cold(model: Model): Promise<number[]> {
  await using engine = createEngine(model, { prefixCache: false });
  return (await ask(engine)).logprobs;
}

/** Asks by an engine of its own that has nothing but the store. */
async function askThrough(store: SnapshotStore, model: Model) {
  await using engine = createEngine(model, { prefixCache: { every: 64, store } });
  const { logprobs, cached } = await ask(engine);
  for (const [i, logprob] of (await cold(model)).entries()) expect(logprobs[i]).toBeCloseTo(logprob, 3);
  await engine.drain();
  return { cached, ...engine.stats().store! };
}

test.each([
  ['mamba', mamba],
  ['llama', llama],
] as const)('a %s that is given other values begins anew, and so does what it had begun', async (_, make) => {
  await using model = await make(1);
  await using other = await make(2);
  const store = inMemory();
  await using engine = createEngine(model, { prefixCache: { every: 64, store } });
  expect((await ask(engine)).cached).toBe(0);
  expect((await ask(engine)).cached).toBe(199);
  const running = engine.generate({ prompt, maxTokens: 400, minTokens: 400 });
  let read = 0;
  for await (const _ of running) {
    if (++read === 3) await model.setParameters(await other.parameters());
    if (read > 20) break;
  }
  const { logprobs, cached } = await ask(engine);
  expect(cached).toBe(0);
  for (const [i, logprob] of (await cold(other)).entries()) expect(logprobs[i]).toBeCloseTo(logprob, 3);
  expect((await ask(engine)).cached).toBe(199);
  await engine.drain();
  // Another process with the weights of then finds its own.
  await using before = await make(1);
  expect(await askThrough(store, before)).toMatchObject({ cached: 199, dropped: 0 });
  expect(store.deleted).toBe(0);
});

test('one that is held in another type, or exact, has entries of its own beside the other`s', async () => {
  const store = inMemory();
  const gguf = resolve(__dirname, '../golden/gguf/models/mamba.q8_0.gguf');
  const makers: (() => Promise<Model>)[] = [
    () => createModel(mambaConfig, { seed: 1 }),
    () => createModel(mambaConfig, { seed: 1, dtype: 'bf16' }),
    () => loadModel(gguf, { dtype: 'q8_0' }),
    () => loadModel(gguf, { dtype: 'q8_0', exact: true }),
  ];
  for (const cached of [0, 199])
    for (const make of makers) {
      await using model = await make();
      expect(await askThrough(store, model)).toMatchObject({ cached, dropped: 0, errors: 0 });
    }
  expect(store.deleted).toBe(0);
});

test('one value in the middle of one tensor makes another model; a copy elsewhere is the same', async () => {
  const [first, copy, changed] = ['first', 'copy', 'changed'].map((name) => {
    cpSync(modelCase('mamba_hf').folder, join(root, name), { recursive: true });
    return join(root, name);
  }) as [string, string, string];
  const file = join(changed, 'model.safetensors');
  const bytes = readFileSync(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + length)) as Record<string, { data_offsets: number[] }>;
  const largest = Object.values(header)
    .filter((t) => t.data_offsets)
    .map(({ data_offsets: [from, to] }) => ({ from: from!, size: to! - from! }))
    .sort((a, b) => b.size - a.size)[0]!;
  expect(largest.size).toBeGreaterThan(2048); // further from its ends than a look at these goes
  const at = 8 + length + largest.from + 4 * (largest.size >> 3);
  bytes.writeFloatLE(bytes.readFloatLE(at) + 8, at);
  writeFileSync(file, bytes);
  const store = inMemory();
  const through = async (folder: string) => {
    await using model = await loadModel(folder);
    return await askThrough(store, model);
  };
  expect(await through(first)).toMatchObject({ cached: 0, errors: 0 });
  // The files' digest lies in the store, and is read from them where that is damaged.
  const [digest, ...more] = [...store.values.keys()].filter((key) => key.startsWith('weights/'));
  expect(more).toEqual([]);
  for (const bad of [new Uint8Array(0), new Uint8Array(128), 'text' as never, 7 as never]) {
    store.values.set(digest!, bad);
    expect(await through(first)).toMatchObject({ cached: 199, dropped: 1, errors: 0 });
    expect(store.values.get(digest!)!.length).toBe(128);
  }
  expect(await through(copy)).toMatchObject({ cached: 199, errors: 0 });
  expect(await through(changed)).toMatchObject({ cached: 0, dropped: 0, errors: 0 });
  expect(await through(changed)).toMatchObject({ cached: 199, dropped: 0 });

  // What lies there by now is not what was loaded: nobody knows any more whose its states are.
  await using model = await loadModel(first);
  const { mtimeMs } = statSync(join(first, 'model.safetensors'));
  utimesSync(join(first, 'model.safetensors'), new Date(), new Date(mtimeMs + 5000));
  const { cached, hits, writes, errors } = await askThrough(store, model);
  expect([cached, hits, writes]).toEqual([0, 0, 0]);
  expect(errors).toBeGreaterThan(0);
});

test.each<[string, LoadOptions]>([
  ['merged', {}],
  ['beside', { mergeAdapters: false }],
])('adapters that were trained further in their place make another model: %s', async (_, options) => {
  const folder = modelCase('llama_gqa').folder;
  const adapter = mkdtempSync(join(root, 'adapter-'));
  await using base = await loadModel(folder);
  const { shape } = await base.getParameter('model.layers.0.self_attn.q_proj.weight');
  const [out, width] = shape as [number, number];
  const save = (at: number) => {
    const [down, up] = [new Float32Array(2 * width).fill(0.5), new Float32Array(2 * out).fill(0.5)];
    up[at] = -3;
    const place = 'base_model.model.model.layers.0.self_attn.q_proj';
    const header = {
      [`${place}.lora_A.weight`]: { dtype: 'F32', shape: [2, width], data_offsets: [0, 8 * width] },
      [`${place}.lora_B.weight`]: { dtype: 'F32', shape: [out, 2], data_offsets: [8 * width, 8 * (width + out)] },
    };
    writeFileSync(
      join(adapter, 'adapter_model.safetensors'),
      safetensors(header, Buffer.concat([down, up].map((a) => Buffer.from(a.buffer)))),
    );
    const config = { peft_type: 'LORA', r: 2, lora_alpha: 2, bias: 'none', target_modules: ['q_proj'] };
    writeFileSync(join(adapter, 'adapter_config.json'), JSON.stringify(config));
  };
  const store = inMemory();
  const through = async () => {
    await using model = await loadModel(folder, { ...options, adapters: [adapter] });
    return await askThrough(store, model);
  };
  save(0);
  expect(await through()).toMatchObject({ cached: 0 });
  expect(await through()).toMatchObject({ cached: 199 });
  save(out); // as many bytes, in the same file
  expect(await through()).toMatchObject({ cached: 0, dropped: 0 });
});

test('a list without an end costs time, and nobody else their turn', async () => {
  await using model = await mamba();
  const store = {
    ...inMemory(),
    async *list(prefix: string) {
      for (let i = 0; ; i++) yield `${prefix}${i}-0`;
    },
  };
  const asking = async () => expect(await askThrough(store, model)).toMatchObject({ cached: 0, errors: 1 });
  const { all, longest } = await loopTime(asking);
  expect(longest).toBeLessThan(all / 3);
});
