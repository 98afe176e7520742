// A small model whose tokens are words, with a chat template; what it says is the same every time.
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadModel, type Model } from 'statespace';
import { afterAll, beforeAll } from 'vitest';
import { modelCase } from './golden.js';

const TEMPLATE =
  "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} <end> {% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";

/**
 * A folder with a golden model, a tokenizer of words (w10 … w95, roles, punctuation of JSON) and a chat template.
 * `ends: false`: no token ends a text.
 */
export function textModelFolder({ name = 'mamba_hf', ends = true } = {}): string {
  const folder = mkdtempSync(join(tmpdir(), 'statespace-text-'));
  cpSync(modelCase(name).folder, folder, { recursive: true });
  const words = ['<unk>', '<end>', '<user>', '<assistant>', '<system>', '<tool>', 'hello', 'world', 'one', 'two'];
  const { vocab_size } = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
  const vocab = Object.fromEntries(Array.from({ length: vocab_size }, (_, i) => [words[i] ?? `w${i}`, i]));
  const special = (content: string) => {
    return { id: vocab[content]!, content, special: true, ...PLAIN };
  };
  const tokenizer = {
    ...{ version: '1.0', normalizer: null, post_processor: null, decoder: null },
    pre_tokenizer: { type: 'WhitespaceSplit' },
    added_tokens: words.slice(1, 6).map(special),
    model: { type: 'WordLevel', vocab, unk_token: '<unk>' },
  };
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
  writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify({ chat_template: TEMPLATE }));
  writeFileSync(join(folder, 'generation_config.json'), JSON.stringify({ eos_token_id: ends ? 1 : [] }));
  return folder;
}

const PLAIN = { single_word: false, lstrip: false, rstrip: false, normalized: false };

/**
 * The same model with a token for each printable character of ASCII, and one that ends a text: it writes anything, and what
 * it writes by itself is noise.
 */
export function asciiModelFolder(): string {
  const folder = textModelFolder();
  const printable = Array.from({ length: 95 }, (_, i) => (i === 0 ? 'Ġ' : String.fromCharCode(32 + i)));
  const tokenizer = {
    ...{ version: '1.0', normalizer: null, post_processor: null, decoder: { type: 'ByteLevel' } },
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
    added_tokens: [{ id: ASCII_END, content: '<end>', special: true, ...PLAIN }],
    model: { type: 'BPE', vocab: Object.fromEntries(printable.map((c, i) => [c, i])), merges: [] },
  };
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
  writeFileSync(join(folder, 'generation_config.json'), JSON.stringify({ eos_token_id: ASCII_END }));
  return folder;
}

/** Its token that ends a text. */
export const ASCII_END = 95;

/** The model of a folder, loaded before the tests of a file; both go after them. */
export function forAllTests(folder: string): { model: Model } {
  const held = {} as { model: Model };
  beforeAll(async () => {
    held.model = await loadModel(folder);
  });
  afterAll(async () => {
    await held.model.dispose();
    rmSync(folder, { recursive: true });
  });
  return held;
}
