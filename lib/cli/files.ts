/** Files that are there whole or not at all. */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { UsageError } from './errors.js';

const unfinished = new Set<string>();

/** Written beside the target, synced, and renamed over it: whoever opens `path` sees the old text or the new. */
export function writeFileAtomically(path: string, text: string): void {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`);
  unfinished.add(temporary);
  try {
    const file = openSync(temporary, 'wx');
    try {
      writeFileSync(file, text);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw new Error(`cannot write ${path}: ${(error as Error).message}`, { cause: error });
  } finally {
    unfinished.delete(temporary);
  }
}

export function removeUnfinishedFiles(): void {
  for (const path of unfinished) rmSync(path, { force: true });
  unfinished.clear();
}

/** Said before hours of measurement, not after. */
export function checkWritable(path: string): void {
  const folder = dirname(resolve(path));
  if (!existsSync(folder) || !statSync(folder).isDirectory()) throw new UsageError(`no folder ${folder} to write into`);
  if (existsSync(path) && !statSync(path).isFile()) throw new UsageError(`${path} is not a file`);
}

/** A config from a folder or a .json file; a bare Infinity, which is no JSON but published, is read. */
export function readConfig(path: string): Record<string, unknown> {
  if (!existsSync(path)) throw new UsageError(`no file or folder ${path}`);
  const file = statSync(path).isDirectory() ? join(path, 'config.json') : path;
  if (!existsSync(file)) throw new Error(`${path} has no config.json`);
  const text = readFileSync(file, 'utf8');
  let config: unknown;
  try {
    config = JSON.parse(quoteInfinity(text), (_key, value) => infinity(value));
  } catch (error) {
    throw new Error(`${file}: ${(error as Error).message}`, { cause: error });
  }
  if (typeof config !== 'object' || config === null || Array.isArray(config)) {
    throw new Error(`${file}: expected an object of configuration keys`);
  }
  return config as Record<string, unknown>;
}

// Strings are matched first, so that the word inside of one stays.
function quoteInfinity(text: string): string {
  return text.replace(/"(?:[^"\\]|\\.)*"|-?\bInfinity\b/g, (match) =>
    match.startsWith('"') ? match : `{"__float__":"${match}"}`,
  );
}

function infinity(value: unknown): unknown {
  const written = (value as { __float__?: unknown } | null)?.__float__;
  if (written === 'Infinity') return Number.POSITIVE_INFINITY;
  if (written === '-Infinity') return Number.NEGATIVE_INFINITY;
  return value;
}
