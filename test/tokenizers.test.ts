// Tokenizers out of GGUF files give llama.cpp's ids, with and without marks and special tokens, and its bytes back.
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { expect, test } from 'vitest';
import { readGguf } from '../dist/lib/checkpoint/gguf/container.js';
import { readTokenizer } from '../dist/lib/checkpoint/gguf/tokenizer.js';
import { corpusFiles, corpusFolder, wholeCorpus } from './support/gguf.js';

if (!wholeCorpus) console.log('../shared/golden is not here: three vocabularies of five');

interface Case {
  text: string;
  plain: number[];
  add_special: number[];
  parse_special: number[];
  both: number[];
  detok_plain_hex: string;
  detok_parse_special_hex: string;
}

const folder = corpusFolder('vocab')!;
const expected = new Map(
  corpusFiles(folder, '.expected.json').map((file) => [basename(file, '.expected.json'), file] as const),
);

test.each(corpusFiles(folder, '.gguf').map((file) => [basename(file, '.gguf'), file] as const))(
  '%s',
  async (name, file) => {
    const tokenizer = (await readTokenizer((await readGguf(file)).metadata))!;
    const { strings } = JSON.parse(readFileSync(expected.get(name)!, 'utf8')) as { strings: Case[] };
    expect(strings.length).toBeGreaterThan(20);
    for (const s of strings) {
      const ids = (addSpecialTokens: boolean, allowSpecial: boolean) => [
        ...tokenizer.encode(s.text, { addSpecialTokens, allowSpecial }),
      ];
      const found = {
        ...s,
        plain: ids(false, false),
        add_special: ids(true, false),
        parse_special: ids(false, true),
        both: ids(true, true),
      };
      expect(found).toEqual(s);
      expect(tokenizer.encode(s.text)).toEqual(Int32Array.from(s.both));
      const hex = (skipSpecialTokens: boolean) =>
        Buffer.from(tokenizer.decode(s.parse_special, { skipSpecialTokens })).toString('hex');
      expect([hex(true), hex(false)]).toEqual([s.detok_plain_hex, s.detok_parse_special_hex]);
    }
  },
);
