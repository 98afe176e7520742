// The container: what a GGUF file holds is where it says, and a file that lies is refused by its name and for its reason.
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { loadModel } from 'statespace';
import { describe, expect, test } from 'vitest';
import { characterOf } from '../../dist/lib/checkpoint/gguf/byte-alphabet.js';
import { readGguf } from '../../dist/lib/checkpoint/gguf/container.js';
import { openCheckpoint, readTensorF32 } from '../../dist/lib/checkpoint/open.js';
import { byName, expectRefused, scratchFolders } from '../support/checkpoint-files.js';
import { corpusFolder, type FileSpec, f32s, gguf, text, u32, u64, type Value, wholeCorpus } from '../support/gguf.js';
import { needs } from '../support/needs.js';
import { succeed } from '../support/process.js';

const folders = scratchFolders();
const put = (bytes: Uint8Array, name = 'model.gguf') => join(folders.put({ [name]: bytes }), name);
const tensor = (overrides: object = {}) => ({
  name: 'w',
  shape: [2, 3],
  type: 0,
  data: f32s(1, 2, 3, 4, 5, 6),
  ...overrides,
});

test.each([2, 3])('version %i: pairs of every type, and tensors of every type without blocks', async (version) => {
  const big = 2 ** 53 - 1;
  const pairs: [string, Value][] = [
    ['u8', ['u8', 200]],
    ['i8', ['i8', -3]],
    ['u16', ['u16', 60000]],
    ['i16', ['i16', -300]],
    ['u32', ['u32', 4e9]],
    ['i32', ['i32', -4]],
    ['f32', ['f32', 1e-5]],
    ['bool', ['bool', 1]],
    ['string', ['string', 'Ġ ✓']],
    ['u64', ['u64', big]],
    ['i64', ['i64', -big]],
    ['f64', ['f64', 0.1]],
    ['numbers', ['array', ['i32', [1, -2, 3]]]],
    ['texts', ['array', ['string', ['a', '', '🙂']]]],
    [
      'nested',
      [
        'array',
        [
          'array',
          [
            ['u8', [1]],
            ['string', ['x']],
          ],
        ],
      ],
    ],
  ];
  const data = Buffer.alloc(16);
  data.writeBigInt64LE(-7n, 0);
  data.writeBigInt64LE(9n, 8);
  const tensors = [
    tensor(),
    { name: 'f16', shape: [1], type: 1, data: Buffer.from([0, 0x3e]) },
    { name: 'bf16', shape: [1], type: 30, data: Buffer.from([0xc0, 0x3f]) },
    { name: 'f64', shape: [1], type: 28, data: new Uint8Array(Float64Array.of(-0.25).buffer) },
    { name: 'i64', shape: [2], type: 27, data },
    { name: 'i32', shape: [1], type: 26, data: new Uint8Array(Int32Array.of(-8).buffer) },
    { name: 'i16', shape: [1], type: 25, data: new Uint8Array(Int16Array.of(-9).buffer) },
    { name: 'i8', shape: [3], type: 24, data: Buffer.from([255, 0, 1]) },
  ];
  const file = put(gguf({ version, pairs, tensors }));
  const { metadata, tensors: found, ...rest } = await readGguf(file);
  expect(rest.version).toBe(version);
  const scalar = (key: string) => metadata.value(key);
  expect(['u8', 'i8', 'u16', 'i16', 'u32', 'i32', 'f32', 'bool', 'string', 'f64'].map(scalar)).toEqual([
    ...[200, -3, 60000, -300, 4e9, -4, 1e-5, true, 'Ġ ✓', 0.1],
  ]);
  expect([metadata.count('u64'), metadata.number('i64')]).toEqual([big, -big]);
  expect(metadata.array('numbers')!.numbers()).toEqual([1, -2, 3]);
  expect(metadata.array('texts')!.texts()).toEqual(['a', '', '🙂']);
  expect(metadata.array('nested')).toMatchObject({ type: 'array', length: 2 });
  const values: Record<string, number[]> = {};
  for (const t of found) values[t.name] = [...(await readTensorF32(t))];
  expect(values).toEqual({
    w: [1, 2, 3, 4, 5, 6],
    f16: [1.5],
    bf16: [1.5],
    f64: [-0.25],
    i64: [-7, 9],
    i32: [-8],
    i16: [-9],
    i8: [-1, 0, 1],
  });
  expect(byName(found).w).toMatchObject({ dtype: 'f32', shape: [2, 3], file });
});

