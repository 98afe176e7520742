// Whose a download that is not whole is: a process writes to a file of its own, takes over what nobody writes to any more,
// and waits for one who does, so that several that want the same model at once get it once and never mix their bytes.
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { threadId } from 'node:worker_threads';
import { lazyFiles } from '../lazy.js';

const SUFFIX = '.incomplete';
// Who has written nothing for so long is no longer waited for; if it is on another machine, it is taken for dead.
const SILENT_MS = 60_000;
const LOOK_MS = 200;

const HERE = hostname().replace(/[^\w-]/g, '_');
const ME = `${HERE}+${process.pid}+${threadId}`;
const open = new Set<string>();
let count = 0;

/**
 * Where to write, with what nobody else was writing to in it already; undefined where the whole has come meanwhile. Of several
 * that begin at once the one whose name comes first goes on.
 */
export async function claim(
  path: string,
  size: number,
  pause: (ms: number) => Promise<void>,
): Promise<string | undefined> {
  const mine = `${path}.${ME}+${count++}${SUFFIX}`;
  const isThere = async () =>
    (
      await lazyFiles()
        .stat(path)
        .catch(() => undefined)
    )?.size === size;
  for (;;) {
    if (await isThere()) return undefined;
    const found = await partials(path);
    if (!found.some(({ busy }) => busy) && (await take(mine, found))) {
      // Who was writing may have ended since it was looked for.
      if ((await isAlone(path, mine, pause)) && !(await isThere())) return mine;
      await leave(path, mine);
    }
    await pause(LOOK_MS);
  }
}

/**
 * Whether nobody else writes. The first by name of several waits for the others to leave; who does not has looked before
 * this one came, and goes on.
 */
async function isAlone(path: string, mine: string, pause: (ms: number) => Promise<void>): Promise<boolean> {
  const busy = async () => (await partials(path)).filter((other) => other.busy && other.path !== mine);
  const others = await busy();
  if (others.length === 0) return true;
  if (others.some((other) => other.path < mine)) return false;
  try {
    await pause(LOOK_MS);
  } catch (aborted) {
    await leave(path, mine);
    throw aborted;
  }
  return (await busy()).length === 0;
}

/** The longest of what is free, or nothing yet; false where another was faster. */
async function take(mine: string, found: readonly Partial[]): Promise<boolean> {
  const { rename, writeFile } = lazyFiles();
  const [best] = found.filter(({ free }) => free).sort((a, b) => b.size - a.size);
  open.add(mine);
  if (!best) return writeFile(mine, '').then(() => true);
  return rename(best.path, mine).then(
    () => true,
    () => !open.delete(mine),
  );
}

/** Leaves what has come to whoever tries next. */
export async function leave(path: string, mine: string): Promise<void> {
  const { rename, rm, stat } = lazyFiles();
  const size = (await stat(mine).catch(() => undefined))?.size;
  // Not there: it has become the whole file.
  if (size === 0) await rm(mine, { force: true });
  else if (size !== undefined) await rename(mine, `${path}${SUFFIX}`).catch(() => {});
  open.delete(mine);
}

interface Partial {
  path: string;
  size: number;
  /** Somebody writes to it. */
  busy: boolean;
  /** Nobody will again. */
  free: boolean;
}

async function partials(path: string): Promise<Partial[]> {
  const { readdir, stat } = lazyFiles();
  const folder = dirname(path);
  const begins = `${basename(path)}.`;
  const names = await readdir(folder).catch(() => [] as string[]);
  const found: Partial[] = [];
  for (const name of names) {
    if (!name.startsWith(begins) || !name.endsWith(SUFFIX)) continue;
    const its = join(folder, name);
    const known = await stat(its).catch(() => undefined);
    if (!known) continue;
    const owner = name.slice(begins.length, -SUFFIX.length);
    const silent = Date.now() - known.mtimeMs > SILENT_MS;
    const gone = owner === '' || !lives(its, owner);
    found.push({ path: its, size: known.size, busy: !gone && !silent, free: gone || (silent && !isHere(owner)) });
  }
  return found;
}

const isHere = (owner: string): boolean => owner.startsWith(`${HERE}+`);

/** Whether its owner may still write to it. */
function lives(path: string, owner: string): boolean {
  if (owner.startsWith(`${ME}+`)) return open.has(path);
  if (!isHere(owner)) return true;
  try {
    process.kill(Number(owner.split('+')[1]), 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
