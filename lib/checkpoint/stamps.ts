// Whether files are still what they were when reading began: a download that starts again, or another save, writes
// into them meanwhile, and what was read would be parts of two checkpoints.
import type { BigIntStats } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { lazyFiles } from '../lazy.js';
import { asCheckpointError } from './files.js';
import { checkpointError } from './stored.js';

/** What tells a file's contents from later ones, by its path. */
export type Stamps = ReadonlyMap<string, string>;

const WEIGHTS = /\.(safetensors|bin|pth|pt|gguf)$/i;

/** Of the weights in a folder, or of a GGUF file and its other parts. */
export async function stampWeights(root: string): Promise<Stamps> {
  const stamps = new Map<string, string>();
  const folder = WEIGHTS.test(root) ? dirname(root) : root;
  const parts = folder === root ? '' : basename(root).replace(/-\d{5}-of-\d{5}\.gguf$/i, '');
  const names = await lazyFiles()
    .readdir(folder)
    .catch(() => []); // what reads it will say why
  for (const name of names) {
    if (!WEIGHTS.test(name) || !name.startsWith(parts)) continue;
    const stamp = await stampOf(join(folder, name)).catch(() => undefined);
    if (stamp !== undefined) stamps.set(join(folder, name), stamp);
  }
  return stamps;
}

/** ERR_CHECKPOINT that names the first of these files that is no longer what it was. */
export async function checkStamps(stamps: Stamps, files: Iterable<string>): Promise<void> {
  for (const file of new Set(files)) {
    const before = stamps.get(file);
    if (before === undefined) continue;
    if ((await stampOf(file)) !== before) throw checkpointError(file, 'it was changed while it was read');
  }
}

async function stampOf(file: string): Promise<string> {
  const { dev, ino, size, mtimeNs } = await statOf(file);
  return [dev, ino, size, mtimeNs].join();
}

/** What the system says of a file; ERR_CHECKPOINT where it says nothing. */
export async function statOf(file: string): Promise<BigIntStats> {
  try {
    return await lazyFiles().stat(file, { bigint: true });
  } catch (error) {
    throw asCheckpointError(file, error);
  }
}
