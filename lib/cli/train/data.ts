/** Texts as one row of token ids, and batches of windows of it. */
import { createReadStream } from 'node:fs';
import { readdir, realpath, stat } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { UsageError } from '../errors.js';
import { decoded, MOST_BYTES, readTextFile } from '../text-file.js';

const TEXTS = new Set(['.txt', '.md', '.text', '']);
const LINES = '.jsonl';
const NEWLINE = 10;

/** The documents of a text file, of a folder of them (and those below it), or of the lines of a .jsonl file. */
export async function readDocuments(path: string): Promise<string[]> {
  const found = await stat(path).catch(() => undefined);
  if (!found) throw new UsageError(`no file or folder ${path}`);
  if (!found.isDirectory()) return extname(path) === LINES ? readLines(path) : [await readTextFile(path)];
  const parts: string[][] = [];
  for await (const file of textsBelow(path, new Set())) parts.push(await readDocuments(file));
  if (parts.length === 0) throw new UsageError(`${path} holds no .txt, .text, .md or .jsonl files`);
  return parts.flat();
}

/** Files of text, in the order of their names; what begins with a dot is not looked at, a folder that links lead to twice once. */
async function* textsBelow(folder: string, seen: Set<string>): AsyncGenerator<string> {
  const place = await realpath(folder);
  if (seen.has(place)) return;
  seen.add(place);
  for (const name of (await readdir(folder)).sort()) {
    if (name.startsWith('.')) continue;
    const path = join(folder, name);
    const found = await stat(path).catch(() => undefined); // a link to nothing
    if (found?.isDirectory()) yield* textsBelow(path, seen);
    else if (found?.isFile() && (TEXTS.has(extname(name)) || extname(name) === LINES)) yield path;
  }
}

async function readLines(path: string): Promise<string[]> {
  const documents: string[] = [];
  let [number, rest, kept] = [0, [] as Uint8Array[], 0];
  const line = () => {
    const where = `${path}:${++number}`;
    const text = decoded(where, Buffer.concat(rest));
    [rest, kept] = [[], 0];
    if (text.trim() !== '') documents.push(documentOf(where, text));
  };
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 }) as AsyncIterable<Buffer>) {
    let from = 0;
    for (let to = chunk.indexOf(NEWLINE); to >= 0; to = chunk.indexOf(NEWLINE, from)) {
      rest.push(chunk.subarray(from, to));
      line();
      from = to + 1;
    }
    rest.push(chunk.subarray(from));
    kept += chunk.length - from;
    if (kept > MOST_BYTES) throw new UsageError(`${path}:${number + 1}: the line has more than ${MOST_BYTES} bytes`);
  }
  line();
  return documents;
}

function documentOf(where: string, line: string): string {
  let entry: unknown;
  try {
    entry = JSON.parse(line);
  } catch (error) {
    throw new UsageError(`${where}: is not JSON: ${(error as Error).message}`);
  }
  const text = typeof entry === 'string' ? entry : (entry as { text?: unknown } | null)?.text;
  if (typeof text === 'string') return text;
  throw new UsageError(`${where}: expected { "text": "…" } or a string, received ${line.trim().slice(0, 60)}`);
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
