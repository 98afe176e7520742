// tokenizer.json of every kind: ids and texts of Hugging Face tokenizers, whatever part of it a folder names.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadTokenizer } from '../dist/lib/models/tokenizer.js';
import { expectRefused, scratchFolders } from './support/checkpoint-files.js';
import { goldenRoot } from './support/golden.js';
import { loopTime } from './support/stalls.js';

interface Case {
  definition: Record<string, unknown>;
  encode: [text: string, marked: number[], plain: number[]][];
  decode: [ids: number[], text: string, whole: string][];
}

const folders = scratchFolders();
const cases = JSON.parse(readFileSync(join(goldenRoot, 'tokenizers/expected.json'), 'utf8')) as Record<string, Case>;
const load = async (definition: object, config: object = {}) =>
  (await loadTokenizer(
    folders.put({ 'tokenizer.json': JSON.stringify(definition), 'tokenizer_config.json': JSON.stringify(config) }),
  ))!;

test.each(Object.keys(cases))('%s', async (name) => {
  const { definition, encode, decode } = cases[name]!;
  const tokenizer = await load(definition);
  for (const [text, marked, plain] of encode) {
    expect([...tokenizer.encode(text)], JSON.stringify(text)).toEqual(marked);
    expect([...tokenizer.encode(text, { addSpecialTokens: false })], JSON.stringify(text)).toEqual(plain);
  }
  for (const [ids, text, whole] of decode) {
    expect(tokenizer.decode(ids), String(ids)).toBe(text);
    expect(tokenizer.decode(ids, { skipSpecialTokens: false }), String(ids)).toBe(whole);
  }
});

test('a special token that is looked for in normalized text is left out of texts like any other', async () => {
  const { definition } = cases.bert!;
  const added = definition.added_tokens as { id: number; content: string; special: boolean; normalized: boolean }[];
  const [mark] = added.filter((t) => t.content === '<s>');
  const named = added.map((t) => (t === mark ? { ...t, content: '<S>', normalized: true } : t));
  const tokenizer = await load({ ...definition, added_tokens: named, post_processor: null });
  expect([...tokenizer.encode('<S>')]).toEqual([mark!.id]);
  expect(tokenizer.decode([mark!.id])).toBe('');
  expect(tokenizer.decode([mark!.id], { skipSpecialTokens: false })).toBe('<s>');
});

test('tokens that tokenizer_config.json names are special ones', async () => {
  const { definition } = cases.gpt2!;
  const added = (definition.added_tokens as { id: number; content: string }[]).map((t) => ({ ...t, special: false }));
  const id = (content: string) => added.find((t) => t.content === content)!.id;
  const plain = added.filter((t) => t.content !== '</s>');
  const vocab = { ...(definition.model as { vocab: object }).vocab, '</s>': id('</s>') };
  const named = { ...definition, added_tokens: plain, model: { ...(definition.model as object), vocab } };
  const config = { eos_token: '</s>', added_tokens_decoder: { 9: { content: '<im_end>', special: true } } };
  const tokenizer = await load(named, config);
  const ids = [id('<s>'), id('<im_end>'), id('</s>')];
  expect([...tokenizer.encode('<s><im_end></s>')]).toEqual(ids);
  expect(tokenizer.decode(ids)).toBe('<s>');
  expect(tokenizer.specialToken!('</s>')).toBe(id('</s>'));
  expect((await load(named)).decode(ids)).toBe('<s><im_end></s>');
});

