// The model in the package: the one that the docs name, small enough, at work at once.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { loadModel } from 'statespace';
import { expect, test } from 'vitest';
import { run } from '../support/process.js';

const root = resolve(__dirname, '../..');
const folder = join(root, 'models/austen');
const main = join(root, 'dist/lib/cli/main.js');

test('is the one whose hash docs/training.md names, of 4 MB at most', () => {
  const hash = createHash('sha256')
    .update(readFileSync(join(folder, 'model.safetensors')))
    .digest('hex');
  expect(readFileSync(join(root, 'docs/training.md'), 'utf8')).toContain(hash);
  const bytes = readdirSync(folder).reduce((n, name) => n + statSync(join(folder, name)).size, 0);
  expect(bytes).toBeLessThanOrEqual(4e6);
});

test('writes words of its text, the same for a seed, without an argument', async () => {
  const args = ['generate', '--seed', '1', '--quiet'];
  const [first, second] = await Promise.all([
    run(process.execPath, [main, ...args]),
    run(process.execPath, [main, ...args]),
  ]);
  expect([first.code, first.stderr]).toEqual([0, '']);
  expect(second.stdout).toBe(first.stdout);
  expect(first.stdout).toMatch(/^She had never /);
  const common = new Set(
    'the to and of a her was in it she not be that had as he for i with you his is have at'.split(' '),
  );
  const words = first.stdout.toLowerCase().match(/[a-z]+/g)!;
  expect(words.length).toBeGreaterThan(60);
  expect(words.filter((word) => common.has(word)).length / words.length).toBeGreaterThan(0.25);
});

test('reads what it writes: bits a token of English are far below chance', async () => {
  await using model = await loadModel(folder, { device: 'cpu' });
  const text =
    'It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife.';
  const ids = model.tokenizer!.encode(text);
  expect(model.tokenizer!.decode(ids)).toBe(text);
  const session = model.createSession();
  const logits = (await session.forward(ids, { logits: 'all' })).toFloat32Array();
  let bits = 0;
  for (let t = 0; t + 1 < ids.length; t++) {
    const row = logits.subarray(t * model.vocabSize, (t + 1) * model.vocabSize);
    const top = Math.max(...row);
    const lse = top + Math.log(row.reduce((sum, v) => sum + Math.exp(v - top), 0));
    bits += (lse - row[ids[t + 1]!]!) / Math.LN2;
  }
  expect(bits / (ids.length - 1)).toBeLessThan(0.6 * Math.log2(model.vocabSize));
});
