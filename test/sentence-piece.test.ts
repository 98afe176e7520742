// tokenizer.model of a folder: the ids of the sentencepiece library, and what the JSON files beside it add.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { StatespaceError } from 'statespace';
import { describe, expect, test } from 'vitest';
import { readGguf } from '../dist/lib/checkpoint/gguf/container.js';
import { readTokenizer } from '../dist/lib/checkpoint/gguf/tokenizer.js';
import { encodeHeader } from '../dist/lib/checkpoint/gguf/write.js';
import { loadTokenizer } from '../dist/lib/models/tokenizer.js';
import { tokenizerPairs } from '../dist/lib/quantize/tokenizer.js';
import { parseSentencePiece } from '../dist/lib/tokenizers/sentence-piece-model.js';
import { expectRefused, scratchFolders } from './support/checkpoint-files.js';
import { goldenRoot } from './support/golden.js';

const folders = scratchFolders();
const golden = join(goldenRoot, 'sentencepiece');
const bytesOf = (name: string) => readFileSync(join(golden, `${name}.model`));
const expected = JSON.parse(readFileSync(join(golden, 'expected.json'), 'utf8')) as Record<
  string,
  { text: string; ids: number[]; decoded: string }[]
>;
const names = Object.keys(expected);
const folderOf = (name: string, files: Record<string, object> = {}) =>
  folders.put({
    'tokenizer.model': bytesOf(name),
    ...Object.fromEntries(Object.entries(files).map(([file, json]) => [file, JSON.stringify(json)])),
  });
const plain = { addSpecialTokens: false, allowSpecial: false };

test.each(names)('%s: ids of the library, and its texts back', async (name) => {
  const tokenizer = (await loadTokenizer(folderOf(name)))!;
  const model = await parseSentencePiece(bytesOf(name), name);
  for (const { text, ids, decoded } of expected[name]!) {
    expect([...tokenizer.encode(text, plain)], JSON.stringify(text)).toEqual(ids);
    if (!ids.includes(model.unknown)) expect(tokenizer.decode(ids), JSON.stringify(text)).toBe(decoded);
  }
  expect(tokenizer.encode('a')).toEqual(tokenizer.encode('a', plain)); // no marks where no JSON file asks for them
});

const token = (content: string, more: object = {}) => ({
  ...{ content, special: false, lstrip: false, rstrip: false, normalized: false, single_word: false },
  ...more,
});

describe('what a folder adds', () => {
  const added = { 420: token('<|user|>', { special: true, rstrip: true }), 425: token('<<plain>>') };
  const settings = { bos_token: '<s>', eos_token: token('</s>'), added_tokens_decoder: added };
  const ids = async (more: object, text: string, options = {}) => [
    ...(await loadTokenizer(folderOf('bpe_llama', { 'tokenizer_config.json': { ...settings, ...more } })))!.encode(
      text,
      options,
    ),
  ];
  const plainly = (text: string) => expected.bpe_llama!.find((c) => c.text === text)!.ids;

  test('marks where they are asked for', async () => {
    const hello = plainly('Hello world');
    expect(await ids({}, 'Hello world')).toEqual(hello);
    expect(await ids({ add_bos_token: true, add_eos_token: true }, 'Hello world')).toEqual([1, ...hello, 2]);
  });

  test('tokens of its own, which take white space along as they say', async () => {
    const [hello] = plainly('Hello world');
    expect(await ids({}, '<|user|>  <<plain>>')).toEqual([420, 425]);
    expect((await ids({}, 'Hello <|user|><<plain>>')).slice(0, 1)).toEqual([hello]);
    expect((await ids({}, '<|user|>', { allowSpecial: false })).includes(420)).toBe(false);
    expect((await ids({}, '<<plain>>', { allowSpecial: false })).at(-1)).toBe(425);
    const tokenizer = (await loadTokenizer(folderOf('bpe_llama', { 'tokenizer_config.json': settings })))!;
    expect(tokenizer.specialToken!('<|user|>')).toBe(420);
    expect(tokenizer.decode([420, 425])).toBe('<<plain>>');
    expect(tokenizer.decode([420, 425], { skipSpecialTokens: false })).toBe('<|user|><<plain>>');
  });

  test('a space in front of all, of each piece, or of none', async () => {
    const [space] = plainly(' ');
    const [first] = await ids({}, 'a</s>a');
    const [, , bare] = await ids({}, 'a</s>a');
    expect(bare).not.toBe(first);
    expect(await ids({ legacy: true }, 'a</s>a')).toEqual([first, 2, first]);
    expect(await ids({ add_prefix_space: false }, 'a</s>a')).toEqual([bare, 2, bare]);
    expect(await ids({ add_prefix_space: false }, ' ')).toEqual([space]);
  });

  test('older files: added_tokens.json and special_tokens_map.json', async () => {
    const folder = folderOf('bpe_llama', {
      'added_tokens.json': { '<|end|>': 421, '<more>': 420 },
      'special_tokens_map.json': { pad_token: '<|end|>', sep_token: { content: '<|sep|>' } },
    });
    const tokenizer = (await loadTokenizer(folder))!;
    expect([...tokenizer.encode('<|end|><more><|sep|>')]).toEqual([421, 420, 422]);
    expect(tokenizer.decode([421, 420, 422])).toBe('<more>');
  });
});

