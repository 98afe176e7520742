// Tokenizers out of GGUF files give llama.cpp's ids, with and without marks and special tokens, and its bytes back.
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readGguf } from '../dist/lib/checkpoint/gguf/container.js';
import { readText } from '../dist/lib/checkpoint/gguf/text.js';
import { readTokenizer } from '../dist/lib/checkpoint/gguf/tokenizer.js';
import { loadTokenizer } from '../dist/lib/models/tokenizer.js';
import { cutter, preTokenizer, preTokenizerNames } from '../dist/lib/tokenizers/pre-tokenizers.js';
import { scratchFolders } from './support/checkpoint-files.js';
import { corpusFiles, corpusFolder, text, wholeCorpus } from './support/gguf.js';

if (!wholeCorpus) console.log('../shared/golden is not here: three vocabularies of five');

const folders = scratchFolders();

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

test('spaces are those of Unicode, as llama.cpp 0.5.0 cuts: U+0085 is one, U+FEFF is none', async () => {
  const file = corpusFiles(folder, '.gguf').find((name) => name.includes('llama-bpe'))!;
  const tokenizer = (await readTokenizer((await readGguf(file)).metadata))!;
  const ids = (text: string) => [...tokenizer.encode(text, { addSpecialTokens: false })];
  expect(ids('x \ufeff\ufeffy  \ufeff')).toEqual([87, 220, 3305, 3305, 88, 220, 220, 3305]);
  expect(ids('a\u0085\u0085b  c')).toEqual([64, 126, 227, 126, 227, 65, 220, 272]);
});

test('special tokens of a Phi-3 take the white space behind them along, by its name, as in llama.cpp', async () => {
  const file = corpusFiles(folder, '.gguf').find((name) => name.includes('llama-spm'))!;
  const bytes = readFileSync(file, 'latin1');
  const own = (await readGguf(file)).metadata.string('general.name')!;
  const idsOf = async (name: string, said: string) => {
    const longer = name.padEnd(own.length + 32); // tensors lie at multiples of 32
    const renamed = bytes.replace(text(own).toString('latin1'), text(longer).toString('latin1'));
    const at = folders.put({ 'x.gguf': Buffer.from(renamed, 'latin1') });
    const tokenizer = (await readTokenizer((await readGguf(join(at, 'x.gguf'))).metadata))!;
    return [...tokenizer.encode(said, { addSpecialTokens: false })];
  };
  const [ok, spaced] = [await idsOf('a', 'ok'), await idsOf('a', '\n ok')];
  expect(spaced).not.toEqual(ok);
  for (const name of ['Phi-3-mini-4k-instruct', 'phi3']) {
    expect(await idsOf(name, '</s>\n ok</s>')).toEqual([2, ...ok, 2]);
    expect(await idsOf(name, '<s>\n ok')).toEqual([1, ...spaced]);
  }
  expect(await idsOf('Phi 3 Mini', '</s>\n ok')).toEqual([2, ...spaced]);
});

test('a tokenizer.json: marks and special tokens as asked for', async () => {
  const special = {
    id: 3,
    content: '<s>',
    special: true,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
  };
  const mark = { SpecialToken: { id: '<s>', type_id: 0 } };
  const folder = folders.put({
    'tokenizer.json': JSON.stringify({
      version: '1.0',
      added_tokens: [special],
      normalizer: null,
      pre_tokenizer: null,
      decoder: null,
      post_processor: {
        type: 'TemplateProcessing',
        single: [mark, { Sequence: { id: 'A', type_id: 0 } }, mark],
        pair: [],
        special_tokens: { '<s>': { id: '<s>', ids: [3], tokens: ['<s>'] } },
      },
      model: { type: 'BPE', vocab: { '<': 0, s: 1, '>': 2, a: 4 }, merges: [], unk_token: null, byte_fallback: false },
    }),
  });
  const tokenizer = (await loadTokenizer(folder))!;
  const ids = (addSpecialTokens: boolean, allowSpecial: boolean) => [
    ...tokenizer.encode('s<s>', { addSpecialTokens, allowSpecial }),
  ];
  expect(ids(true, true)).toEqual([3, 1, 3, 3]);
  expect(ids(false, true)).toEqual([1, 3]);
  expect(ids(true, false)).toEqual([3, 1, 0, 1, 2, 3]);
  expect(ids(false, false)).toEqual([1, 0, 1, 2]);
  expect(tokenizer.decode([3, 1], { skipSpecialTokens: false })).toContain('<s>');
});