test('tensors lie at multiples of general.alignment, and bytes behind the last one are nobody’s', async () => {
  const pairs: [string, Value][] = [['general.alignment', ['u32', 128]]];
  const bytes = gguf({
    alignment: 128,
    pairs,
    tensors: [tensor(), tensor({ name: 'v', data: f32s(6, 5, 4, 3, 2, 1) })],
  });
  const { tensors } = await readGguf(put(Buffer.concat([bytes, Buffer.alloc(99)])));
  expect(tensors.map((t) => t.offset % 128)).toEqual([0, 0]);
  expect([...(await readTensorF32(tensors[1]!))]).toEqual([6, 5, 4, 3, 2, 1]);
});

describe('refused, naming the file', () => {
  const lying = (spec: FileSpec) => gguf({ tensors: [tensor()], ...spec });
  const one = (overrides: object) => gguf({ tensors: [tensor(overrides)] });
  const pair = (value: Value) => gguf({ pairs: [['k', value]] });
  const raw = (...parts: Buffer[]) =>
    Buffer.concat([Buffer.from('GGUF'), u32(3), u64(0), u64(1), text('k'), ...parts, Buffer.alloc(64)]);
  const alignment = (n: number) => lying({ pairs: [['general.alignment', ['u32', n]]] });
  test.each<[string, Buffer, RegExp]>([
    ['an empty file', Buffer.alloc(0), /empty/],
    ['another magic', lying({ magic: 'GGML' }), /begins with "GGUF", received "GGML"/],
    ['version 1', lying({ version: 1 }), /version 2 or 3, received 1/],
    ['version 4', lying({ version: 4 }), /received 4/],
    ['the other byte order', lying({ version: 0x03000000 }), /big-endian/],
    ['a header cut off', lying({}).subarray(0, 20), /tensor count: 1 is more than the rest/],
    [
      '2^60 pairs',
      lying({ pairCount: 2n ** 60n }),
      /metadata count: expected less than 2\^53, received 1152921504606846976/,
    ],
    ['2^50 pairs', lying({ pairCount: 2n ** 50n }), /metadata count: 1125899906842624 is more than the rest/],
    ['2^50 tensors', lying({ tensorCount: 2n ** 50n }), /tensor count: .* more than the rest/],
    [
      'a key of 2^40 bytes',
      Buffer.concat([gguf({}).subarray(0, 16), u64(1), text('', 2 ** 40), u64(0)]),
      /at most 65535 bytes/,
    ],
    ['a value of a type that is none', raw(u32(13)), /metadata "k": expected a type from 0 to 12, received 13/],
    ['a string of 2^40 bytes', raw(u32(8), u64(2 ** 40)), /metadata "k": expected 1099511627776 bytes/],
    ['an array of 2^40 strings', raw(u32(9), u32(8), u64(2 ** 40)), /length: 1099511627776 is more than the rest/],
    ['an array of 2^40 bytes', raw(u32(9), u32(0), u64(2 ** 40)), /more than the rest/],
    ['an array whose last string is too long', raw(u32(9), u32(8), u64(2), text('a'), text('', 999)), /"k"\[1\]/],
    ['an array of a type that is none', raw(u32(9), u32(99), u64(0)), /elements of the type 99/],
    [
      'arrays in arrays without end',
      raw(u32(9), ...new Array(9).fill(Buffer.concat([u32(9), u64(1)]))),
      /beyond a depth of 4/,
    ],
    ['a boolean of 2', pair(['bool', 2]), /expected 0 or 1/],
    ['no UTF-8', pair(['string', Buffer.of(0xc3, 0x28) as unknown as string]), /UTF-8/],
    [
      'a key twice',
      gguf({
        pairs: [
          ['k', ['u8', 1]],
          ['k', ['u8', 2]],
        ],
      }),
      /metadata "k" stands twice/,
    ],
    ['a tensor twice', gguf({ tensors: [tensor(), tensor()] }), /tensor "w" stands twice/],
    ['an alignment of 0', alignment(0), /power of two/],
    ['an alignment of 48', alignment(48), /received 48/],
    ['an alignment of 2^31', alignment(2 ** 31), /power of two/],
    ['rank 0', one({ shape: [] }), /expected 1 to 4 dimensions, received 0/],
    ['rank 5', one({ shape: [1, 1, 1, 2, 3] }), /received 5/],
    ['a size of 2^63', one({ shape: [2n ** 63n] }), /dimension 0: expected less than 2\^53/],
    ['sizes whose product is too large', one({ shape: [2 ** 40, 2 ** 40, 4] }), /"w": expected \d.* bytes at 0 within/],
    ['a type that is not known', one({ type: 99 }), /is of type 99, which is not known/],
    ['a type that was removed', one({ type: 4 }), /is of type 4, which the format no longer has/],
    [
      'rows that are no whole blocks',
      one({ type: 12, shape: [2, 128] }),
      /q4_k holds blocks of 256 values, received rows of 128/,
    ],
    ['an offset that is not aligned', one({ offset: 8 }), /expected an offset that is a multiple of 32, received 8/],
    ['an offset beyond the file', one({ offset: 32 * 1024 }), /expected 24 bytes at 32768 within the 32 bytes/],
    ['an offset of 2^63', one({ offset: 2n ** 63n }), /offset: expected less than 2\^53/],
    ['data cut off', one({}).subarray(0, -16), /truncated/],
    ['tensors over each other', gguf({ tensors: [tensor(), tensor({ name: 'v', offset: 0 })] }), /"v": overlaps/],
    ['a Git LFS pointer', Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:0\n'), /Git LFS pointer/],
  ])('%s', async (_, bytes, message) => {
    const file = put(bytes);
    await expectRefused(readGguf(file), file, message);
  });
});

describe('as a model', () => {
  const model = (pairs: [string, Value][]) => put(gguf({ pairs, tensors: [tensor({ name: 'token_embd.weight' })] }));
  test('ERR_UNSUPPORTED_MODEL for an architecture that is not read', async () => {
    await expect(loadModel(model([['general.architecture', ['string', 'gemma9']]]))).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED_MODEL',
      message: expect.stringMatching(/"gemma9" is not supported; supported: .*mamba/),
    });
  });
  test.each<[string, [string, Value][], RegExp]>([
    ['no architecture', [], /general.architecture is missing/],
    ['an adapter', [['general.type', ['string', 'adapter']]], /expected a model, received "adapter"/],
    ['no sizes', [['general.architecture', ['string', 'mamba']]], /mamba.block_count is missing/],
    [
      'a size that is text',
      [
        ['general.architecture', ['string', 'mamba']],
        ['mamba.block_count', ['string', '2']],
      ],
      /mamba.block_count: expected a whole number from 0 on, received "2"/,
    ],
    [
      'more layers than tensors',
      [
        ['general.architecture', ['string', 'mamba']],
        ['mamba.block_count', ['u32', 9000]],
      ],
      /9000 layers of 1 tensors/,
    ],
  ])('refuses %s', async (_, pairs, message) => {
    const file = model(pairs);
    await expectRefused(loadModel(file), file, message);
  });
  const llama = (more: [string, Value][]): [string, Value][] => [
    ['general.architecture', ['string', 'llama']],
    ['llama.block_count', ['u32', 1]],
    ['llama.embedding_length', ['u32', 32]],
    ['llama.feed_forward_length', ['u32', 64]],
    ['llama.attention.head_count', ['u32', 4]],
    ['llama.attention.layer_norm_rms_epsilon', ['f32', 1e-5]],
    ['llama.context_length', ['u32', 64]],
    ...more,
  ];
  const numbers: [string, Value][] = [
    ['rope.freq_base', ['f32', 0]],
    ['rope.freq_base', ['f32', -1]],
    ['rope.freq_base', ['f32', Infinity]],
    ['rope.freq_base', ['f32', Number.NaN]],
    ['attention.layer_norm_rms_epsilon', ['f32', -1e-5]],
    ['attention.layer_norm_rms_epsilon', ['f32', Infinity]],
  ];
  test.each(numbers)('refuses the number %s %j', async (name, value) => {
    const pairs = llama([]).filter(([key]) => key !== `llama.${name}`);
    const file = model([...pairs, [`llama.${name}`, value]]);
    await expectRefused(loadModel(file), file, new RegExp(`llama.${name}: expected a .*number.*, received`));
  });
  // What llama.cpp 0.5.0 computes of a Llama with these keys: the same log-probabilities within 2e-6 (60 tokens).
  const type = (name: string): [string, Value] => ['rope.scaling.type', ['string', name]];
  const f = (key: string, x: number): [string, Value] => [`rope.${key}`, ['f32', x]];
  const yarn = [type('yarn'), f('scaling.factor', 4)];
  const grown = 0.1 * Math.log(4) + 1;
  test.each<[string, [string, Value][], Record<string, unknown>]>([
    ['a factor alone', [f('scaling.factor', 4)], { rope_type: 'linear', factor: 4 }],
    ['the older key', [f('scale_linear', 4)], { rope_type: 'linear', factor: 4 }],
    ['linear without a factor', [type('linear')], { rope_type: 'default' }],
    ['none with a factor', [type('none'), f('scaling.factor', 4)], { rope_type: 'default' }],
    ['yarn', yarn, { rope_type: 'yarn', factor: 4, attention_factor: undefined }],
    ['yarn grown', [...yarn, f('scaling.attn_factor', 2)], { rope_type: 'yarn', attention_factor: 2 * grown }],
    ['yarn, not grown', [...yarn, f('scaling.attn_factor', 1)], { rope_type: 'yarn', attention_factor: undefined }],
    ['yarn with a factor of its own', [...yarn, f('scaling.yarn_attn_factor', 1.5)], { attention_factor: 1.5 }],
    ['what says nothing', [...yarn, f('scaling.yarn_ext_factor', -1), f('scaling.yarn_log_multiplier', 0)], {}],
    ['bounds', [...yarn, f('scaling.yarn_beta_slow', 0.5)], { beta_slow: 0.5 }],
  ])('rotations: %s', async (_, more, wanted) => {
    const named = more.map(([key, value]): [string, Value] => [`llama.${key}`, value]);
    const { config } = await openCheckpoint(model(llama(named)));
    const { attention_factor, ...said } = config!.rope_parameters as Record<string, unknown>;
    expect({ ...said, attention_factor }).toMatchObject(wanted);
  });
  test.each<[[string, Value][], RegExp]>([
    [[f('scaling.attn_factor', 2)], /attn_factor: expected 1 without yarn or factors by length, received 2/],
    [[type('linear'), f('scaling.attn_factor', 2)], /attn_factor: expected 1 without yarn/],
    [[...yarn, f('scaling.yarn_ext_factor', 0.5)], /yarn_ext_factor: 0.5 is not supported/],
    [[...yarn, f('scaling.yarn_log_multiplier', 0.1)], /yarn_log_multiplier: 0.1\d* is not supported/],
    [[...yarn, f('scaling.attn_factor', 0)], /attn_factor: expected a number above 0/],
    [[type('longrope')], /expected none, linear or yarn, received "longrope"/],
  ])('refuses rotations that it does not know: %j', async (more, message) => {
    const file = model(llama(more.map(([key, value]): [string, Value] => [`llama.${key}`, value])));
    await expectRefused(loadModel(file), file, message);
  });
  test('what is wrong with a config names the file', async () => {
    const file = model(llama([['statespace.config', ['string', JSON.stringify({ speling: 7 })]]]));
    await expect(loadModel(file)).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED_MODEL',
      message: `${file}: config (llama): unknown key speling`,
    });
  });
  test('a missing file is said to be missing', async () => {
    await expectRefused(loadModel('/nowhere/model.gguf'), '/nowhere/model.gguf', /ENOENT/);
  });
});

