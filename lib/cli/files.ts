/** Files that are there whole or not at all. */
import { randomBytes } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { readConfig } from '../checkpoint/config.js';
import { openCheckpoint } from '../checkpoint/open.js';
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

/** The config of a model folder (of its tensors, where an official RWKV file has none) or of a .json file. */
export async function readModelConfig(path: string): Promise<Record<string, unknown>> {
  if (!existsSync(path)) throw new UsageError(`no file or folder ${path}`);
  if (!statSync(path).isDirectory()) return readConfig(path);
  const file = join(path, 'config.json');
  if (existsSync(file)) return readConfig(file);
  const { config } = await openCheckpoint(path);
  if (config === undefined) throw new Error(`${path} has no config.json`);
  return config;
}
