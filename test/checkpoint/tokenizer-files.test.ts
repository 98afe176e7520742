// The tokenizer of a GGUF file as the files of a folder: what they are read as gives the file's ids and texts.
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { createModel, loadModel, quantize } from 'statespace';
import { describe, expect, test } from 'vitest';
import { readGguf } from '../../dist/lib/checkpoint/gguf/container.js';
import { type Pair, text } from '../../dist/lib/checkpoint/gguf/pairs.js';
import { writeTokenizerFiles } from '../../dist/lib/checkpoint/gguf/saved/files.js';
import { readText } from '../../dist/lib/checkpoint/gguf/text.js';
import { encodeHeader } from '../../dist/lib/checkpoint/gguf/write.js';
import { readSentencePiece } from '../../dist/lib/models/sentence-piece.js';
import { loadTokenizer } from '../../dist/lib/models/tokenizer.js';
import { preTokenizer, preTokenizerNames } from '../../dist/lib/tokenizers/pre-tokenizers.js';
import { scratchFolders } from '../support/checkpoint-files.js';
import { corpusFiles, corpusFolder } from '../support/gguf.js';
import { needs } from '../support/needs.js';

const folders = scratchFolders();
const vocabularies = corpusFiles(corpusFolder('vocab')!, '.gguf');
const corpusTexts = corpusFiles(corpusFolder('vocab')!, '.expected.json').flatMap((file) =>
  (JSON.parse(readFileSync(file, 'utf8')) as { strings: { text: string }[] }).strings.map((s) => s.text),
);
const TEXTS = [
  ...new Set([
    ...corpusTexts,
    ...['', ' ', '   leading', 'trailing   ', '\n\n\n', '  \t \t\n \r\n', 'a<s>b', '</s> x </s>', '▁▁a ▁b', 'Ġhello Ċ'],
    ...[
      '<|endoftext|>hi<|endoftext|> there',
      '<|im_start|>user\nhi<|im_end|>\n',
      'a\u0085\u0085b  c',
      'x \ufeff\ufeffy  \ufeff',
    ],
    ...[
      'q\u2028\u2028r \u200b s',
      '\u00a0\u00a0x\u3000 y',
      '123456789012 3.14159',
      '١٢٣ ४५६ Ⅷ',
      '\u0000\u0001\u007f',
      'e\u0301 é ﬁ Å',
    ],
    ...[
      "don't DON'T 'S 're'Re",
      'a'.repeat(70),
      '\u{1f600}\u{10400}\u{1d49c}',
      'a\tb\u000bc\u000cd',
      'def f(x):\n        return x**2\n',
    ],
  ]),
];

/** Written into a folder, and read again: the same ids and texts. */
async function expectSame(file: string): Promise<string> {
  const folder = folders.put({});
  await writeTokenizerFiles(file, folder);
  const [own, again] = [await readText((await readGguf(file)).metadata), await loadTokenizer(folder)];
  for (const said of TEXTS) {
    const ids = own!.encode(said);
    expect(again!.encode(said), said).toEqual(ids);
    const plain = { addSpecialTokens: false, allowSpecial: false };
    expect(again!.encode(said, plain), said).toEqual(own!.encode(said, plain));
    for (const skipSpecialTokens of [true, false])
      expect(again!.decode(ids, { skipSpecialTokens }), said).toBe(own!.decode(ids, { skipSpecialTokens }));
  }
  writeFileSync(join(folder, 'ids.json'), JSON.stringify(TEXTS.map((said) => [said, [...own!.encode(said)]])));
  return folder;
}

/** The ids that transformers gives, as well: folders with tokenizer.json. */
const python = process.env.STATESPACE_PYTHON;
const PROGRAM = `
import json, sys
from transformers import AutoTokenizer
for folder in sys.argv[1:]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text, ids in json.load(open(folder + '/ids.json')):
        if tokenizer(text)['input_ids'] != ids: sys.exit(f'{folder}: {text!r}: {tokenizer(text)["input_ids"]}, not {ids}')
    print(tokenizer.eos_token)
`;
const written: string[] = [];

/** A file of the first vocabulary with another value. */
async function changed(file: string, values: Record<string, Pair>): Promise<string> {
  const { metadata } = await readGguf(file);
  const pairs = new Map([...metadata.keys()].map((key) => [key, metadata.pair(key)!] as const));
  for (const [key, pair] of Object.entries(values)) pairs.set(key, pair);
  const out = join(folders.put({}), basename(file));
  writeFileSync(out, encodeHeader(pairs, []));
  return out;
}

describe('a vocabulary', () => {
  test.each(vocabularies.map((file) => [basename(file, '.gguf'), file]))('%s', async (name, file) => {
    const folder = await expectSame(file!);
    // The list of the one is cut: it has words, but not the letters that merges would begin with.
    const wanted = { 'vocab-llama-spm': 'tokenizer.model', 'vocab-rwkv-world': 'rwkv_vocab_v20230424.txt' }[name!];
    expect(existsSync(join(folder, wanted ?? 'tokenizer.json'))).toBe(true);
    if (!wanted) written.push(folder);
  });

  const levelled = vocabularies.find((file) => file.includes('llama-bpe'))!;

  const distinct = new Map(preTokenizerNames.map((name) => [preTokenizer(name)!.patterns, name]));
  test.each([...distinct.values()])('cut as %s cuts it', async (name) => {
    written.push(await expectSame(await changed(levelled, { 'tokenizer.ggml.pre': text(name) })));
  });

  test('with a normal form', async () => {
    const form = { 'statespace.tokenizer.normalizer': text('NFC'), 'tokenizer.ggml.pre': text('qwen2') };
    written.push(await expectSame(await changed(levelled, form)));
  });

  test('with templates and marks: what a chat becomes, and where it ends', async () => {
    const own = { 'tokenizer.chat_template.tool_use': text('{{ eos_token }}!') };
    const file = await changed(levelled, own);
    const folder = await expectSame(file);
    const [before, after] = [await readText((await readGguf(file)).metadata), await loadTokenizer(folder)];
    const messages = [{ role: 'user', content: 'hi <|eot_id|>' }];
    expect(after!.encodeChat(messages)).toEqual(before!.encodeChat(messages));
    expect(after!.applyChatTemplate(messages, { tools: [{ name: 'f' }] })).toBe('<|end_of_text|>!');
    const { metadata } = await readGguf(file);
    const ids = JSON.parse(readFileSync(join(folder, 'generation_config.json'), 'utf8'));
    expect(ids.bos_token_id).toBe(metadata.count('tokenizer.ggml.bos_token_id'));
    expect([ids.eos_token_id].flat()[0]).toBe(metadata.count('tokenizer.ggml.eos_token_id'));
  });
});

