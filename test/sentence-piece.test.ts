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
