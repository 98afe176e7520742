/** Texts as one row of token ids, and batches of windows of it. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { UsageError } from '../errors.js';

const TEXTS = new Set(['.txt', '.md', '.text', '']);

/** The documents of a text file, of a folder of them (and those below it), or of the lines of a .jsonl file. */
export async function readDocuments(path: string): Promise<string[]> {
  const found = await stat(path).catch(() => undefined);
  if (!found) throw new UsageError(`no file or folder ${path}`);
  if (found.isDirectory()) {
    const names = (await readdir(path, { recursive: true })).sort();
    const wanted = names.filter((name) => TEXTS.has(extname(name)) || extname(name) === '.jsonl');
    const parts: string[][] = [];
    for (const name of wanted)
      if ((await stat(join(path, name))).isFile()) parts.push(await readDocuments(join(path, name)));
    if (parts.length === 0) throw new UsageError(`${path} holds no .txt, .md or .jsonl files`);
    return parts.flat();
  }
  const text = await readFile(path, 'utf8');
  return extname(path) === '.jsonl' ? text.split('\n').flatMap((line, i) => documentOf(path, line, i + 1)) : [text];
}

function documentOf(path: string, line: string, number: number): string[] {
  if (line.trim() === '') return [];
  let entry: unknown;
  try {
    entry = JSON.parse(line);
  } catch (error) {
    throw new UsageError(`${path}:${number}: is not JSON: ${(error as Error).message}`);
  }
  const text = typeof entry === 'string' ? entry : (entry as { text?: unknown } | null)?.text;
  if (typeof text !== 'string') throw new UsageError(`${path}:${number}: expected { "text": "…" }`);
  return [text];
}

/** All documents end to end, each with the token that ends it where there is one. */
export function joinTokens(documents: readonly Int32Array[], end: number | undefined): Int32Array {
  const extra = end === undefined ? 0 : 1;
  const tokens = new Int32Array(documents.reduce((n, d) => n + d.length + extra, 0));
  let at = 0;
  for (const d of documents) {
    tokens.set(d, at);
    at += d.length;
    if (end !== undefined) tokens[at++] = end;
  }
  return tokens;
}

/** Rows of `length` tokens from places that follow from seed and step alone: a run that goes on draws what it would have. */
export function windows(tokens: Int32Array, rows: number, length: number, seed: number, step: number): Int32Array {
  const data = new Int32Array(rows * length);
  let state = (Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(step + 1, 0x85ebca6b)) >>> 0;
  for (let r = 0; r < rows; r++) {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    const first = Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * (tokens.length - length + 1));
    data.set(tokens.subarray(first, first + length), r * length);
  }
  return data;
}
