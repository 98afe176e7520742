// The tokenizer of a folder, written into a file, gives the ids of llama.cpp.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { expect, test } from 'vitest';
import { readGguf } from '../../dist/lib/checkpoint/gguf/container.js';
import { text } from '../../dist/lib/checkpoint/gguf/pairs.js';
import { readTokenizer } from '../../dist/lib/checkpoint/gguf/tokenizer.js';
import type { Metadata } from '../../dist/lib/checkpoint/gguf/values.js';
import { encodeHeader } from '../../dist/lib/checkpoint/gguf/write.js';
import { loadTokenizer } from '../../dist/lib/models/tokenizer.js';
import { tokenizerPairs } from '../../dist/lib/quantize/tokenizer.js';
import { scratchFolders } from '../support/checkpoint-files.js';
import { corpusFiles, corpusFolder } from '../support/gguf.js';
import { tokenizerFiles } from '../support/tokenizer-json.js';

const folders = scratchFolders();
const vocabularies = corpusFolder('vocab')!;
const files = corpusFiles(vocabularies, '.gguf').map((file) => [basename(file, '.gguf'), file] as const);

interface Case {
  text: string;
  plain: number[];
  both: number[];
}
const expected = new Map(
  corpusFiles(vocabularies, '.expected.json').map((file) => [basename(file, '.expected.json'), file] as const),
);

/** rwkv_vocab.txt of a file's tokens, which are Python literals already. */
function rwkvFile(metadata: Metadata): Record<string, string> {
  const tokens = metadata.array('tokenizer.ggml.tokens')!.texts();
  const size = (token: string) => token.replace(/\\x..|\\./g, '.').length;
  const lines = tokens.slice(1).map((token, i) => `${i + 1} b'${token}' ${size(token)}\n`);
  return { 'rwkv_vocab_v20230424.txt': lines.join('') };
}

/** The file's list is cut: llama.cpp's ids are those of a list without letters, which a folder cannot have. */
const isCut = (name: string) => name === 'vocab-llama-spm';

test.each(files)('%s', async (name, file) => {
  const { metadata } = await readGguf(file);
  const isRwkv = metadata.string('tokenizer.ggml.model') === 'rwkv';
  const folder = folders.put(isRwkv ? rwkvFile(metadata) : tokenizerFiles(metadata));
  const count = metadata.array('tokenizer.ggml.tokens')!.length;
  const letters = isCut(name) ? 3000 : 0;
  const rows = count + letters + 3; // as of embeddings that were rounded up
  const { pairs, notes } = await tokenizerPairs(folder, rows, { config: {} } as never);
  expect(notes).toEqual([]);
  const out = join(folder, 'tokenizer.gguf');
  writeFileSync(out, encodeHeader(pairs, []));
  const back = (await readGguf(out)).metadata;
  const made = await readTokenizer(back);
  const { strings } = JSON.parse(readFileSync(expected.get(name)!, 'utf8')) as { strings: Case[] };
  expect(strings.length).toBeGreaterThan(20);
  const original = isRwkv ? undefined : await loadTokenizer(folder);
  for (const { text, both, plain } of strings) {
    const options = { addSpecialTokens: false, allowSpecial: false };
    if (isCut(name)) expect([...made!.encode(text, options)], text).toEqual([...original!.encode(text, options)]);
    if (isCut(name)) continue;
    expect([...made!.encode(text, options)], text).toEqual(plain);
    expect([...made!.encode(text)], text).toEqual(both);
  }
  for (const key of ['tokenizer.ggml.bos_token_id', 'tokenizer.ggml.eos_token_id', 'tokenizer.chat_template'])
    if (!isRwkv || key !== 'tokenizer.chat_template') expect(back.value(key), key).toBe(metadata.value(key));
  const tokens = back.array('tokenizer.ggml.tokens')!.texts();
  expect(tokens.slice(-3)).toEqual([3, 2, 1].map((i) => `[PAD${rows - i}]`));
});

