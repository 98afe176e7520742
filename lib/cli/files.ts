/** The files that commands read and write. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { replaceFileSync } from '../atomic-file.js';
import { readConfig } from '../checkpoint/config.js';
import { openCheckpoint } from '../checkpoint/open.js';
import { UsageError } from './errors.js';

/** Whole or not at all; see replaceFileSync(). */
export function writeFileAtomically(path: string, text: string): void {
  try {
    replaceFileSync(path, text);
  } catch (error) {
    throw new Error(`cannot write ${path}: ${(error as Error).message}`, { cause: error });
  }
}

/** Said before hours of measurement, not after. */
export function checkWritable(path: string): void {
  const folder = dirname(resolve(path));
  if (!existsSync(folder) || !statSync(folder).isDirectory()) throw new UsageError(`no folder ${folder} to write into`);
  if (existsSync(path) && !statSync(path).isFile()) throw new UsageError(`${path} is not a file`);
}

/** Whether weights lie there: a GGUF file, or a folder that has more than a config. */
export async function isCheckpoint(path: string): Promise<boolean> {
  if (/\.gguf$/i.test(path)) return true;
  if (!statSync(path).isDirectory()) return false;
  return readdirSync(path).some((name) => /\.(safetensors|bin|pth|gguf|index\.json)$/.test(name));
}

/** The config of a model folder (of its tensors, where an official RWKV file has none), a GGUF file or a .json file. */
export async function readModelConfig(path: string): Promise<Record<string, unknown>> {
  if (!existsSync(path)) throw new UsageError(`no file or folder ${path}`);
  if (!statSync(path).isDirectory() && !/\.gguf$/i.test(path)) return readConfig(path);
  const file = join(path, 'config.json');
  if (existsSync(file)) return readConfig(file);
  const { config } = await openCheckpoint(path);
  if (config === undefined) throw new Error(`${path} has no config.json`);
  return config;
}
