// RWKV's vocabulary: lines "id literal length", where the literal is a Python text or bytes.
import { join } from 'node:path';
import { i32s, type Pair, text, texts, u32 } from '../checkpoint/gguf/pairs.js';
import { checkpointError } from '../checkpoint/stored.js';
import { show } from '../errors.js';
import { lazyFiles } from '../lazy.js';
import { kinds } from '../tokenizers/vocabulary.js';

const prefix = 'tokenizer.ggml.';

/** Keys of the rwkv_vocab_*.txt in a folder; undefined where there is none. */
export async function rwkvTokens(folder: string, rows: number): Promise<Map<string, Pair> | undefined> {
  const names = await lazyFiles()
    .readdir(folder)
    .catch(() => []);
  const file = names.find((name) => /^rwkv_vocab.*\.txt$/.test(name));
  if (file === undefined) return undefined;
  const tokens = Array.from({ length: rows }, (_, i) => (i === 0 ? '<s>' : `[PAD${i}]`));
  const types = new Int32Array(rows).fill(kinds.unused);
  types[0] = kinds.control;
  const lines = (await lazyFiles().readFile(join(folder, file), 'utf8')).split('\n').filter((line) => line !== '');
  for (const [i, line] of lines.entries()) {
    const match = /^(\d+) (b?)(['"])(.*)\3 (\d+)$/s.exec(line.replace(/\r$/, ''));
    const bytes = match && literal(match[4]!, match[2] === 'b');
    if (!match || bytes!.length !== Number(match[5]))
      throw checkpointError(join(folder, file), `line ${i + 1}: expected "id 'text' bytes", received ${show(line)}`);
    const id = Number(match[1]);
    if (id >= rows) continue;
    tokens[id] = escaped(bytes!);
    types[id] = kinds.normal;
  }
  return new Map<string, Pair>([
    [`${prefix}model`, text('rwkv')],
    [`${prefix}tokens`, texts(tokens)],
    [`${prefix}token_type`, i32s(types)],
    [`${prefix}bos_token_id`, u32(0)],
    [`${prefix}eos_token_id`, u32(0)],
    ...(rows > 261 ? [[`${prefix}eot_token_id`, u32(261)] as const] : []),
  ]);
}

const short: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r', '\\': '\\', "'": "'", '"': '"' };

/** The bytes of a Python literal between its quotes. */
function literal(inner: string, isBytes: boolean): Buffer {
  const said = inner.replace(/\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))/gs, (_, x, u, U, c) => {
    const code = x ?? u ?? U;
    return code === undefined ? (short[c] ?? `\\${c}`) : String.fromCodePoint(Number.parseInt(code, 16));
  });
  return Buffer.from(said, isBytes ? 'latin1' : 'utf8');
}

/** As Python shows bytes, without the quotes. */
function escaped(bytes: Buffer): string {
  const named: Readonly<Record<number, string>> = { 9: '\\t', 10: '\\n', 13: '\\r', 92: '\\\\', 39: "\\'" };
  return Array.from(bytes, (byte) => {
    if (named[byte] !== undefined) return named[byte];
    return byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`;
  }).join('');
}