test('special tokens of an older folder are those of special_tokens_map.json', async () => {
  const files = (config: object) => ({
    'tokenizer.json': JSON.stringify({
      ...{ version: '1.0', added_tokens: [], normalizer: null, pre_tokenizer: null, decoder: null },
      ...{ post_processor: null, model: { type: 'BPE', vocab: { a: 0 }, merges: [], unk_token: null } },
    }),
    'tokenizer_config.json': JSON.stringify({ bos_token: '<old>', chat_template: '{{ bos_token }}', ...config }),
    'special_tokens_map.json': JSON.stringify({ bos_token: { content: '<s>', lstrip: false } }),
  });
  const rendered = async (config: object) =>
    (await loadTokenizer(folders.put(files(config))))!.applyChatTemplate([{ role: 'user', content: '' }]);
  expect(await rendered({})).toBe('<s>');
  expect(await rendered({ added_tokens_decoder: {} })).toBe('<old>');
});

test('what are no ids, and flags of other kinds, are refused, in files of either form', async () => {
  const ascii = JSON.stringify({
    ...{ version: '1.0', added_tokens: [], normalizer: null, pre_tokenizer: null, decoder: null },
    ...{ post_processor: null, model: { type: 'BPE', vocab: { a: 0, b: 1 }, merges: [], unk_token: null } },
  });
  const plain = (await loadTokenizer(folders.put({ 'tokenizer.json': ascii })))!;
  const gguf = (await readText((await readGguf(corpusFiles(folder, '.gguf')[0]!)).metadata))!;
  const code = 'ERR_ARGUMENT';
  for (const tokenizer of [plain, gguf]) {
    for (const ids of ['ab', null, undefined, 5, [-1], [1.5], [NaN], [undefined], ['1'], [2 ** 60]])
      expect(() => tokenizer.decode(ids as never), String(ids)).toThrow(expect.objectContaining({ code }));
    for (const flag of ['skipSpecialTokens', 'addSpecialTokens', 'allowSpecial']) {
      const options = { [flag]: 'no' };
      const call = () => (flag[0] === 's' ? tokenizer.decode([0], options) : tokenizer.encode('a', options));
      expect(call, flag).toThrow(/expected true or false, received "no"/);
    }
    expect(tokenizer.decode([])).toBe('');
    expect(tokenizer.decode([1e9])).toBe(''); // no token's
    expect(tokenizer.decode(new BigInt64Array([1n]) as never)).toBe(tokenizer.decode([1]));
  }
});

test.each(preTokenizerNames)('the pre-tokenizer %s cuts a text and loses nothing of it', (name) => {
  const text = " It's 1,234  Ὧν Ἑλληνικά ῥώμη\r\n\tCamelCase_x += 漢字かな; \u{10400}é…  ";
  const pieces = cutter(preTokenizer(name)!.patterns)(text);
  expect(pieces.join('')).toBe(text);
  expect(pieces.length).toBeGreaterThan(8);
});

test.each(['gpt-4o', 'llama4', 'kanana2', 'minimax-m2', 'tekken'])(
  'marks belong to the letters that they stand on, and large letters outside ASCII begin a word: %s',
  (name) => {
    const pieces = cutter(preTokenizer(name)!.patterns);
    // What tokenizers 0.23.2 cuts by the pattern of gpt-oss's tokenizer.json and of Mistral's tekken.json.
    expect(pieces('यह हिन्दी में')).toEqual(['यह', ' हिन्दी', ' में']);
    expect(pieces('வணக்கம் உலகம்')).toEqual(['வணக்கம்', ' உலகம்']);
    expect(pieces('e\u0301cole, E\u0301cole \u0301x')).toEqual(['e\u0301cole', ',', ' E\u0301cole', ' \u0301x']);
    expect(pieces('éColeÉtéABc')).toEqual(['é', 'Cole', 'Été', 'ABc']);
  },
);

/** A tokenizer whose tokens are what its pre-tokenizer leaves: ids as the pieces that they are. */
async function pieces(text: string, words: readonly string[], parts: object): Promise<string[]> {
  const all = ['?', ...words];
  const vocab = Object.fromEntries(all.map((word, id) => [word, id]));
  const tokenizer = (await loadTokenizer(
    folders.put({
      'tokenizer.json': JSON.stringify({
        ...{ version: '1.0', added_tokens: [], normalizer: null, pre_tokenizer: null, decoder: null },
        ...{ post_processor: null, model: { type: 'WordLevel', vocab, unk_token: '?' }, ...parts },
      }),
    }),
  ))!;
  return [...tokenizer.encode(text)].map((id) => all[id]!);
}

