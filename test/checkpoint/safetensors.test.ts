import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadModel } from 'statespace';
import { describe, expect, test } from 'vitest';
import { openCheckpoint, readTensorF32 } from '../../dist/lib/checkpoint/open.js';
import { readSafetensors } from '../../dist/lib/checkpoint/safetensors.js';
import { byName, expectRefused, safetensors, scratchFolders } from '../support/checkpoint-files.js';

const folders = scratchFolders();
const put = (bytes: Uint8Array) => join(folders.put({ 'model.safetensors': bytes }), 'model.safetensors');
const f32 = (begin: number, end: number) => ({ dtype: 'F32', shape: [(end - begin) / 4], data_offsets: [begin, end] });
const empty = JSON.stringify(f32(0, 0));

test('tensors of every type, in any order in the header, are where the header says', async () => {
  const data = Buffer.alloc(57);
  data.writeFloatLE(1.5, 0);
  data.writeUInt16LE(0x3e00, 4); // 1.5 as f16
  data.writeUInt16LE(0x3fc0, 6); // 1.5 as bf16
  data.writeDoubleLE(-0.25, 8);
  data.writeBigInt64LE(-7n, 16);
  data.writeInt32LE(-8, 24);
  data.writeInt16LE(-9, 28);
  data.writeInt8(-10, 30);
  data.writeUInt8(200, 31);
  data.writeUInt8(1, 32);
  data.fill(Buffer.from(Float32Array.of(1, 2, 3, 4, 5, 6).buffer), 33);
  const file = put(
    safetensors(
      {
        matrix: { dtype: 'F32', shape: [2, 3], data_offsets: [33, 57] },
        __metadata__: { format: 'pt' },
        f32: { dtype: 'F32', shape: [], data_offsets: [0, 4] },
        f16: { dtype: 'F16', shape: [1], data_offsets: [4, 6] },
        bf16: { dtype: 'BF16', shape: [1, 1], data_offsets: [6, 8] },
        f64: { dtype: 'F64', shape: [1], data_offsets: [8, 16] },
        i64: { dtype: 'I64', shape: [1], data_offsets: [16, 24] },
        i32: { dtype: 'I32', shape: [1], data_offsets: [24, 28] },
        i16: { dtype: 'I16', shape: [1], data_offsets: [28, 30] },
        i8: { dtype: 'I8', shape: [1], data_offsets: [30, 31] },
        u8: { dtype: 'U8', shape: [1], data_offsets: [31, 32] },
        bool: { dtype: 'BOOL', shape: [1], data_offsets: [32, 33] },
        empty: { dtype: 'F32', shape: [0, 9], data_offsets: [33, 33] },
      },
      data,
    ),
  );
  const tensors = byName(await readSafetensors(file));
  const values: Record<string, number[]> = {};
  for (const tensor of Object.values(tensors)) values[tensor.name] = [...(await readTensorF32(tensor))];
  expect(values).toEqual({
    matrix: [1, 2, 3, 4, 5, 6],
    f32: [1.5],
    f16: [1.5],
    bf16: [1.5],
    f64: [-0.25],
    i64: [-7],
    i32: [-8],
    i16: [-9],
    i8: [-10],
    u8: [200],
    bool: [1],
    empty: [],
  });
  expect(tensors.matrix).toMatchObject({ dtype: 'f32', shape: [2, 3], file, byteLength: 24 });
});

test('metadata of nothing is as none', async () => {
  const file = put(safetensors({ __metadata__: null, w: f32(0, 4) }, Buffer.alloc(4)));
  expect((await readSafetensors(file)).map(({ name }) => name)).toEqual(['w']);
});

test('names that mean something to JavaScript are names', async () => {
  const file = put(safetensors({ constructor: f32(0, 4), toString: f32(4, 8) }, Buffer.alloc(8)));
  expect((await readSafetensors(file)).map((t) => t.name)).toEqual(['constructor', 'toString']);
});

