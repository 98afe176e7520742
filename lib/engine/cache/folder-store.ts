import { dirname, join, resolve } from 'node:path';
import { removeAbandoned, replaceFile } from '../../atomic-file.js';
import { mismatch, show } from '../../errors.js';
import { filePieces } from '../../file-pieces.js';
import { lazyFiles } from '../../lazy.js';
import { checkOptions, checkPath } from '../../options.js';
import type { SnapshotStore, StoredPieces } from './store.js';

/** How much a folder may hold. */
export interface FolderStoreOptions {
  /** The files that were used longest ago go first. Default: 16 GiB. */
  bytes?: number | undefined;
}

const KEY = /^[a-z0-9-]+(\/[a-z0-9-]+)*$/;
const PREFIX = /^([a-z0-9-]+\/)*$/;
const ENDING = '.snapshot';

/** What is there, in the order of its last use, and what all of it holds. */
class Contents {
  held = 0;
  private readonly bytes = new Map<string, number>();

  set(key: string, bytes: number): void {
    this.delete(key);
    this.bytes.set(key, bytes);
    this.held += bytes;
  }

  delete(key: string): void {
    this.held -= this.bytes.get(key) ?? 0;
    this.bytes.delete(key);
  }

  used(key: string): void {
    const bytes = this.bytes.get(key);
    if (bytes !== undefined) this.set(key, bytes);
  }

  get oldest(): string | undefined {
    const [key] = this.bytes.keys();
    return key;
  }
}

/**
 * Snapshots as files of a folder (on a disk of this machine, or one that several mount). A file is written beside its
 * place and renamed, so that a kill at any moment leaves the old one or the new.
 * @public
 */
export function folderStore(folder: string, options: FolderStoreOptions = {}): SnapshotStore {
  checkPath('folderStore: folder', folder);
  checkOptions('folderStore', options, ['bytes']);
  const { bytes = 16 * 2 ** 30 } = options;
  if (!Number.isSafeInteger(bytes) || bytes < 0)
    throw mismatch('ERR_ARGUMENT', 'folderStore: bytes', 'a whole number from 0 on', show(bytes));
  return new FolderStore(resolve(folder), bytes);
}

class FolderStore implements SnapshotStore {
  /** What is there, read once; other processes' files count from the next start on. */
  private kept: Promise<Contents> | undefined;

  constructor(
    private readonly root: string,
    private readonly limit: number,
  ) {}

  async get(key: string): Promise<Uint8Array | undefined> {
    const found = await this.read(key);
    if (!found) return undefined;
    const value = new Uint8Array(found.bytes);
    let at = 0;
    for await (const piece of found.pieces) {
      value.set(piece, at);
      at += piece.length;
    }
    return value.subarray(0, at);
  }

  async read(key: string): Promise<StoredPieces | undefined> {
    const path = this.path(key);
    try {
      const found = await filePieces(path);
      this.touch(key, path);
      return found;
    } catch (error) {
      if (missing(error)) return undefined;
      throw error;
    }
  }

  /** It is used now; whoever reads it does not wait for that. */
  private touch(key: string, path: string): void {
    const now = new Date();
    void (async () => {
      (await this.contents()).used(key);
      await lazyFiles().utimes(path, now, now);
    })().catch(() => {}); // somebody else has deleted it
  }

  async put(key: string, value: Uint8Array): Promise<void> {
    const kept = await this.contents();
    const path = this.path(key);
    if (value.length > this.limit) return;
    await this.makeRoom(kept, value.length);
    await lazyFiles().mkdir(dirname(path), { recursive: true });
    await replaceFile(path, value);
    kept.set(key, value.length);
  }

  async delete(key: string): Promise<void> {
    await lazyFiles().rm(this.path(key), { force: true });
    (await this.contents()).delete(key);
  }

  async *list(prefix: string): AsyncGenerator<string> {
    if (!PREFIX.test(prefix)) throw mismatch('ERR_ARGUMENT', 'store: prefix', 'names that end in /', show(prefix));
    let entries: string[];
    try {
      entries = await lazyFiles().readdir(join(this.root, prefix), { recursive: true });
    } catch (error) {
      if (missing(error)) return;
      throw error;
    }
    for (const entry of entries)
      if (entry.endsWith(ENDING)) yield prefix + entry.slice(0, -ENDING.length).replaceAll('\\', '/');
  }

  private path(key: string): string {
    if (typeof key !== 'string' || !KEY.test(key))
      throw mismatch('ERR_ARGUMENT', 'store: key', 'lower-case letters, digits, - and /', show(key));
    return join(this.root, `${key}${ENDING}`);
  }

  private contents(): Promise<Contents> {
    this.kept ??= this.survey();
    return this.kept;
  }

  private async survey(): Promise<Contents> {
    const there: { key: string; bytes: number; usedMs: number }[] = [];
    await removeAbandoned(this.root);
    for await (const key of this.list('')) {
      const found = await lazyFiles()
        .stat(this.path(key))
        .catch(() => undefined);
      if (found) there.push({ key, bytes: found.size, usedMs: found.mtimeMs });
    }
    const kept = new Contents();
    for (const { key, bytes } of there.sort((a, b) => a.usedMs - b.usedMs)) kept.set(key, bytes);
    return kept;
  }

  private async makeRoom(kept: Contents, wanted: number): Promise<void> {
    for (let { oldest } = kept; oldest !== undefined && kept.held + wanted > this.limit; { oldest } = kept)
      await this.delete(oldest);
  }
}

const missing = (error: unknown): boolean =>
  ['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '');