describe('a long file', () => {
  const words = Array.from({ length: 120_000 }, (_, i) => `word${i}`);
  const vocab = `{"__proto__":0,"<unk>":1,${words.map((word, i) => `"${word}":${i + 2}`).join()}}`;
  const model = `{"type":"WordLevel","unk_token":"<unk>","vocab":${vocab}}`;
  const files = { 'tokenizer.json': `{"pre_tokenizer":{"type":"WhitespaceSplit"},"model":${model}}` };

  test('is read in turns of the event loop, whatever its words are', async () => {
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    const tokenizer = (await loadTokenizer(folders.put(files)).finally(() => clearInterval(timer)))!;
    expect(turns).toBeGreaterThan(5);
    expect([...tokenizer.encode('word119999 __proto__ constructor')]).toEqual([120_001, 0, 1]);
    expect(tokenizer.decode([0, 2])).toBe('__proto__ word0');
  });
  test('and what lies before its words', async () => {
    for (const before of ['', '"a":1,', '"a":[1],"b":{},']) {
      const text = files['tokenizer.json'].replace('{', `{${before}`);
      const folder = folders.put({ 'tokenizer.json': text });
      const { all, longest } = await loopTime(() => loadTokenizer(folder));
      expect(longest / all).toBeLessThan(0.4);
    }
  });
  test.each([0, 1, 2, 5, 10, 20, 50])(
    'hears an abort after %i turns of the event loop, whatever it does then',
    async (turns) => {
      const stop = new AbortController();
      const reason = new Error('enough');
      const folder = folders.put(files);
      let ended = false;
      const abort = (left: number) => {
        if (left === 0) stop.abort(reason);
        else if (!ended) setImmediate(abort, left - 1);
      };
      abort(turns);
      const outcome = await loadTokenizer(folder, stop.signal).catch((error) => error);
      ended = true;
      // One that ends before had fewer turns: of some milliseconds each, and at least twenty in a tenth of a second.
      if (turns <= 5 || stop.signal.aborted) expect(outcome).toBe(reason);
    },
  );
});

describe('what is no tokenizer', () => {
  const { definition } = cases.gpt2!;
  const model = definition.model as object;
  test.each<[string, object, RegExp]>([
    ['no model', { ...definition, model: undefined }, /model/],
    ['a model that is not known', { ...definition, model: { type: 'Own', scores: [] } }, /unknown model: "Own"/],
    ['a vocabulary that is none', { ...definition, model: { ...model, vocab: 'a' } }, /model\.vocab/],
    ['an id that is none', { ...definition, model: { ...model, vocab: { a: -1 } } }, /"a": expected an id/],
    ['merges that are none', { ...definition, model: { ...model, merges: 5 } }, /model\.merges/],
    [
      'a merge of one token',
      { ...definition, model: { ...model, merges: ['ab'] } },
      /merges\[0\]: expected two tokens/,
    ],
    ['a Unigram without a list', { ...definition, model: { type: 'Unigram', vocab: {} } }, /vocab: expected a list/],
    ['no list', { ...definition, normalizer: { type: 'Sequence', normalizers: 5 } }, /expected a list, received 5/],
    [
      'a pattern that is no text',
      { ...definition, normalizer: { type: 'Replace', pattern: { String: 5 }, content: '' } },
      /expected a pattern .*received \{"String":5\}/,
    ],
    ['a normalizer', { ...definition, normalizer: { type: 'Own' } }, /unknown normalizer: "Own"/],
    ['a pre-tokenizer', { ...definition, pre_tokenizer: { type: 'UnicodeScripts' } }, /unknown pre-tokenizer/],
    ['a decoder', { ...definition, decoder: { type: 'Own' } }, /unknown decoder: "Own"/],
    ['a post-processor', { ...definition, post_processor: { type: 'Own' } }, /unknown post-processor: "Own"/],
    ['added tokens', { ...definition, added_tokens: {} }, /added_tokens/],
    ['an added token', { ...definition, added_tokens: [{ id: 1 }] }, /added_tokens\[0\]/],
    [
      'a pattern',
      { ...definition, pre_tokenizer: { type: 'Split', pattern: { Regex: '(' }, behavior: 'Isolated' } },
      /tokenizer\.json: .*\(/,
    ],
  ])('%s', async (_, broken, why) => {
    await expectRefused(load(broken), 'tokenizer.json', why);
  });
});