describe('split files', () => {
  const part = (no: number, count: number, name: string, total = 2) =>
    gguf({
      pairs: [
        ['split.no', ['u16', no]],
        ['split.count', ['u16', count]],
        ['split.tensors.count', ['i32', total]],
      ],
      tensors: [tensor({ name, data: f32s(no, 0, 0, 0, 0, 0) })],
    });
  const names = ['m-00001-of-00002.gguf', 'm-00002-of-00002.gguf'] as const;
  const split = (files: Record<string, Buffer>) => folders.put(files);

  test('are one model, given by the first or by their folder', async () => {
    const folder = split({ [names[0]]: part(0, 2, 'a'), [names[1]]: part(1, 2, 'b') });
    const { tensors } = await readGguf(join(folder, names[0]));
    expect(tensors.map((t) => t.name)).toEqual(['a', 'b']);
    expect((await readTensorF32(tensors[1]!))[0]).toBe(1);
    await expect(openCheckpoint(folder)).rejects.toThrow(
      /00001-of-00002.gguf: metadata general.architecture is missing/,
    );
  });
  test.each([
    ['the standard one, as gguf-split does', 32],
    ['that of the first, as gguf-py does', 64],
  ])('parts that do not say their alignment have %s', async (_, alignment) => {
    const said: [string, Value] = ['general.alignment', ['u32', 64]];
    const of = (no: number, pairs: [string, Value][], name: string, alignment: number) =>
      gguf({
        alignment,
        pairs: [['split.no', ['u16', no]], ['split.count', ['u16', 2]], ...pairs],
        // Of 64 bytes, so that offsets do not tell; names of a length at which the header's end does matter.
        tensors: [`${name}1`, `${name}2`].map((t, i) => ({ name: t, shape: [16], type: 0, data: filled(10 * no + i) })),
      });
    const filled = (n: number) => f32s(...new Array<number>(16).fill(n));
    const starts = new Set<number>();
    for (const name of ['b', 'b'.repeat(20), 'b'.repeat(40)]) {
      const second = of(1, [], name, alignment);
      starts.add(second.length % 64);
      const folder = split({ [names[0]]: of(0, [said], 'a', 64), [names[1]]: second });
      const { tensors } = await readGguf(join(folder, names[0]));
      const values = await Promise.all(tensors.map(async (t) => (await readTensorF32(t))[0]));
      expect(values).toEqual([0, 1, 10, 11]);
    }
    expect(starts.size).toBe(alignment === 32 ? 2 : 1);
  });
  test.each<[string, Record<string, Buffer>, string, RegExp]>([
    [
      'a part that is missing',
      { [names[0]]: part(0, 2, 'a') },
      names[0],
      /00002-of-00002.gguf: part 2 of 2 is missing/,
    ],
    [
      'another part in its place',
      { [names[0]]: part(0, 2, 'a'), [names[1]]: part(0, 2, 'b') },
      names[0],
      /expected split.no 1/,
    ],
    [
      'another split',
      { [names[0]]: part(0, 2, 'a'), [names[1]]: part(1, 3, 'b') },
      names[0],
      /split.count 2, received 1 and 3/,
    ],
    [
      'a part of a model with other tensors',
      { [names[0]]: part(0, 2, 'a'), [names[1]]: part(1, 2, 'b', 3) },
      names[0],
      /00002-of-00002.gguf: is a part of another split: expected split.tensors.count 2 .* received 3/,
    ],
    [
      'parts that lack a tensor',
      { [names[0]]: part(0, 2, 'a', 3), [names[1]]: part(1, 2, 'b', 3) },
      names[0],
      /expected 3 tensors in 2 parts, received 2/,
    ],
    ['a tensor in two parts', { [names[0]]: part(0, 2, 'a'), [names[1]]: part(1, 2, 'a') }, names[0], /stands twice/],
    [
      'a name without numbers',
      { 'm.gguf': part(0, 2, 'a') },
      'm.gguf',
      /expected a name that ends in -00001-of-00002.gguf/,
    ],
    ['the second part', { [names[0]]: part(0, 2, 'a'), [names[1]]: part(1, 2, 'b') }, names[1], /expected the first/],
  ])('refuse %s', async (_, files, name, message) => {
    await expectRefused(readGguf(join(split(files), name)), '.gguf', message);
  });
});

