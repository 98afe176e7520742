// A model from the Hugging Face hub, in the cache that Python's tools share: models--owner--name with blobs by hash,
// snapshots of links by commit, and refs that say which commit a branch was.
import { dirname, join, relative } from 'node:path';
import { replaceFile } from '../atomic-file.js';
import { checkCall, type Watched, watched } from '../cancellation.js';
import { StatespaceError } from '../errors.js';
import { lazyFiles } from '../lazy.js';
import { checkKnown } from '../options.js';
import { neededFiles } from './choose.js';
import { type HubSource, hubEndpoint, hubOffline, hubToken, parseHubSource } from './source.js';
import { transfer, type Wanted } from './transfer.js';

/** How a download is watched and stopped. */
export interface PullOptions {
  /** Stops it; what has arrived stays and is gone on from next time. */
  signal?: AbortSignal | undefined;
  /** Called as bytes arrive; what an earlier attempt left counts as loaded. */
  onProgress?: ((done: Progress) => void) | undefined;
}

interface Progress {
  loadedBytes: number;
  totalBytes: number;
}

interface Listed {
  path: string;
  size: number;
  hash: Wanted['hash'];
}

const WEIGHTS = /\.(safetensors|bin|pth|gguf)$/;
const COMMIT = /^[0-9a-f]{40}$/;
/** Small files side by side; one large one fills the line by itself. */
const together = 4;

const lazyHub = (): typeof import('@huggingface/hub') => require('@huggingface/hub');

/**
 * Brings what loadModel needs of 'hf:owner/name[/file.gguf][@revision]' into the cache (HF_HUB_CACHE, HF_HOME) and
 * returns the folder, or the GGUF file. A complete snapshot of a commit is not asked for again; with HF_HUB_OFFLINE
 * nothing is. Sizes and hashes are checked; a cut download goes on.
 *
 * @throws StatespaceError ERR_ARGUMENT for another form; ERR_CHECKPOINT with the address and what to do.
 */
export async function pull(text: string, options: PullOptions = {}): Promise<string> {
  const source = parseHubSource(text);
  checkCall('pull', options);
  checkKnown('pull', options, ['signal', 'onProgress']);
  options.signal?.throwIfAborted();
  const { getHFHubCachePath, getRepoFolderName } = lazyHub();
  const cache = join(getHFHubCachePath(), getRepoFolderName({ type: 'model', name: source.repo }));
  if (hubOffline()) return kept(cache, source);
  const token = await hubToken();
  const commit = await commitOf(source, token);
  const listed = await list(source, commit, token);
  const names = neededFiles(source.repo, [...listed.keys()], source.file);
  const files = names.map((name) => listed.get(name)!);
  const watch = watched(options);
  try {
    await bring(cache, source, commit, files, token, watch);
    watch.check();
  } finally {
    watch.end();
  }
  await writeRef(cache, source.revision, commit);
  return placeOf(join(cache, 'snapshots', commit), names);
}

/** A folder, or the first file of a GGUF. */
function placeOf(snapshot: string, names: readonly string[]): string {
  const gguf = names.filter((n) => n.endsWith('.gguf'));
  return gguf.length === names.length ? join(snapshot, gguf[0]!) : snapshot;
}

/** What an earlier pull left, without asking. */
async function kept(cache: string, source: HubSource): Promise<string> {
  const { readFile, readdir } = lazyFiles();
  const missing = (why: string) =>
    new StatespaceError(
      'ERR_CHECKPOINT',
      `hf:${source.repo}@${source.revision}: ${why}, and HF_HUB_OFFLINE forbids asking the hub`,
    );
  const commit = COMMIT.test(source.revision)
    ? source.revision
    : (await readFile(join(cache, 'refs', source.revision), 'utf8').catch(() => '')).trim();
  if (!COMMIT.test(commit)) throw missing('it is not in the cache');
  const snapshot = join(cache, 'snapshots', commit);
  const entries = await readdir(snapshot, { recursive: true, encoding: 'utf8' }).catch(() => [] as string[]);
  if (entries.length === 0) throw missing('its snapshot is not in the cache');
  if (!entries.some((name) => WEIGHTS.test(name))) throw missing('its weights are not in the cache');
  return placeOf(snapshot, neededFiles(source.repo, entries, source.file));
}

async function commitOf(source: HubSource, token: string | undefined): Promise<string> {
  if (COMMIT.test(source.revision)) return source.revision;
  const { modelInfo } = lazyHub();
  const info = await asking(source, () =>
    modelInfo({
      name: source.repo,
      revision: source.revision,
      hubUrl: hubEndpoint(),
      additionalFields: ['sha'],
      ...(token && { accessToken: token }),
    }),
  );
  if (typeof info.sha !== 'string' || !COMMIT.test(info.sha))
    throw new StatespaceError('ERR_CHECKPOINT', `hf:${source.repo}: the hub named no commit of ${source.revision}`);
  return info.sha;
}

