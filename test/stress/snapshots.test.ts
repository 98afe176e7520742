/** Snapshots that are damaged, of another model, or half-written. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { createModel, loadModel, type Model, StatespaceError } from 'statespace';
import { beforeAll, describe, expect, test } from 'vitest';
import { native } from '../../dist/lib/native.js';
import { Random } from '../conformance/random.js';
import { amount } from '../support/scale.js';

const config = {
  model_type: 'llama',
  vocab_size: 61,
  hidden_size: 32,
  intermediate_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
};
const entry = resolve(__dirname, '../../dist/lib/index.js');
let model: Model;
let good: Uint8Array;

beforeAll(async () => {
  model = await createModel(config, { seed: 1 });
  const session = model.createSession();
  await session.forward([1, 2, 3, 4, 5, 6, 7], { logits: 'none' });
  good = session.save();
});

function refused(bytes: Uint8Array): boolean {
  try {
    model.restoreSession(bytes);
  } catch (error) {
    return error instanceof StatespaceError && error.code === 'ERR_STATE';
  }
  return false;
}

/** A snapshot whose checksum is right again, whatever else was done to it. */
const resealed = (bytes: Uint8Array) =>
  Buffer.concat([bytes.subarray(0, -32), native().digest(Uint8Array.from(bytes.subarray(0, -32)), true)]);

type Resizable = ArrayBuffer & { resize(bytes: number): void };
function resizable<T extends Uint8Array | Float32Array>(values: T): T {
  const buffer = Reflect.construct(ArrayBuffer, [values.byteLength, { maxByteLength: 2 * values.byteLength }]);
  const copy = Reflect.construct(values.constructor, [buffer]) as T;
  copy.set(values as never);
  return copy;
}
const shrink = ({ buffer }: Uint8Array | Float32Array) => (buffer as Resizable).resize(8);

describe('memory that is taken away while it is read off the event loop', () => {
  test('a snapshot in a resizable buffer was copied', async () => {
    const large = model.createSession();
    await large.forward(new Int32Array(8000).fill(3), { logits: 'none' });
    const bytes = resizable(await large.saveAsync());
    const restoring = model.restoreSessionAsync(bytes);
    shrink(bytes);
    expect((await restoring).position).toBe(8000);
  });

  test('so were the tensors of a model, and of setParameters', async () => {
    const saved = await model.parameters();
    const given = () =>
      new Map(
        [...saved].map(([name, { data, shape }]) => [
          name,
          { data: resizable(data as Float32Array), shape: [...shape] },
        ]),
      );
    const [first, second] = [given(), given()];
    const loading = loadModel(first, { config });
    for (const { data } of first.values()) shrink(data);
    const loaded = await loading;
    const setting = loaded.setParameters(second);
    await Promise.resolve();
    for (const { data } of second.values()) shrink(data);
    await setting;
    expect(await loaded.parameters()).toEqual(saved);
  });

  test('a buffer that was transferred is an error that says so', async () => {
    const given = await model.parameters();
    const loading = loadModel(given, { config });
    for (const { data } of given.values()) structuredClone(data, { transfer: [data.buffer as ArrayBuffer] });
    await expect(loading).rejects.toMatchObject({ code: 'ERR_SHAPE', message: expect.stringMatching(/transferred\?/) });
  });
});

describe('a snapshot is refused', () => {
  test('with any bit turned', () => {
    const random = new Random(7);
    for (let i = 0; i < amount(1000, 20_000); i++) {
      const bit = i < 72 * 8 ? i : Math.floor(random.next() * good.length * 8); // all of the header, then anywhere
      const bytes = good.slice();
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      expect(refused(bytes), `bit ${bit}`).toBe(true);
    }
  });

  test('in the same words where it is restored off the event loop', async () => {
    const owner = await createModel(config, { seed: 2 });
    for (const at of [9, 20, 66, 72, good.length >> 1, good.length - 40, good.length - 1]) {
      const bytes = good.slice();
      bytes[at]! ^= 1;
      for (const given of [bytes, resealed(bytes)]) {
        const said = await model.restoreSessionAsync(given).then(String, String);
        let here = '';
        try {
          here = String(model.restoreSession(given));
        } catch (error) {
          here = String(error);
        }
        expect(said, `byte ${at}`).toBe(here);
        if (given === bytes && at > 72) expect(said).toMatch(/damaged/);
        await expect(owner.restoreSessionAsync(given)).rejects.toMatchObject({ code: 'ERR_STATE' });
      }
    }
  });

  test('at any shorter or greater length', () => {
    for (let length = 0; length < good.length; length += length < 200 ? 1 : 37) {
      expect(refused(good.slice(0, length)), `${length} bytes`).toBe(true);
      if (length > 64) expect(refused(resealed(good.slice(0, length))), `${length} bytes, sealed`).toBe(true);
    }
    expect(refused(Buffer.concat([good, Buffer.alloc(1)]))).toBe(true);
    expect(refused(resealed(Buffer.concat([good, Buffer.alloc(64)])))).toBe(true);
  });

  test('with another position than its state is of', () => {
    for (const position of [0n, 6n, 8n, 64n, 2n ** 31n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]) {
      const bytes = Buffer.from(good);
      bytes.writeBigUInt64LE(position, 64);
      expect(refused(resealed(bytes)), `position ${position}`).toBe(true);
    }
  });

  test('of another model: other weights, sizes or types', async () => {
    const others = [
      await createModel(config, { seed: 2 }),
      await createModel({ ...config, num_hidden_layers: 3 }, { seed: 1 }),
      await createModel({ ...config, rms_norm_eps: 1e-3 }, { seed: 1 }),
      await createModel(config, { seed: 1, dtype: 'bf16' }),
      await createModel({ model_type: 'mamba', vocab_size: 61, hidden_size: 16, num_hidden_layers: 1 }, { seed: 1 }),
    ];
    for (const other of others) {
      const session = other.createSession();
      await session.forward([1, 2, 3, 4, 5, 6, 7], { logits: 'none' });
      expect(refused(session.save())).toBe(true);
      expect(() => other.restoreSession(good)).toThrow(expect.objectContaining({ code: 'ERR_STATE' }));
    }
  });

  test('that is something else', () => {
    for (const bytes of [new Uint8Array(), Buffer.from('text'), Buffer.alloc(5000), resealed(Buffer.alloc(5000))])
      expect(refused(bytes)).toBe(true);
    // biome-ignore lint/suspicious/noExplicitAny: what is wrong has no type
    for (const wrong of [undefined, null, 'text', 3, {}, [1]] as any[]) expect(refused(wrong)).toBe(true);
  });

  test('while the intact one is not', async () => {
    expect(Buffer.compare(model.restoreSession(good).save(), good)).toBe(0);
    expect(Buffer.compare(model.restoreSession(resealed(good)).save(), good)).toBe(0);
  });
});

