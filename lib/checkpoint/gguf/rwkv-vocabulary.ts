// RWKV's vocabulary: lines "id literal length", where the literal is a Python text or bytes.
import { join } from 'node:path';
import { show } from '../../errors.js';
import { lazyFiles } from '../../lazy.js';
import type { TokenTable } from '../../tokenizers/token-table.js';
import type { Vocabulary } from '../../tokenizers/vocabulary.js';
import { kinds } from '../../tokenizers/vocabulary.js';
import { Turns } from '../../turns.js';
import { checkpointError } from '../stored.js';
import { readText } from '../text-files.js';
import { i32s, type Pair, text, texts, u32 } from './pairs.js';
import { readTokenizer } from './tokenizer.js';
import { Metadata } from './values.js';

const prefix = 'tokenizer.ggml.';
/** The published one has 1 MB, and 65,536 ids. */
const MAX_BYTES = 64 * 1024 * 1024;
const MOST = 1 << 22;

/** Keys of the rwkv_vocab_*.txt in a folder, for `rows` tokens or as many as it has; undefined where there is none. */
export async function rwkvTokens(folder: string, rows?: number): Promise<Map<string, Pair> | undefined> {
  const names = await lazyFiles()
    .readdir(folder)
    .catch(() => []);
  const name = names.find((found) => /^rwkv_vocab.*\.txt$/.test(found));
  if (name === undefined) return undefined;
  const file = join(folder, name);
  const found = await readLines(file);
  const size = rows ?? found.reduce((most, { id }) => Math.max(most, id + 1), 1);
  const tokens = Array.from({ length: size }, (_, i) => (i === 0 ? '<s>' : `[PAD${i}]`));
  const types = new Int32Array(size).fill(kinds.unused);
  types[0] = kinds.control;
  for (const { id, bytes } of found) {
    if (id >= size) continue;
    tokens[id] = escaped(bytes);
    types[id] = kinds.normal;
  }
  return new Map<string, Pair>([
    [`${prefix}model`, text('rwkv')],
    [`${prefix}tokens`, texts(tokens)],
    [`${prefix}token_type`, i32s(types)],
    [`${prefix}bos_token_id`, u32(0)],
    [`${prefix}eos_token_id`, u32(0)],
    ...(size > 261 ? [[`${prefix}eot_token_id`, u32(261)] as const] : []),
  ]);
}

/**
 * The tokenizer of such a folder; undefined where there is none.
 * @public
 */
export async function readRwkvVocabulary(folder: string): Promise<Vocabulary | undefined> {
  const pairs = await rwkvTokens(folder);
  return pairs && readTokenizer(new Metadata(folder, new Map([...pairs].map(([key, { value }]) => [key, value]))));
}

async function readLines(file: string): Promise<{ id: number; bytes: Buffer }[]> {
  const turns = new Turns();
  const found: { id: number; bytes: Buffer }[] = [];
  const lines = (await readText(file, MAX_BYTES, turns)).split('\n');
  for (const [i, line] of lines.entries()) {
    if (line === '') continue;
    const match = /^(\d+) (b?)(['"])(.*)\3 (\d+)$/s.exec(line.replace(/\r$/, ''));
    const bytes = match && literal(match[4]!, match[2] === 'b');
    const id = Number(match?.[1]);
    if (!match || bytes!.length !== Number(match[5]) || !(id < MOST))
      throw checkpointError(file, `line ${i + 1}: expected "id 'text' bytes", received ${show(line)}`);
    found.push({ id, bytes: bytes! });
    const pause = turns.due();
    if (pause) await pause;
  }
  return found;
}

/** The lines of such a file, of the tokens that are `isWord`. */
export function* rwkvLines(tokens: TokenTable, isWord: (id: number) => boolean): Generator<string> {
  for (let id = 0; id < tokens.size; id++) {
    const bytes = Buffer.from(tokens.bytes(id));
    if (bytes.length === 0 || !isWord(id)) continue;
    const said = bytes.toString('utf8');
    const isText = Buffer.from(said).equals(bytes) && !/[^\P{C}\t\n\r]/u.test(said);
    const quoted = isText
      ? `'${said.replace(/[\\'\t\n\r]/g, (c) => named[c.charCodeAt(0)]!)}'`
      : `b'${escaped(bytes)}'`;
    yield `${id} ${quoted} ${bytes.length}\n`;
  }
}

const short: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r', '\\': '\\', "'": "'", '"': '"' };
const named: Readonly<Record<number, string>> = { 9: '\\t', 10: '\\n', 13: '\\r', 92: '\\\\', 39: "\\'" };

/** The bytes of a Python literal between its quotes. */
function literal(inner: string, isBytes: boolean): Buffer {
  const said = inner.replace(/\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))/gs, (_, x, u, U, c) => {
    const code = x ?? u ?? U;
    if (code === undefined) return short[c] ?? `\\${c}`;
    const point = Number.parseInt(code, 16);
    return point <= 0x10ffff ? String.fromCodePoint(point) : '';
  });
  return Buffer.from(said, isBytes ? 'latin1' : 'utf8');
}

/** As Python shows bytes, without the quotes. */
function escaped(bytes: Buffer): string {
  return Array.from(bytes, (byte) => {
    if (named[byte] !== undefined) return named[byte];
    return byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`;
  }).join('');
}