async function list(source: HubSource, commit: string, token: string | undefined): Promise<Map<string, Listed>> {
  const { listFiles } = lazyHub();
  return asking(source, async () => {
    const files = new Map<string, Listed>();
    const repo = { type: 'model' as const, name: source.repo };
    const entries = listFiles({
      repo,
      revision: commit,
      recursive: true,
      hubUrl: hubEndpoint(),
      ...(token && { accessToken: token }),
    });
    for await (const { type, path, size, lfs, oid } of entries) {
      if (type !== 'file' || path.split('/').some((p) => p === '..' || p === '')) continue;
      const hash: Wanted['hash'] = lfs
        ? { algorithm: 'sha256', digest: lfs.oid.replace(/^sha256:/, '') }
        : { algorithm: 'git-sha1', digest: oid ?? '' };
      if (/^[0-9a-f]{40,64}$/.test(hash.digest)) files.set(path, { path, size: lfs?.size ?? size, hash });
    }
    return files;
  });
}

/** The hub's refusals, in words. */
async function asking<T>(source: HubSource, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const { statusCode, message, cause } = error as { statusCode?: number; message: string; cause?: Error };
    const why =
      statusCode === 401 || statusCode === 403
        ? `${statusCode}: there is no such model, or it needs a token that may read it (HF_TOKEN)`
        : statusCode === 404
          ? '404: there is no such model or revision'
          : statusCode === 429
            ? '429: too many requests; try again later, or with a token (HF_TOKEN)'
            : `the hub at ${hubEndpoint()} cannot be asked: ${cause?.message ?? message}`;
    throw new StatespaceError('ERR_CHECKPOINT', `hf:${source.repo}@${source.revision}: ${why}`, { cause: error });
  }
}

async function bring(
  cache: string,
  source: HubSource,
  commit: string,
  files: readonly Listed[],
  token: string | undefined,
  { signal, report }: Watched<Progress>,
): Promise<void> {
  const totalBytes = files.reduce((n, f) => n + f.size, 0);
  let loadedBytes = 0;
  let failed: { error: unknown } | undefined;
  const count = (n: number) => {
    loadedBytes += n;
    report?.({ loadedBytes, totalBytes });
  };
  const waiting = [...files].sort((a, b) => a.size - b.size);
  const worker = async (): Promise<void> => {
    for (let file = waiting.shift(); file && !failed; file = waiting.shift()) {
      try {
        await bringOne(cache, source, commit, file, token, signal, count);
      } catch (error) {
        failed ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: together }, worker));
  if (failed) throw failed.error;
}

async function bringOne(
  cache: string,
  source: HubSource,
  commit: string,
  file: Listed,
  token: string | undefined,
  signal: AbortSignal | undefined,
  onBytes: (n: number) => void,
): Promise<void> {
  const { stat, mkdir, symlink, rm, copyFile } = lazyFiles();
  const blob = join(cache, 'blobs', file.hash.digest);
  const there = await stat(blob).catch(() => undefined);
  if (there?.size === file.size) onBytes(file.size);
  else {
    const path = file.path.split('/').map(encodeURIComponent).join('/');
    const url = `${hubEndpoint()}/${source.repo}/resolve/${commit}/${path}`;
    const headers: Record<string, string> = token ? { authorization: `Bearer ${token}` } : {};
    await transfer({ url, path: blob, size: file.size, hash: file.hash, headers }, signal, onBytes);
  }
  const link = join(cache, 'snapshots', commit, file.path);
  await mkdir(dirname(link), { recursive: true });
  if ((await stat(link).catch(() => undefined))?.size === file.size) return;
  await rm(link, { force: true });
  await symlink(relative(dirname(link), blob), link).catch(async (error: NodeJS.ErrnoException) => {
    if (error.code === 'EEXIST') return; // another process was faster
    if (error.code !== 'EPERM') throw error;
    await copyFile(blob, link); // Windows without the right to make links
  });
}

async function writeRef(cache: string, revision: string, commit: string): Promise<void> {
  if (COMMIT.test(revision)) return;
  const path = join(cache, 'refs', revision);
  const known = await lazyFiles()
    .readFile(path, 'utf8')
    .catch(() => '');
  if (known.trim() === commit) return;
  await lazyFiles().mkdir(dirname(path), { recursive: true });
  await replaceFile(path, Buffer.from(commit)); // whole at any time: others read it meanwhile
}