describe('refused, naming the file', () => {
  const entry = (overrides: object) => safetensors({ w: { ...f32(0, 8), ...overrides } }, Buffer.alloc(8));
  test.each<[string, Buffer, RegExp]>([
    ['an empty file', Buffer.alloc(0), /the file is empty: download it again/],
    ['seven bytes', Buffer.alloc(7), /received a file of 7 bytes/],
    ['a header longer than the file', safetensors('{}', undefined, 3n), /header: expected 3 bytes at 8/],
    [
      'a header of 2^64 - 1 bytes',
      safetensors('{}', undefined, 2n ** 64n - 1n),
      /at most 25000000 .* 18446744073709551615/,
    ],
    ['a header of more than 25 MB', safetensors('{}', undefined, 100_000_001n), /at most 25000000/],
    [
      'an error of a server',
      Buffer.from('{"error":"Repository not found"}'),
      /expected a safetensors file, received the text "{\\"error\\":.*": download it again/,
    ],
    ['a line of text', Buffer.from('Entry not found\n'), /received the text "Entry not found/],
    ['no JSON', safetensors('garbage'), /expected a JSON object/],
    ['half of a JSON', safetensors('{"w": {"dtype":'), /header:1:16: expected a value, received the end/],
    ['no UTF-8', safetensors('{"').fill(0xff, 9), /UTF-8/],
    ['an array', safetensors('[]'), /expected a JSON object/],
    ['a tensor that is a number', safetensors({ w: 1 }), /"w": expected {dtype, shape, data_offsets}, received 1/],
    ['a name twice', safetensors(`{"w": ${empty}, "w": ${empty}}`), /the key "w" stands twice/],
    ['a prototype', safetensors('{"__proto__": {}}'), /__proto__/],
    ['deep nesting', safetensors(`{"w": ${'[['.repeat(5000)}`), /64 levels/],
    [
      'a Git LFS pointer',
      Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n'),
      /LFS pointer.*git lfs pull/,
    ],
    ['a web page', Buffer.from('<!DOCTYPE html><html><body>404</body></html>'), /web page/],
    ['an unknown type', entry({ dtype: 'I128' }), /"w": expected dtype F32.* received "I128"/],
    ['a type of another kind', entry({ dtype: 'constructor' }), /received "constructor"/],
    ['no type', entry({ dtype: undefined }), /received undefined/],
    ['a negative size', entry({ shape: [-2] }), /"w": expected shape as an array of sizes, received \[-2\]/],
    ['a fractional size', entry({ shape: [0.5, 4] }), /received \[0.5, 4\]/],
    [
      'an infinite size',
      safetensors('{"w": {"dtype": "F32", "shape": [Infinity], "data_offsets": [0, 0]}}'),
      /Infinity/,
    ],
    ['a shape that is text', entry({ shape: '2' }), /received "2"/],
    [
      'a shape larger than its bytes',
      entry({ shape: [3] }),
      /"w": expected data_offsets of 12 bytes for f32 \[3\], received \[0, 8\]/,
    ],
    ['a shape smaller than its bytes', entry({ shape: [1] }), /expected data_offsets of 4 bytes/],
    ['a shape that overflows', entry({ shape: [2 ** 52, 2 ** 52, 2 ** 52] }), /data_offsets of 3\.\d+e\+47 bytes/],
    ['an end before the begin', entry({ data_offsets: [8, 0] }), /expected data_offsets \[begin, end\]/],
    [
      'an end beyond the file',
      entry({ data_offsets: [0, 12], shape: [3] }),
      /within the 8 bytes of data, received \[0, 12\]/,
    ],
    ['three offsets', entry({ data_offsets: [0, 4, 8] }), /received \[0, 4, 8\]/],
    ['one offset', entry({ data_offsets: [8] }), /received \[8\]/],
    ['huge offsets', entry({ data_offsets: [2 ** 60, 2 ** 61] }), /data_offsets/],
    [
      'overlapping tensors',
      safetensors({ a: f32(0, 8), b: f32(4, 12) }, Buffer.alloc(12)),
      /"b": overlaps .* at 8, received 4/,
    ],
    ['the same bytes twice', safetensors({ a: f32(0, 8), b: f32(0, 8) }, Buffer.alloc(8)), /overlaps/],
    ['a hole', safetensors({ a: f32(0, 4), b: f32(8, 12) }, Buffer.alloc(12)), /"b": leaves a hole/],
    [
      'bytes behind the last tensor',
      safetensors({ a: f32(0, 4) }, Buffer.alloc(5)),
      /expected 5 bytes of tensors, received 4/,
    ],
    [
      'metadata that is no text',
      safetensors({ __metadata__: { a: 1 } }),
      /__metadata__: "a": expected a string, received 1/,
    ],
  ])('%s', async (_, bytes, message) => {
    const file = put(bytes);
    await expectRefused(readSafetensors(file), file, message);
  });

  test('every truncation of a valid file', async () => {
    const whole = safetensors({ w: f32(0, 8), v: f32(8, 12) }, Buffer.alloc(12));
    for (let length = 0; length < whole.length; length++) {
      const file = put(whole.subarray(0, length));
      await expectRefused(readSafetensors(file), file, /./);
    }
  });

  test('a file that shrinks between opening and reading', async () => {
    const file = put(safetensors({ w: f32(0, 8) }, Buffer.alloc(8)));
    const [stored] = await readSafetensors(file);
    writeFileSync(file, Buffer.alloc(3));
    await expectRefused(readTensorF32(stored!), file, /tensor "w": expected 8 bytes/);
  });
});

describe('sharded', () => {
  const index = (weightMap: unknown) => JSON.stringify({ metadata: { total_size: 12 }, weight_map: weightMap });
  const shards = {
    'a.safetensors': safetensors({ w: f32(0, 4), unlisted: f32(4, 8) }, Buffer.from(Float32Array.of(1, 9).buffer)),
    'b.safetensors': safetensors({ v: f32(0, 8) }, Buffer.from(Float32Array.of(2, 3).buffer)),
  };
  const shardedFolder = (weightMap: unknown) =>
    folders.put({ ...shards, 'model.safetensors.index.json': index(weightMap) });

  test('each tensor comes from the shard that the index names; one that it does not name is there all the same', async () => {
    const { tensors, totalBytes } = await openCheckpoint(shardedFolder({ w: 'a.safetensors', v: './b.safetensors' }));
    expect([...tensors.keys()].sort()).toEqual(['unlisted', 'v', 'w']);
    expect([...(await readTensorF32(tensors.get('v')!))]).toEqual([2, 3]);
    expect(totalBytes).toBe(16);
  });

  test('of two shards that hold a tensor of one name, the index says which', async () => {
    const both = {
      'a.safetensors': safetensors({ w: f32(0, 4), v: f32(4, 8) }, Buffer.from(Float32Array.of(1, 9).buffer)),
      'b.safetensors': safetensors({ v: f32(0, 4), w: f32(4, 8) }, Buffer.from(Float32Array.of(2, 7).buffer)),
      'model.safetensors.index.json': index({ w: 'a.safetensors', v: 'b.safetensors' }),
    };
    const { tensors } = await openCheckpoint(folders.put(both));
    const values = await Promise.all(['w', 'v'].map(async (name) => (await readTensorF32(tensors.get(name)!))[0]));
    expect([tensors.size, values]).toEqual([2, [1, 2]]);
  });

  test.each<[string, unknown, RegExp]>([
    ['a shard that is missing', { w: 'c.safetensors' }, /expected the shard "c.safetensors" of tensor "w"/],
    ['a tensor that its shard lacks', { v: 'a.safetensors' }, /expected tensor "v" in "a.safetensors"/],
    [
      'a path upwards',
      { w: '../a.safetensors' },
      /"w": expected the name of a file in the same folder, received "..\/a/,
    ],
    ['a path upwards in the middle', { w: 'x/../../a.safetensors' }, /same folder/],
    ['an absolute path', { w: '/etc/passwd' }, /received "\/etc\/passwd"/],
    ['a path of Windows', { w: '..\\a.safetensors' }, /same folder/],
    ['a NUL', { w: 'a.safetensors\0' }, /same folder/],
    ['the folder itself', { w: '.' }, /same folder/],
    ['no text', { w: 1 }, /received 1/],
    ['no map', [], /weight_map: expected an object/],
  ])('refuses %s', async (_, weightMap, message) => {
    const folder = shardedFolder(weightMap);
    await expectRefused(openCheckpoint(folder), 'model.safetensors.index.json', message);
  });

  test('refuses a shard that lies, by the shard’s name', async () => {
    const folder = folders.put({
      'a.safetensors': Buffer.alloc(3),
      'model.safetensors.index.json': index({ w: 'a.safetensors' }),
    });
    await expectRefused(openCheckpoint(folder), 'a.safetensors', /length of the header/);
  });
});

describe('a header of 24 MB is read in turns of the event loop', () => {
  const turnsOf = async (work: Promise<unknown>) => {
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    await work.finally(() => clearInterval(timer));
    return turns;
  };
  const named = (count: number, of: object | string) =>
    Object.fromEntries(Array.from({ length: count }, (_, i) => [`model.layers.${i}.rotary_and_more.weight`, of]));

  test('of 200,000 tensors', async () => {
    const reading = readSafetensors(put(safetensors(named(200_000, f32(0, 0)))));
    expect(await turnsOf(reading)).toBeGreaterThan(20);
    expect(await reading).toHaveLength(200_000);
  });
  test('of metadata', async () => {
    const reading = readSafetensors(put(safetensors({ __metadata__: named(120_000, 'of it'), w: f32(0, 0) })));
    expect(await turnsOf(reading)).toBeGreaterThan(10);
    expect(await reading).toHaveLength(1);
  });
  test('of one name', async () => {
    const name = 'a\u00e9"'.repeat(4_000_000);
    const reading = readSafetensors(put(safetensors({ [name]: f32(0, 0) })));
    expect(await turnsOf(reading)).toBeGreaterThan(10);
    expect((await reading)[0]!.name === name).toBe(true);
  });
  test.each([
    ['spaces', ' '.repeat(24_000_000), /header:1:\d+: expected "," or "}", received "x"/],
    ['lines', '\n'.repeat(24_000_000), /header:24000001:1: expected "," or "}", received "x"/],
    ['a name without an end', `, "${'a\\n'.repeat(8_000_000)}`, /header:1:\d+: this string has no end/],
  ])('of %s', async (_, filler, message) => {
    const file = put(safetensors(`{"w": ${empty}${filler}x}`));
    const reading = expectRefused(readSafetensors(file), file, message);
    expect(await turnsOf(reading)).toBeGreaterThan(5);
  });
});

describe('an index of 24 MB', () => {
  const names = Array.from({ length: 250_000 }, (_, i) => [
    `model.layers.${i}.self_attn.rotary_and_more.weight.of.it`,
    'a',
  ]);
  const weight_map = Object.fromEntries(names.map(([name]) => [name, 'a.safetensors']));
  const files = { 'a.safetensors': safetensors({ w: f32(0, 4) }, Buffer.alloc(4)) };
  const folder = () =>
    folders.put({ ...files, 'model.safetensors.index.json': JSON.stringify({ weight_map }).padEnd(24_000_000) });

  test('is read in turns of the event loop', async () => {
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    await expectRefused(openCheckpoint(folder()), 'index.json', /which lacks it/).finally(() => clearInterval(timer));
    expect(turns).toBeGreaterThan(20);
  });
  test('hears an abort', async () => {
    const stop = new AbortController();
    setImmediate(() => setTimeout(() => stop.abort(new Error('enough')), 10));
    await expect(loadModel(folder(), { signal: stop.signal })).rejects.toThrow('enough');
  });
  test('of more than 25 MB is refused before it is read', async () => {
    const long = { ...files, 'model.safetensors.index.json': '{}'.padEnd(25_000_001) };
    await expectRefused(openCheckpoint(folders.put(long)), 'index.json', /expected at most 25000000 bytes/);
  });
});

describe('a file of another format under this name', () => {
  const zip = Buffer.from('PK\x03\x04\0\0\x08\x08 and more than eight bytes', 'latin1');
  const plain = safetensors({ w: f32(0, 4) }, Buffer.alloc(4));
  test.each<[string, Buffer, RegExp]>([
    ['model.safetensors', zip, /expected a safetensors file, received one of PyTorch: name it pytorch_model\.bin/],
    ['model.safetensors', Buffer.from('GGUF\x03\0\0\0\0\0\0\0'), /received one of GGUF: name it model\.gguf/],
    ['model.safetensors', Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]), /received one of gzip: unpack it/],
    ['pytorch_model.bin', plain, /expected a PyTorch file, received one of safetensors: name it model\.safetensors/],
    ['model.gguf', plain, /expected a GGUF file, received one of safetensors/],
  ])('%s', async (name, bytes, message) => {
    await expectRefused(openCheckpoint(folders.put({ [name]: bytes })), name, message);
  });

  test('white space before the header is allowed, as everywhere', async () => {
    const header = Buffer.from(`  \n${JSON.stringify({ w: f32(0, 4) })}`);
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    const folder = folders.put({ 'model.safetensors': Buffer.concat([length, header, Buffer.alloc(4)]) });
    expect([...(await openCheckpoint(folder)).tensors.keys()]).toEqual(['w']);
  });
});