test('a vocabulary of half a million tokens is walked over without holding the event loop', async () => {
  const tokens = Array.from({ length: 500_000 }, (_, i) => `token ${i}`);
  const file = put(gguf({ pairs: [['t', ['array', ['string', tokens]]]], tensors: [tensor()] }));
  let turns = 0;
  const count = setInterval(() => turns++, 0);
  const { metadata } = await readGguf(file);
  clearInterval(count);
  expect(metadata.array('t')!.length).toBe(500_000);
  expect(turns).toBeGreaterThan(3);
});

test('a vocabulary is read into a few tables: of its header and on its way nothing is left to the collector', async () => {
  const letters = Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(characterOf[byte]!));
  const pairs = letters.flatMap((a) => letters.map((b) => [a, b] as const));
  const tokens = [...letters, ...pairs.map(([a, b]) => a + b)];
  const file = put(
    gguf({
      pairs: [
        ['tokenizer.ggml.model', ['string', 'gpt2']],
        ['tokenizer.ggml.pre', ['string', 'gpt-2']],
        ['tokenizer.ggml.tokens', ['array', ['string', tokens]]],
        ['tokenizer.ggml.token_type', ['array', ['i32', tokens.map(() => 1)]]],
        ['tokenizer.ggml.merges', ['array', ['string', pairs.map(([a, b]) => `${a} ${b}`)]]],
      ],
      tensors: [tensor()],
    }),
  );
  const program = `
    const { PerformanceObserver } = require('node:perf_hooks');
    const [, dist, file] = process.argv;
    const { readGguf } = require(dist + '/container.js');
    const { readText } = require(dist + '/text.js');
    let collections = 0;
    new PerformanceObserver((list) => { collections += list.getEntries().length; }).observe({ entryTypes: ['gc'] });
    (async () => {
      const before = process.memoryUsage().arrayBuffers;
      const { metadata } = await readGguf(file);
      const tokenizer = await readText(metadata);
      const bytes = process.memoryUsage().arrayBuffers - before;
      await new Promise((resume) => setTimeout(resume, 20));
      console.log(JSON.stringify({ bytes, collections, ids: [...tokenizer.encode('abcd')] }));
    })();`;
  const dist = resolve(__dirname, '../../dist/lib/checkpoint/gguf');
  const { bytes, collections, ids } = JSON.parse(await succeed(process.execPath, ['-e', program, dist, file]));
  const id = (pair: string) => tokens.indexOf(pair);
  expect(ids).toEqual([id('ab'), id('cd')]);
  // Tokens: texts, 4 bytes where each begins and 8 to find it by; merges: 12, and 8 to find them by.
  expect(bytes).toBeLessThan(50 * tokens.length);
  expect(collections).toBeLessThan(25);
});

test.runIf(needs(wholeCorpus, '../shared/golden'))(
  'the corpus: a split model, another alignment, the other byte order',
  async () => {
    const folder = corpusFolder('container')!;
    const split = await openCheckpoint(join(folder, 'split.f32-00001-of-00004.gguf'));
    const whole = await openCheckpoint(join(folder, '../models/jamba_dense.f16.gguf'));
    expect([...split.tensors.keys()].sort()).toEqual([...whole.tensors.keys()].sort());
    expect(split.config).toEqual(whole.config);
    expect((await readGguf(join(folder, 'align128.f16.gguf'))).tensors.every((t) => t.offset % 128 === 0)).toBe(true);
    await expectRefused(readGguf(join(folder, 'bigendian.f16.gguf')), 'bigendian', /big-endian/);
  },
);

test('a folder that holds one GGUF file and no other weights is that file', async () => {
  const models = corpusFolder('models')!;
  const folder = folders.put({ 'README.md': '' });
  writeFileSync(join(folder, 'some.gguf'), readFileSync(join(models, 'llama_rope3.f16.gguf')));
  const { config } = await openCheckpoint(folder);
  expect(config).toMatchObject({ model_type: 'llama', num_hidden_layers: 2, vocab_size: 384 });
});