// What the Rust library 0.23.2 answers.
describe('pre-tokenizers and normalizers of a tokenizer.json', () => {
  const regex = { Regex: '\\d' };
  const text = { String: '-' };
  test.each([
    ['Isolated', false, 'a|1|b|2|2', 'x|-|x|-|-|x'],
    ['Isolated', true, 'a|1|b|2|2', 'x|-|x|-|-|x'],
    ['Removed', false, 'a|b', 'x|x|x'],
    ['Removed', true, '1|2|2', '-|-|-'],
    ['MergedWithPrevious', false, 'a1|b2|2', 'x-|x-|-|x'],
    ['MergedWithPrevious', true, 'a|1b|2|2', 'x|-x|-|-x'],
    ['MergedWithNext', false, 'a|1b|2|2', 'x|-x|-|-x'],
    ['MergedWithNext', true, 'a1|b2|2', 'x-|x-|-|x'],
    ['Contiguous', false, 'a|1|b|22', 'x|-|x|--|x'],
    ['Contiguous', true, 'a|1|b|22', 'x|-|x|--|x'],
  ] as const)('Split: %s, invert %s', async (behavior, invert, byRegex, byText) => {
    const words = ['a', 'b', '1', '2', 'a1', 'b2', '1b', '22', 'x', '-', '--', 'x-', '-x'];
    const split = (pattern: object) => ({ pre_tokenizer: { type: 'Split', pattern, behavior, invert } });
    expect((await pieces('a1b22', words, split(regex))).join('|')).toBe(byRegex);
    expect((await pieces('x-x--x', words, split(text))).join('|')).toBe(byText);
  });

  test.each([
    ['Isolated', '(|(|a|)|)|x|-'],
    ['Removed', 'a|x'],
    ['MergedWithPrevious', '(|(|a)|)|x-'],
    ['MergedWithNext', '(|(a|)|)x|-'],
    ['Contiguous', '((|a|))|x|-'],
  ])('Punctuation: %s', async (behavior, expected) => {
    const words = ['(', '((', '(a', 'a', 'a)', ')', '))', ')x', 'x', 'x-', '-'];
    const found = await pieces('((a))x-', words, { pre_tokenizer: { type: 'Punctuation', behavior } });
    expect(found.join('|')).toBe(expected);
  });

  test('Whitespace keeps words of all scripts whole, CharDelimiterSplit cuts at its character', async () => {
    const words = ['naïve', 'Größe', ',', 'мир東京', '²', 'x'];
    const whitespace = { pre_tokenizer: { type: 'Whitespace' } };
    expect(await pieces('naïve Größe, мир東京²', words, whitespace)).toEqual(words.slice(0, -1));
    const delimited = { pre_tokenizer: { type: 'CharDelimiterSplit', delimiter: '-' } };
    expect(await pieces('x-x--x', words, delimited)).toEqual(['x', 'x', 'x']);
  });

  test.each([{ type: 'Lowercase' }, { type: 'BertNormalizer', lowercase: true }, sequence({ type: 'Lowercase' })])(
    'capitals are lowered one by one: %o',
    async (normalizer) => {
      const parts = { normalizer, pre_tokenizer: { type: 'WhitespaceSplit' } };
      expect(await pieces('ΛΟΓΟΣ σοφος Straße', ['λογοσ', 'σοφος', 'straße'], parts)).toEqual([
        'λογοσ',
        'σοφος',
        'straße',
      ]);
    },
  );

  test('words that the vocabulary lacks are the unknown one, or refused where there is none', async () => {
    const parts = { pre_tokenizer: { type: 'WhitespaceSplit' } };
    expect(await pieces('red green blue', ['red', 'blue'], parts)).toEqual(['red', '?', 'blue']);
    for (const model of [
      { type: 'WordLevel', vocab: { red: 0 }, unk_token: '?' },
      { type: 'WordPiece', vocab: { red: 0 }, unk_token: '?' },
      { type: 'Unigram', vocab: [['red', -1]], unk_id: null },
      { type: 'BPE', vocab: { r: 0, e: 1, d: 2 }, merges: [], unk_token: '?' },
    ])
      await expect(pieces('red green', [], { ...parts, model })).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
    const model = { type: 'BPE', vocab: { '?': 0, r: 1, e: 2, d: 3 }, merges: [], unk_token: null };
    expect(await pieces('red green', ['r', 'e', 'd'], { ...parts, model })).toEqual(['r', 'e', 'd', 'r', 'e', 'e']);
  });

  test('Metaspace that puts no space in front takes none away', async () => {
    const metaspace = { type: 'Metaspace', replacement: '▁', prepend_scheme: 'never', split: true };
    const model = { type: 'BPE', vocab: { '▁': 0, a: 1 }, merges: [], unk_token: null };
    const definition = { version: '1.0', added_tokens: [], normalizer: null, post_processor: null, model };
    const folder = folders.put({
      'tokenizer.json': JSON.stringify({ ...definition, pre_tokenizer: metaspace, decoder: metaspace }),
    });
    const tokenizer = (await loadTokenizer(folder))!;
    expect(tokenizer.decode(tokenizer.encode('  a a'))).toBe('  a a');
  });
});

function sequence(normalizer: object) {
  return { type: 'Sequence', normalizers: [normalizer] };
}