describe('saveToFile', () => {
  test('is read by restoreSessionFromFile, replaces, and leaves nothing beside it', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'statespace-save-'));
    const path = join(folder, 'session');
    const session = model.createSession();
    await session.forward([1, 2, 3]);
    await session.saveToFile(path);
    await session.forward([4]);
    await session.saveToFile(path);
    expect(Buffer.compare((await model.restoreSessionFromFile(path)).save(), session.save())).toBe(0);
    expect(readdirSync(folder)).toEqual(['session']);
  });

  test('is save() byte for byte, of the moment of the call, and holds no copy of it', async () => {
    const path = join(mkdtempSync(join(tmpdir(), 'statespace-save-')), 'session');
    // 67 MB of state: more than one piece, and a copy of it would be seen.
    const sizes = { model_type: 'mamba', vocab_size: 61, hidden_size: 512, num_hidden_layers: 8, state_size: 2048 };
    const large = await createModel(sizes, { seed: 1 });
    const session = large.createSession();
    await session.forward([1, 2, 3], { logits: 'last' });
    const before = process.memoryUsage().rss;
    let most = 0;
    const watching = setInterval(() => {
      most = Math.max(most, process.memoryUsage().rss);
    }, 1);
    await session.saveToFile(path, { logits: true });
    clearInterval(watching);
    expect(session.bytes).toBeGreaterThan(60e6);
    expect(most - before).toBeLessThan(30e6);
    const expected = session.save({ logits: true });
    expect(Buffer.compare(await readFile(path), expected)).toBe(0);
    const saving = session.saveToFile(path, { logits: true });
    await session.forward([4]);
    await saving;
    expect(Buffer.compare(await readFile(path), expected)).toBe(0);
    await large.dispose();
  });

  test('into no folder, and reading no file: the error of the file system, and nothing left', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'statespace-save-'));
    await expect(model.createSession().saveToFile(join(folder, 'absent/session'))).rejects.toThrow(/ENOENT/);
    await expect(model.restoreSessionFromFile(join(folder, 'session'))).rejects.toThrow(/ENOENT/);
    const misspelt = { logit: true } as object;
    await expect(model.createSession().saveToFile(join(folder, 'session'), misspelt)).rejects.toThrow(
      /^session\.saveToFile: unknown option "logit"; did you mean 'logits'\?$/,
    );
    expect(readdirSync(folder)).toEqual([]);
  });

  test('a process killed while it saves leaves the old file or the new one', { timeout: 600_000 }, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'statespace-kill-'));
    const path = join(folder, 'session');
    // Two sessions of some megabytes in turn, without end.
    const code = `const { createModel } = require(${JSON.stringify(entry)});
      (async () => {
        const model = await createModel(${JSON.stringify(config)}, { seed: 1 });
        const sessions = [model.createSession(), model.createSession()];
        await sessions[0].forward(new Int32Array(4000).fill(1), { logits: 'none' });
        await sessions[1].forward(new Int32Array(5000).fill(2), { logits: 'none' });
        process.send('ready');
        for (let i = 0; ; i++) await sessions[i % 2].saveToFile(${JSON.stringify(path)});
      })();`;
    const ended = (child: ChildProcess) => new Promise((done) => child.once('exit', (_, signal) => done(signal)));
    const positions = new Set<number>();
    for (let i = 0; i < amount(6, 60); i++) {
      const child = spawn(process.execPath, ['-e', code], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
      const end = ended(child);
      await new Promise((done) => child.once('message', done));
      while (!existsSync(path)) await setTimeout(5); // the first save
      await setTimeout(i % 2 ? (i * 13) % 90 : 200 + ((i * 37) % 200));
      child.kill('SIGKILL');
      expect(await end).toBe('SIGKILL');
      positions.add(model.restoreSession(await readFile(path)).position);
    }
    for (const position of positions) expect([4000, 5000]).toContain(position);
  });
});

test('the inputs that the fuzzer begins with are snapshots of this version', async () => {
  const { fuzz } = createRequire(__filename)('../fuzz/snapshot.cjs') as { fuzz(data: Uint8Array): Promise<void> };
  const folder = resolve(__dirname, '../fuzz/corpus/snapshot');
  for (const name of readdirSync(folder)) {
    const data = await readFile(join(folder, name));
    expect([name, data[8]]).toEqual([name, good[8]]);
    await fuzz(data);
  }
});
