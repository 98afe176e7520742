// Several files of one model, as llama.cpp's gguf-split makes them.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { loadModel, quantize } from 'statespace';
import { expect, test } from 'vitest';
import { readGguf } from '../../dist/lib/checkpoint/gguf/container.js';
import { scratchFolders } from '../support/checkpoint-files.js';
import { goldenRoot } from '../support/golden.js';

const folders = scratchFolders();
const source = join(goldenRoot, 'models/llama_gqa');
const empty = () => folders.put({});
const code = 'ERR_ARGUMENT';

async function logits(path: string): Promise<Float32Array> {
  const model = await loadModel(path);
  const rows = await model.createSession().forward([1, 2, 3, 4], { logits: 'all' });
  await model.dispose();
  return rows.toFloat32Array();
}

test('by tensors: named and marked one after the other, and the model that one file is', async () => {
  const folder = empty();
  const whole = await quantize(source, join(folder, 'whole.gguf'), { type: 'q8_0' });
  const { files, tensors, bytes } = await quantize(source, join(folder, 'x.gguf'), {
    type: 'q8_0',
    splitMaxTensors: 8,
  });
  const count = Math.ceil(whole.tensors.length / 8);
  const named = Array.from({ length: count }, (_, i) => `x-0000${i + 1}-of-0000${count}.gguf`);
  expect(files).toEqual(named.map((name) => join(folder, name)));
  expect(readdirSync(folder).sort()).toEqual(['whole.gguf', ...named].sort());
  expect(bytes).toBe(files.reduce((n, file) => n + statSync(file).size, 0));
  expect(tensors).toEqual(whole.tensors);
  const { metadata, tensors: read } = await readGguf(files[0]!);
  expect(read.map((t) => t.name)).toEqual((await readGguf(whole.files[0]!)).tensors.map((t) => t.name));
  expect(['split.no', 'split.count', 'split.tensors.count'].map((key) => metadata.value(key))).toEqual([
    0,
    count,
    tensors.length,
  ]);
  const bytesOf = (key: string) => metadata.pair(key)!.bytes.subarray(0, 4).readUInt32LE();
  expect([bytesOf('split.no'), bytesOf('split.count'), bytesOf('split.tensors.count')]).toEqual([2, 2, 5]); // u16, u16, i32
  expect(await logits(files[0]!)).toEqual(await logits(whole.files[0]!));
  const again = await quantize(files[0]!, join(folder, 'joined.gguf'), { type: 'q8_0' });
  expect(readFileSync(again.files[0]!).equals(readFileSync(whole.files[0]!))).toBe(true);
});

test('by bytes: no file is larger but one that holds a single tensor', async () => {
  const folder = empty();
  const whole = statSync((await quantize(source, join(folder, 'whole'), { type: 'f32' })).files[0]!).size;
  for (const splitMaxSize of [1, Math.ceil(whole / 5), whole - 1]) {
    const { files } = await quantize(source, join(folder, `${splitMaxSize}`), { type: 'f32', splitMaxSize });
    const parts = await Promise.all(files.map(async (file, i) => ({ file, tensors: await tensorsOf(file, i) })));
    for (const { file, tensors } of parts)
      expect(statSync(file).size <= splitMaxSize || tensors === 1, `${file}: ${tensors} tensors`).toBe(true);
    expect(files.length).toBeGreaterThan(1);
    // As full as can be: with the next one's first tensor a file would be too large.
    for (const [i, { file }] of parts.slice(0, -1).entries())
      expect(statSync(file).size + statSync(parts[i + 1]!.file).size).toBeGreaterThan(splitMaxSize);
    await readGguf(files[0]!);
  }
  const { files } = await quantize(source, join(folder, 'all'), { type: 'f32', splitMaxSize: whole + 200 });
  expect(files).toEqual([join(folder, 'all')]);
  expect(statSync(files[0]!).size).toBe(whole);
});

/** How many a part has by itself: its header says it behind the magic and the version. */
async function tensorsOf(file: string, no: number): Promise<number> {
  const bytes = readFileSync(file);
  expect(bytes.includes('general.architecture')).toBe(no === 0);
  return Number(bytes.readBigUInt64LE(8));
}

test('all or none: stopped midway, onto what is read, and by sizes that are none', async () => {
  const folder = empty();
  const stop = new AbortController();
  const stopped = quantize(source, join(folder, 'x.gguf'), {
    type: 'q8_0',
    splitMaxTensors: 2,
    signal: stop.signal,
    onProgress: ({ values, totalValues }) => values > totalValues / 2 && stop.abort(),
  });
  await expect(stopped).rejects.toMatchObject({ name: 'AbortError' });
  expect(readdirSync(folder)).toEqual([]);
  const { files } = await quantize(source, join(folder, 'x.gguf'), { type: 'q8_0', splitMaxTensors: 8 });
  const onto = quantize(files[0]!, join(folder, 'x.gguf'), { type: 'q8_0', splitMaxTensors: 8 });
  await expect(onto).rejects.toMatchObject({ code, message: expect.stringContaining('is what is read') });
  expect(files.every((file) => existsSync(file))).toBe(true);
  for (const options of [{ splitMaxSize: 0 }, { splitMaxTensors: 1.5 }, { splitMaxSize: '2G' as never }])
    await expect(quantize(source, join(folder, 'y.gguf'), { type: 'q8_0', ...options })).rejects.toMatchObject({
      code,
    });
});
