/**
 * Files that are there whole or not at all. Not write-file-atomic: through signal-exit it puts handlers of signals into the
 * process that loads this package, and it does not sync the folder.
 */
import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { StatespaceError } from './errors.js';
import { lazyCrypto, lazyFiles } from './lazy.js';

const unfinished = new Set<string>();

function temporaryFor(path: string): string {
  const temporary = join(dirname(path), `.${basename(path)}.${lazyCrypto().randomBytes(6).toString('hex')}.tmp`);
  unfinished.add(temporary);
  return temporary;
}

/**
 * Written beside the target, synced, and renamed over it: whoever opens `path` sees the old bytes or the new, after a
 * crash or a kill too (which may leave the temporary file, `.name.*.tmp`).
 */
export function replaceFile(path: string, data: Uint8Array): Promise<void> {
  return replaceFileBy(path, (file) => file.writeFile(data));
}

/** The same of a file that is written bit by bit; when `write` fails, nothing is left of it. */
export function replaceFileBy(path: string, write: (file: FileHandle) => Promise<void>): Promise<void> {
  return replaceFilesBy([path], write);
}

/**
 * The same of several files of one folder, written one after the other; all get their names when the last one is written,
 * the first one last.
 */
export async function replaceFilesBy(
  paths: readonly string[],
  write: (file: FileHandle, index: number) => Promise<void>,
): Promise<void> {
  const { open, rename, rm } = lazyFiles();
  const temporaries = paths.map(temporaryFor);
  try {
    for (const [i, temporary] of temporaries.entries()) {
      const file = await open(temporary, 'wx');
      try {
        await write(file, i);
        await file.sync();
      } finally {
        await file.close();
      }
    }
    for (let i = paths.length - 1; i >= 0; i--) await rename(temporaries[i]!, paths[i]!);
    await syncFolder(dirname(paths[0]!));
  } catch (error) {
    for (const temporary of temporaries) await rm(temporary, { force: true }).catch(() => {}); // the first error says why
    throw unwritten(paths[0]!, error);
  } finally {
    for (const temporary of temporaries) unfinished.delete(temporary);
  }
}

/** ERR_ARGUMENT that names the file, where the system says why it cannot be written: its own errors name the temporary one, or none. */
function unwritten(path: string, error: unknown): unknown {
  const { syscall, message } = error as NodeJS.ErrnoException;
  if (error instanceof StatespaceError || syscall === undefined) return error;
  const why = message.replace(/ '.*'$/, '');
  return new StatespaceError('ERR_ARGUMENT', `${path}: cannot be written: ${why}`, { cause: error });
}

/** The same, before it returns. */
export function replaceFileSync(path: string, text: string): void {
  const temporary = temporaryFor(path);
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
    throw error;
  } finally {
    unfinished.delete(temporary);
  }
}

/** For a process that is about to end. */
export function removeUnfinishedFiles(): void {
  for (const path of unfinished) rmSync(path, { force: true });
  unfinished.clear();
}

// A file that is still being written is younger.
const ABANDONED_MS = 60 * 60 * 1000;

/** Removes what replaceFile() left in a folder and below when its process was killed. */
export async function removeAbandoned(folder: string): Promise<void> {
  const { readdir, rm, stat } = lazyFiles();
  const names = await readdir(folder, { recursive: true }).catch(() => []);
  for (const name of names) {
    const path = join(folder, name);
    if (!/^\..+\.[0-9a-f]{12}\.tmp$/.test(basename(path)) || unfinished.has(path)) continue;
    const found = await stat(path).catch(() => undefined);
    if (found && Date.now() - found.mtimeMs > ABANDONED_MS) await rm(path, { force: true });
  }
}

/** Removes what replaceFilesBy() left of these files, in their folder, when its process was killed. */
export async function removeAbandonedOf(paths: readonly string[]): Promise<void> {
  const { readdir, rm, stat } = lazyFiles();
  const folder = dirname(paths[0]!);
  const names = new Set(paths.map((path) => basename(path)));
  for (const name of await readdir(folder)) {
    const [, of] = /^\.(.+)\.[0-9a-f]{12}\.tmp$/.exec(name) ?? [];
    const path = join(folder, name);
    if (of === undefined || !names.has(of) || unfinished.has(path)) continue;
    const found = await stat(path).catch(() => undefined);
    if (found && Date.now() - found.mtimeMs > ABANDONED_MS) await rm(path, { force: true });
  }
}

/** The new name itself must reach the disk; Windows opens no folders and needs none of this. */
export async function syncFolder(path: string): Promise<void> {
  if (process.platform === 'win32') return;
  const folder = await lazyFiles().open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
