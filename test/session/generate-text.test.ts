// Text that streams beside the tokens: whatever is held back as the start of a stop text comes out at the end.
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type GenerateOptions, loadModel, type Model } from 'statespace';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { modelCase } from '../support/golden.js';

const folder = mkdtempSync(join(tmpdir(), 'statespace-'));
let model: Model;

beforeAll(async () => {
  cpSync(modelCase('mamba_hf').folder, folder, { recursive: true });
  const vocab = Object.fromEntries(Array.from({ length: 96 }, (_, i) => [`w${i}`, i]));
  const tokenizer = {
    version: '1.0',
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: { type: 'Whitespace' },
    post_processor: null,
    decoder: null,
    model: { type: 'WordLevel', vocab, unk_token: 'w0' },
  };
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
  model = await loadModel(folder);
});
afterAll(async () => {
  await model.dispose();
  rmSync(folder, { recursive: true });
});

async function generate(options: GenerateOptions): Promise<{ text: string; ids: number[] }> {
  let text = '';
  const ids: number[] = [];
  for await (const part of model.createSession().generate({ prompt: 'w1 w2 w3', maxTokens: 8, ...options })) {
    ids.push(part.token);
    text += part.text;
  }
  return { text, ids };
}

test('encodes and decodes by the folder`s tokenizer', () => {
  expect([...model.tokenizer!.encode('w5 w17')]).toEqual([5, 17]);
  expect(model.tokenizer!.decode([5, 17])).toBe('w5 w17');
});

test('the parts are the text of the tokens, also where the end could have become a stop', async () => {
  const plain = await generate({});
  expect(`w1 w2 w3${plain.text}`).toBe(model.tokenizer!.decode([1, 2, 3, ...plain.ids]));
  const end = plain.text.slice(-4);
  expect(await generate({ stop: [`${end} and more`] })).toEqual(plain);
  const last = plain.ids.at(-1)!;
  const before = plain.ids.slice(0, plain.ids.indexOf(last));
  const text = ` ${model.tokenizer!.decode(before)}`;
  expect(await generate({ stop: [last, `${text.slice(-3)} and more`] })).toEqual({ text, ids: before });
});

test('a stop text ends the stream, and is no part of it', async () => {
  const plain = await generate({});
  const words = plain.text.split(' ');
  const { text } = await generate({ stop: [` ${words[3]} `] });
  expect(text).toBe(plain.text.slice(0, plain.text.indexOf(` ${words[3]} `)));
});