describe('refused', () => {
  test.each<[string, Uint8Array, RegExp]>([
    ['an empty file', Buffer.alloc(0), /empty/],
    ['a text', Buffer.from('no model at all'), /expected a SentencePiece model, received/],
    ['a model cut off', bytesOf('bpe_llama').subarray(0, 3000), /beyond the end/],
    ['no pieces', Buffer.of(0x12, 0), /holds no pieces/],
    ['a piece twice', Buffer.concat([0, 1].map(() => Buffer.of(10, 3, 10, 1, 97))), /"a" stands twice/],
    ['a length of 4 GB', Buffer.of(10, 255, 255, 255, 255, 15), /beyond the end/],
    ['a number without end', Buffer.alloc(12, 0xff), /more than ten bytes/],
    ['a score that is none', Buffer.of(10, 8, 10, 1, 97, 21, 0, 0, 192, 127), /score that is finite/],
    ['a type that is none', Buffer.of(10, 5, 10, 1, 97, 24, 9), /type from 1 to 6, received 9/],
    ['no UTF-8', Buffer.of(10, 4, 10, 2, 0xc3, 0x28), /UTF-8/],
    ['rules that are none', Buffer.of(10, 3, 10, 1, 97, 26, 4, 18, 2, 1, 2), /rules for characters/],
  ])('%s', async (_, bytes, message) => {
    const folder = folders.put({ 'tokenizer.model': bytes });
    await expectRefused(loadTokenizer(folder), 'tokenizer.model', message);
  });

  test('models of words: ERR_UNSUPPORTED_MODEL', async () => {
    const folder = folders.put({ 'tokenizer.model': Buffer.of(10, 3, 10, 1, 97, 18, 2, 24, 3) });
    await expect(loadTokenizer(folder)).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED_MODEL' });
  });

  test('ids of added tokens that would be memory, or are none', async () => {
    for (const id of ['4294967295', '-1', 'x']) {
      const files = { 'tokenizer_config.json': { added_tokens_decoder: { [id]: token('<x>') } } };
      await expectRefused(loadTokenizer(folderOf('bpe_llama', files)), '<x>', /expected an id from 0 to/);
    }
  });

  test('every damaged byte gives an error with a code, or a tokenizer', async () => {
    const bytes = bytesOf('unigram');
    for (let i = 0; i < bytes.length; i += 13) {
      const damaged = Buffer.from(bytes);
      damaged[i]! ^= 1 << (i % 8);
      const tokenizer = await loadTokenizer(folders.put({ 'tokenizer.model': damaged })).catch((error) => error);
      if (tokenizer instanceof Error) expect(tokenizer).toBeInstanceOf(StatespaceError);
      else for (const text of ['Hello ① world', 'ﬁne\t<sep>']) tokenizer.decode(tokenizer.encode(text));
    }
  });
});

test('tiktoken’s file of the same name is none of SentencePiece’s', async () => {
  expect(await loadTokenizer(folders.put({ 'tokenizer.model': 'IQ== 0\nIg== 1\n' }))).toBeUndefined();
});

