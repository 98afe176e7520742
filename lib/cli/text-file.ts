import { readFile, stat } from 'node:fs/promises';
import { UsageError } from './errors.js';

/** Of a string in V8, and so of a text or a line. */
export const MOST_BYTES = 2 ** 29 - 24;

/** Without the mark that says that it is UTF-8. */
export function decoded(path: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new UsageError(`${path}: is not UTF-8 text; convert it (iconv -t UTF-8), or leave it out`);
  }
}

/** @throws UsageError for what is not there, no file of UTF-8, or larger than a string can be. */
export async function readTextFile(path: string): Promise<string> {
  const found = await stat(path).catch(() => undefined);
  if (!found) throw new UsageError(`no file ${path}`);
  if (found.isDirectory()) throw new UsageError(`${path} is a folder; give the path of a text`);
  if (found.size > MOST_BYTES)
    throw new UsageError(
      `${path}: has ${found.size} bytes, more than the ${MOST_BYTES} of one text: cut it into several files`,
    );
  return decoded(path, await readFile(path));
}
