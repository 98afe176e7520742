// The tokenizer that `train --vocabulary` learns: read back by the package, and by the rule that it is named after.
import { expect, test } from 'vitest';
import { learnTokenizer } from '../../dist/lib/cli/train/bpe.js';
import { loadTokenizer } from '../../dist/lib/models/tokenizer.js';
import { scratchFolders } from '../support/checkpoint-files.js';

const folders = scratchFolders();

const load = async (files: Record<string, object>) =>
  (await loadTokenizer(
    folders.put(Object.fromEntries(Object.entries(files).map(([name, content]) => [name, JSON.stringify(content)]))),
  ))!;

const vocabularyOf = (files: Record<string, object>) =>
  (files['tokenizer.json'] as { model: { vocab: Record<string, number>; merges: [string, string][] } }).model;

test('the most frequent pair of bytes comes first, of equal ones the smallest, never across pieces', () => {
  const { merges, vocab } = vocabularyOf(learnTokenizer(['low low low lower lower 11 11'], 261));
  // l-o and o-w are there five times each; then lo-w, then Ġ-low four times.
  expect(merges.slice(0, 3)).toEqual([
    ['l', 'o'],
    ['lo', 'w'],
    ['Ġ', 'low'],
  ]);
  expect(Object.keys(vocab).length).toBe(261);
  expect(vocab.lo).toBe(256);
});

test('what it encodes it decodes: digits, other scripts, bytes that it has not met', async () => {
  const text = 'In 1813 the 28th of January, “Pride and Prejudice”, größer, 日本語 … 28 28 28\n\n\ttabs  and spaces ';
  const files = learnTokenizer([text.repeat(3), 'another text'], 400);
  const tokenizer = await load(files);
  for (const each of [text, 'Ωμέγα 🙂 \u0000 007', '']) expect(tokenizer.decode(tokenizer.encode(each))).toBe(each);
  expect(tokenizer.encode(text).length).toBeLessThan(Buffer.byteLength(text) / 2);
  expect(learnTokenizer([text.repeat(3), 'another text'], 400)).toEqual(files);
});

test('a text without pairs that repeat has fewer tokens than it may', () => {
  expect(Object.keys(vocabularyOf(learnTokenizer(['abcdef'], 500)).vocab).length).toBe(256);
});