describe('in a GGUF file', () => {
  const written = async (name: string, rows: number, files: Record<string, object> = {}) => {
    const folder = folderOf(name, files);
    const { pairs, notes } = await tokenizerPairs(folder, rows, { config: {} } as never);
    const out = join(folder, 'tokenizer.gguf');
    writeFileSync(out, encodeHeader(pairs, []));
    const { metadata } = await readGguf(out);
    return { metadata, notes, tokenizer: (await readTokenizer(metadata))! };
  };
  const isSpecial = (text: string) => /<s>|<\/s>|<unk>|<sep>|==>|<ctl>/.test(text);

  test.each(['bpe_llama', 'bpe_gemma', 'unigram', 'unigram_bytes'])(
    '%s: the same ids of texts without special tokens',
    async (name) => {
      const { tokenizer, metadata, notes } = await written(name, 448);
      const elsewhere =
        'llama.cpp: characters that no token has are the unknown token, as its unigram models pass over tokens of bytes';
      expect(notes).toEqual(name === 'unigram_bytes' ? [elsewhere] : []);
      expect(metadata.value('tokenizer.ggml.model')).toBe(name.startsWith('unigram') ? 't5' : 'llama');
      for (const { text, ids } of expected[name]!)
        if (!isSpecial(text)) expect([...tokenizer.encode(text, plain)], JSON.stringify(text)).toEqual(ids);
    },
  );

  test('pieces, scores and types are those of the model; added tokens and rows without one as llama.cpp’s converter has them', async () => {
    const model = await parseSentencePiece(bytesOf('bpe_llama'), '');
    const config = {
      bos_token: '<s>',
      add_bos_token: true,
      added_tokens_decoder: { 422: token('<|user|>', { special: true }) },
    };
    const { metadata } = await written('bpe_llama', 430, { 'tokenizer_config.json': config });
    const [tokens, types, scores] = ['tokens', 'token_type', 'scores'].map(
      (key) => metadata.array(`tokenizer.ggml.${key}`)!,
    );
    for (const [id, piece] of model.pieces.entries()) {
      expect(types!.numberAt(id)).toBe(piece.kind);
      expect(scores!.numberAt(id)).toBeCloseTo(piece.score, 5);
    }
    const texts = tokens!.texts();
    expect(texts.slice(0, model.pieces.length)).toEqual(model.pieces.map((p) => p.text));
    expect([texts[422], types!.numberAt(422), scores!.numberAt(422)]).toEqual(['<|user|>', 3, -1000]);
    expect([texts[429], types!.numberAt(429), scores!.numberAt(429)]).toEqual(['[PAD429]', 5, -10000]);
    const ids = ['bos', 'eos', 'unknown'].map((name) => metadata.count(`tokenizer.ggml.${name}_token_id`));
    expect(ids).toEqual([1, 2, 0]);
    expect(metadata.boolean('tokenizer.ggml.add_bos_token')).toBe(true);
  });

  test('of a tokenizer.json with a unigram model', async () => {
    const { pieces, charsmap, unknown } = await parseSentencePiece(bytesOf('unigram'), '');
    const rules = { type: 'Precompiled', precompiled_charsmap: Buffer.from(charsmap).toString('base64') };
    const merged = { type: 'Replace', pattern: { Regex: ' {2,}' }, content: ' ' };
    const definition = {
      version: '1.0',
      added_tokens: [1, 2].map((id) => ({ id, ...token(pieces[id]!.text, { special: true }) })),
      normalizer: { type: 'Sequence', normalizers: [rules, merged] },
      pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: false },
      decoder: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: false },
      post_processor: null,
      model: { type: 'Unigram', unk_id: unknown, vocab: pieces.map((p) => [p.text, p.score]), byte_fallback: false },
    };
    const folder = folders.put({ 'tokenizer.json': JSON.stringify(definition) });
    const { pairs } = await tokenizerPairs(folder, 140, { config: {} } as never);
    const out = join(folder, 'tokenizer.gguf');
    writeFileSync(out, encodeHeader(pairs, []));
    const { metadata } = await readGguf(out);
    const tokenizer = (await readTokenizer(metadata))!;
    expect(metadata.value('tokenizer.ggml.model')).toBe('t5');
    for (const { text, ids } of expected.unigram!)
      if (!isSpecial(text)) expect([...tokenizer.encode(text, plain)], JSON.stringify(text)).toEqual(ids);
    const damaged = { ...definition, model: { ...definition.model, vocab: [['a']] } };
    const wrong = folders.put({ 'tokenizer.json': JSON.stringify(damaged) });
    await expectRefused(tokenizerPairs(wrong, 140, { config: {} } as never), 'tokenizer.json', /a text and a score/);
  });

  test('what llama.cpp makes otherwise of it is said', async () => {
    const { notes } = await written('bpe_own', 160);
    expect(notes.join()).toMatch(/no tokens of bytes.*gives other ids/s);
  });
});