const spm = join(__dirname, '../golden/sentencepiece');

/** A model with that tokenizer, as a file, and what is saved of the file. */
async function savedWith(model: string, settings: object): Promise<{ file: string; saved: string }> {
  const at = folders.put({});
  const tokenizer = folders.put({ 'tokenizer_config.json': JSON.stringify(settings) });
  copyFileSync(join(spm, model), join(tokenizer, 'tokenizer.model'));
  const rows = (await readSentencePiece(tokenizer))!.pieces.texts.length;
  const sizes = {
    vocab_size: rows,
    hidden_size: 32,
    intermediate_size: 32,
    num_hidden_layers: 1,
    num_attention_heads: 1,
  };
  await using made = await createModel({ model_type: 'llama', ...sizes }, { seed: 1 });
  await made.save(join(at, 'model'));
  for (const name of ['tokenizer.model', 'tokenizer_config.json'])
    copyFileSync(join(tokenizer, name), join(at, 'model', name));
  const file = join(at, 'model.gguf');
  await quantize(join(at, 'model'), file, { type: 'f32' });
  await using loaded = await loadModel(file);
  const saved = join(at, 'saved');
  await loaded.save(saved);
  return { file, saved };
}

test.each([
  ['bpe_llama.model', 'tokenizer.json', { add_bos_token: true, legacy: true }],
  ['bpe_llama.model', 'tokenizer.json', { add_eos_token: true, add_prefix_space: false }],
  ['bpe_own.model', 'tokenizer.json', { add_bos_token: true }],
  ['bpe_gemma.model', 'tokenizer.model', { add_bos_token: true, legacy: true }], // runs of spaces of equal scores
  ['bpe_gemma.model', 'tokenizer.model', { add_prefix_space: false }],
] as const)('SentencePiece: %s is saved as %s, with %j', async (model, name, settings) => {
  const { file, saved } = await savedWith(model, settings);
  const folder = await expectSame(file);
  expect(readFileSync(join(saved, name))).toEqual(readFileSync(join(folder, name)));
  if (name === 'tokenizer.json') written.push(folder);
  await using again = await loadModel(saved);
  await using before = await loadModel(file);
  for (const said of TEXTS) expect(again.tokenizer!.encode(said), said).toEqual(before.tokenizer!.encode(said));
});

const unigrams = ['unigram.model', 'unigram_behind.model', 'unigram_bytes.model'];
test.each(unigrams)('SentencePiece: %s is saved as tokenizer.json', async (model) => {
  const { file, saved } = await savedWith(model, { add_eos_token: true });
  await using again = await loadModel(saved);
  await using before = await loadModel(file);
  for (const said of TEXTS) {
    const ids = before.tokenizer!.encode(said);
    expect(again.tokenizer!.encode(said), said).toEqual(ids);
    expect(again.tokenizer!.decode(ids), said).toBe(before.tokenizer!.decode(ids));
  }
  const { vocab_size } = before.config as { vocab_size: number };
  const idOf = (byte: number) =>
    Array.from({ length: vocab_size }, (_, id) => id).find((id) => {
      const bytes = before.tokenizer!.tokenBytes?.(id);
      return bytes?.length === 1 && bytes[0] === byte;
    });
  const ids = [...Buffer.from('é日')].map(idOf).filter((id) => id !== undefined) as number[];
  expect(ids.length).toBe(model === 'unigram_bytes.model' ? 5 : 0);
  for (const { tokenizer } of [before, again]) expect(tokenizer!.decode(ids)).toBe(ids.length > 0 ? 'é日' : '');
  writeFileSync(
    join(saved, 'ids.json'),
    JSON.stringify(TEXTS.map((said) => [said, [...before.tokenizer!.encode(said)]])),
  );
  written.push(saved);
});

test('a file that is gone when its model is saved: the model is saved, and what is missing is said', async () => {
  const { file } = await savedWith('bpe_llama.model', {});
  const own = join(folders.put({}), 'own.gguf');
  copyFileSync(file, own);
  await using model = await loadModel(own);
  const warned = new Promise<Error>((resolve) => process.once('warning', resolve));
  const to = folders.put({});
  rmSync(own);
  await model.save(join(to, 'saved'));
  expect((await warned).message).toMatch(/^save: the tokenizer is left out: .*own\.gguf/);
  await using again = await loadModel(join(to, 'saved'));
  expect(again.tokenizer).toBeUndefined();
});

test.runIf(needs(python, 'STATESPACE_PYTHON, a Python with transformers and peft'))(
  'transformers gives the same ids',
  () => {
    expect(written.length).toBeGreaterThan(20);
    execFileSync(python!, ['-c', PROGRAM, ...written], { stdio: 'pipe' });
  },
);
