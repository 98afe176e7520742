import { basename, dirname, join, resolve } from 'node:path';
import { syncFolder } from './atomic-file.js';
import { StatespaceError, show } from './errors.js';
import { lazyCrypto, lazyFiles } from './lazy.js';

/** Where a path leads: what a link names is replaced there, and the link stays. */
export async function placeOf(path: string): Promise<string> {
  const { readlink } = lazyFiles();
  let place = resolve(path);
  for (let links = 0; links < 40; links++) {
    const to = await readlink(place).catch(() => undefined);
    if (to === undefined) break;
    place = resolve(dirname(place), to);
  }
  return place;
}

/** What a folder that was being replaced when the process was killed is found under. */
const previousOf = (folder: string): string => join(dirname(folder), `.${basename(folder)}.previous`);

async function names(folder: string): Promise<string[] | undefined> {
  try {
    return await lazyFiles().readdir(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new StatespaceError('ERR_ARGUMENT', `save: ${folder}: cannot be replaced: ${(error as Error).message}`);
  }
}

/** The folder's names, if it is there; throws where it must not be replaced. */
async function replaceable(path: string, marks: readonly string[]): Promise<readonly string[] | undefined> {
  if (typeof path !== 'string' || path === '')
    throw new StatespaceError('ERR_ARGUMENT', `save: folder: expected a path, received ${show(path)}`);
  const folder = await placeOf(path);
  const before = await names(folder);
  if (before && before.length > 0 && !before.some((name) => marks.includes(name)))
    throw new StatespaceError(
      'ERR_ARGUMENT',
      `save: ${folder}: holds other files, no saved model; give another folder`,
    );
  return before;
}

const besides = (folder: string): string =>
  join(dirname(folder), `.${basename(folder)}.${lazyCrypto().randomBytes(6).toString('hex')}.tmp`);

// Nobody writes any more where nothing was written for so long.
const ABANDONED_MS = 10 * 60_000;

/** Removes what kills left of earlier saves: each is as large as a checkpoint. */
async function removeAbandoned(folder: string): Promise<void> {
  const { readdir, rm, stat } = lazyFiles();
  const [parent, begin] = [dirname(folder), `.${basename(folder)}.`];
  for (const name of await readdir(parent)) {
    if (!name.startsWith(begin) || !/^[0-9a-f]{12}\.tmp$/.test(name.slice(begin.length))) continue;
    const path = join(parent, name);
    const files = [path, ...(await readdir(path, { recursive: true })).map((file) => join(path, file))];
    const written = await Promise.all(files.map(async (file) => (await stat(file)).mtimeMs));
    if (Math.max(...written) < Date.now() - ABANDONED_MS) await rm(path, { recursive: true, force: true });
  }
}

/**
 * That replaceFolder() will be able to write there, before work that ends in it.
 *
 * @throws StatespaceError ERR_ARGUMENT where it will not.
 */
export async function checkReplaceable(path: string, marks: readonly string[]): Promise<void> {
  await replaceable(path, marks);
  const { mkdir, rmdir } = lazyFiles();
  const folder = await placeOf(path);
  try {
    await mkdir(dirname(folder), { recursive: true });
    const made = besides(folder);
    await mkdir(made);
    await rmdir(made);
  } catch (error) {
    throw unwritten(folder, error);
  }
}

const unwritten = (folder: string, cause: unknown): StatespaceError =>
  cause instanceof StatespaceError
    ? cause
    : new StatespaceError('ERR_ARGUMENT', `save: ${folder}: cannot be written: ${(cause as Error).message}`, { cause });

/**
 * A folder that is there whole or not at all: written beside its place, synced, and renamed. A kill between the two renames
 * leaves the old one as `.NAME.previous`, which recoverFolder() puts back.
 *
 * @throws StatespaceError ERR_ARGUMENT where the folder holds files but none that `marks` it as one that was saved, or cannot be written.
 */
export async function replaceFolder(
  path: string,
  marks: readonly string[],
  write: (folder: string) => Promise<void>,
): Promise<void> {
  const before = await replaceable(path, marks);
  const { mkdir, rename, rm } = lazyFiles();
  const folder = await placeOf(path);
  const made = besides(folder);
  try {
    await mkdir(dirname(folder), { recursive: true });
    await mkdir(made);
    await write(made);
    await syncFolder(made);
    const previous = previousOf(folder);
    if (before) {
      await rm(previous, { recursive: true, force: true });
      await rename(folder, previous);
    }
    try {
      await rename(made, folder);
    } catch (error) {
      if (before) await rename(previous, folder);
      throw error;
    }
    await syncFolder(dirname(folder));
    await rm(previous, { recursive: true, force: true });
    await removeAbandoned(folder).catch(() => {}); // what was to be saved is
  } catch (error) {
    await rm(made, { recursive: true, force: true }).catch(() => {}); // the first error says why
    throw unwritten(folder, error);
  }
}

/** Puts a folder back that a kill left under its other name. */
export async function recoverFolder(path: string): Promise<void> {
  const folder = await placeOf(path);
  const { lstat, rename } = lazyFiles();
  const isThere = (place: string) =>
    lstat(place).then(
      () => true,
      () => false,
    );
  if ((await isThere(folder)) || !(await isThere(previousOf(folder)))) return;
  await rename(previousOf(folder), folder);
}