test('the normal form NFC comes along, and what does not is said', async () => {
  const { metadata } = await readGguf(files.find(([name]) => name.includes('bpe'))![1]);
  const source = tokenizerFiles(metadata);
  const definition = JSON.parse(source['tokenizer.json']!);
  definition.normalizer = { type: 'Sequence', normalizers: [{ type: 'NFC' }] };
  Object.assign(definition.added_tokens[0], { lstrip: true });
  const folder = folders.put({ ...source, 'tokenizer.json': JSON.stringify(definition) });
  const rows = metadata.array('tokenizer.ggml.tokens')!.length;
  const { pairs, notes } = await tokenizerPairs(folder, rows, { config: {} } as never);
  expect(notes).toEqual([
    expect.stringMatching(/^white space around "<.*lstrip/),
    expect.stringMatching(/^llama.cpp: .*normal form NFC/),
  ]);
  const out = join(folder, 'tokenizer.gguf');
  writeFileSync(out, encodeHeader(pairs, []));
  const made = await readTokenizer((await readGguf(out)).metadata);
  expect([...made!.encode('cafe\u0301 \u212b')]).toEqual([...made!.encode('caf\u00e9 \u00c5')]);
});

test.each(['Phi-3-mini', 'another'])('white space behind a special token, in a folder called %s', async (name) => {
  const { metadata } = await readGguf(files.find(([file]) => file.includes('spm'))![1]);
  const source = tokenizerFiles(metadata);
  const definition = JSON.parse(source['tokenizer.json']!);
  const ends = definition.added_tokens.find(({ content }: { content: string }) => content === '</s>');
  expect(ends).toBeDefined();
  ends.rstrip = true;
  const folder = join(folders.put({}), name);
  mkdirSync(folder);
  for (const [file, content] of Object.entries({ ...source, 'tokenizer.json': JSON.stringify(definition) }))
    writeFileSync(join(folder, file), content as string);
  const rows = metadata.array('tokenizer.ggml.tokens')!.length;
  const { pairs, notes } = await tokenizerPairs(folder, rows, { config: {} } as never);
  const isKept = name === 'Phi-3-mini'; // llama.cpp goes by the name
  expect(/white space around/.test(notes.join())).toBe(!isKept);
  const out = join(folder, 'tokenizer.gguf');
  writeFileSync(out, encodeHeader(new Map([...pairs, ['general.name', text(name)]]), []));
  const made = (await readTokenizer((await readGguf(out)).metadata))!;
  const idsOf = (tokenizer: Pick<typeof made, 'encode'>) => tokenizer.encode('a</s>\n b').join();
  expect(idsOf(made) === idsOf((await loadTokenizer(folder))!)).toBe(isKept);
});

/** The tokenizer of a folder whose tokenizer.json is changed, and the one of its file; what is said of it. */
async function bothWays(change: (definition: Record<string, unknown>) => void) {
  const { metadata } = await readGguf(files.find(([name]) => name.includes('spm'))![1]);
  const source = tokenizerFiles(metadata);
  const definition = JSON.parse(source['tokenizer.json']!);
  change(definition);
  const folder = folders.put({ ...source, 'tokenizer.json': JSON.stringify(definition) });
  const rows = metadata.array('tokenizer.ggml.tokens')!.length + 3000;
  const { pairs, notes } = await tokenizerPairs(folder, rows, { config: {} } as never);
  const out = join(folder, 'tokenizer.gguf');
  writeFileSync(out, encodeHeader(pairs, []));
  const made = await readTokenizer((await readGguf(out)).metadata);
  return { original: (await loadTokenizer(folder))!, made: made!, notes };
}

test.each(['first', 'always'])(
  'one space in front where Metaspace says %s, which no key of the format can say',
  async (scheme) => {
    const { original, made, notes } = await bothWays((definition) => {
      definition.normalizer = null;
      definition.pre_tokenizer = { type: 'Metaspace', replacement: '▁', prepend_scheme: scheme, split: false };
    });
    const differs = scheme === 'first' ? ' one, and behind special tokens, the' : ' one, the';
    expect(notes).toEqual([
      `llama.cpp: it puts a space in front of texts that begin with${differs} model's tokenizer does not`,
    ]);
    for (const text of ['of the', ' of the', '  of', '▁of', ' ', '', '<s>of', '<s> of</s>the', 'a</s>', '\nof'])
      for (const allowSpecial of [true, false])
        expect([...made.encode(text, { allowSpecial })], text).toEqual([...original.encode(text, { allowSpecial })]);
  },
);

test('without tokens of bytes a run of what no token has is one unknown token, as in SentencePiece', async () => {
  const { original, made } = await bothWays((definition) => {
    const model = definition.model as { vocab: Record<string, number>; byte_fallback: boolean; fuse_unk: boolean };
    for (const token of Object.keys(model.vocab)) if (/^<0x..>$/.test(token)) delete model.vocab[token];
    Object.assign(model, { byte_fallback: false, fuse_unk: true, unk_token: '<unk>' });
  });
  const ids = [...made.encode('of 🙂🙃 the')];
  expect(ids.filter((id) => id === 0)).toHaveLength(1);
  expect(ids).toEqual([...original.encode('of 🙂🙃 the')]);
});
