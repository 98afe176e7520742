/** The files that commands read and write. */
import { existsSync, readdirSync, realpathSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { replaceFileSync } from '../atomic-file.js';
import { readConfig } from '../checkpoint/config.js';
import { openCheckpoint } from '../checkpoint/open.js';
import { UsageError } from './errors.js';

/** Whole or not at all; see replaceFileSync(). */
function writeFileAtomically(path: string, text: string): void {
  try {
    replaceFileSync(path, text);
  } catch (error) {
    throw new Error(`cannot write ${path}: ${(error as Error).message}`, { cause: error });
  }
}

export const isStandardOutput = (path: string): boolean => ['-', '/dev/stdout', '/dev/fd/1'].includes(path);

/** A pipe or a device is written to; a file is replaced. */
export function writeOutput(path: string, text: string): void {
  // By name: where they are sockets they cannot be opened.
  if (isStandardOutput(path)) process.stdout.write(text);
  else if (['/dev/stderr', '/dev/fd/2'].includes(path)) process.stderr.write(text);
  else if (isDevice(path)) writeFileSync(path, text);
  else writeFileAtomically(path, text);
}

function isDevice(path: string): boolean {
  const found = statSync(path, { throwIfNoEntry: false });
  return found !== undefined && (found.isFIFO() || found.isCharacterDevice());
}

/** Said before hours of measurement, not after. */
export function checkWritable(path: string): void {
  if (isStandardOutput(path)) return;
  const folder = dirname(resolve(path));
  if (!existsSync(folder) || !statSync(folder).isDirectory()) throw new UsageError(`no folder ${folder} to write into`);
  if (existsSync(path) && statSync(path).isDirectory()) throw new UsageError(`${path} is a folder`);
}

/**
 * That no two of the files of a command are one: what is written last would be all that is left, of what is read as well. By
 * what the command calls them.
 *
 * @throws UsageError
 */
export function checkApart(files: Readonly<Record<string, string | undefined>>): void {
  const seen = new Map<string, string>();
  for (const [name, path] of Object.entries(files)) {
    if (path === undefined || isStandardOutput(path) || isDevice(path)) continue;
    const place = existsSync(path) ? realpathSync(path) : resolve(path);
    const other = seen.get(place);
    if (other !== undefined) throw new UsageError(`${name}: ${path} is the same file as ${other}; give another`);
    seen.set(place, name);
  }
}

/** All of standard input, without the end of its last line. */
export async function readStandardInput(): Promise<string> {
  let text = '';
  process.stdin.setEncoding('utf8');
  for await (const piece of process.stdin) text += piece;
  return text.replace(/\r?\n$/, '');
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
