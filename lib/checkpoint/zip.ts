// The directory of a zip file whose entries are stored, not compressed, as PyTorch writes them; zip64 included. yauzl
// reads it; here is what a checkpoint demands beyond that, so that nothing a file claims is believed.
import type { Entry, RandomAccessReader, ZipFile as YauzlFile } from 'yauzl';
import { show } from '../errors.js';
import { decodeUtf8, type InputFile } from './files.js';
import { checkpointError } from './stored.js';

const lazyYauzl = (): typeof import('yauzl') => require('yauzl');

/** Bytes read at once: entries of the directory lie side by side, and yauzl asks for each in two pieces. */
const windowBytes = 64 * 1024;
/** Of a checkpoint; a hostile directory of a gigabyte could name twenty million. */
const maxEntries = 1_000_000;

export interface ZipEntry {
  readonly name: string;
  readonly size: number;
  readonly entry: Entry;
}

export class ZipFile {
  private constructor(
    private readonly file: InputFile,
    private readonly zip: YauzlFile,
    /** Entries end before it. */
    private readonly directory: number,
    readonly entries: ReadonlyMap<string, ZipEntry>,
  ) {}

  static async open(file: InputFile): Promise<ZipFile> {
    const zip = await refusing(file.path, async () => {
      return lazyYauzl().fromRandomAccessReaderPromise(await windowedReader(file), file.size, {
        autoClose: false,
        decodeStrings: false,
        validateEntrySizes: false, // checked here, in words about checkpoints
      });
    });
    if (zip.entryCount > maxEntries)
      throw checkpointError(
        file.path,
        `zip directory: expected at most ${maxEntries} entries, received ${zip.entryCount}`,
      );
    const directory = Number(zip.readEntryCursor); // where reading begins
    const entries = new Map<string, ZipEntry>();
    await refusing(file.path, async () => {
      for await (const entry of zip.eachEntry()) {
        const checked = checkedEntry(file.path, entry);
        if (entries.has(checked.name))
          throw checkpointError(`${file.path}: zip entry ${show(checked.name)}`, 'stands twice in the zip directory');
        entries.set(checked.name, checked);
      }
    });
    return new ZipFile(file, zip, directory, entries);
  }

  /** Where an entry's bytes begin in the file: behind its local header, which has lengths of its own. */
  async dataOffset({ name, size, entry }: ZipEntry): Promise<number> {
    const where = `${this.file.path}: zip entry ${show(name)}`;
    const { fileDataStart } = await refusing(where, () =>
      this.zip.readLocalFileHeaderPromise(entry, { minimal: true }),
    );
    if (fileDataStart + size > this.directory) {
      throw checkpointError(
        where,
        `expected ${size} bytes at ${fileDataStart}, received a file with ${this.directory} bytes of entries`,
      );
    }
    return fileDataStart;
  }

  async read(entry: ZipEntry, maxBytes: number): Promise<Buffer> {
    const what = `zip entry ${show(entry.name)}`;
    if (entry.size > maxBytes) {
      throw checkpointError(this.file.path, `${what}: expected at most ${maxBytes} bytes, received ${entry.size}`);
    }
    return this.file.read(await this.dataOffset(entry), entry.size, what);
  }
}

function checkedEntry(path: string, entry: Entry): ZipEntry {
  const name = decodeUtf8(`${path}: zip directory`, entry.fileNameRaw);
  const where = `${path}: zip entry ${show(name)}`;
  if (entry.isEncrypted()) throw checkpointError(where, 'expected no encryption');
  if (entry.compressionMethod !== 0) {
    throw checkpointError(
      where,
      `expected a stored entry, received compression method ${entry.compressionMethod}; save it again with torch.save`,
    );
  }
  const size = entry.uncompressedSize;
  if (!Number.isSafeInteger(size)) throw checkpointError(where, `expected a size, received ${size}`);
  if (size !== entry.compressedSize)
    throw checkpointError(
      where,
      `expected a stored entry of one size, received ${entry.compressedSize} bytes for ${size}`,
    );
  return { name, size, entry };
}

/** What yauzl reports becomes an ERR_CHECKPOINT that names the file. */
async function refusing<T>(where: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if ((error as { code?: string }).code === 'ERR_CHECKPOINT') throw error;
    throw checkpointError(where, `this is no sound zip file (truncated?): ${(error as Error).message}`, {
      cause: error,
    });
  }
}

async function windowedReader(file: InputFile): Promise<RandomAccessReader> {
  const { RandomAccessReader } = lazyYauzl();
  return new (class extends RandomAccessReader {
    private from = 0;
    private window: Buffer = Buffer.alloc(0);

    override read(to: Buffer, at: number, length: number, position: number, done: (error: Error | null) => void): void {
      this.fill(position, length).then(
        () => {
          this.window.copy(to, at, position - this.from, position - this.from + length);
          done(null);
        },
        (error) => done(error),
      );
    }

    private async fill(position: number, length: number): Promise<void> {
      const inside = position >= this.from && position + length <= this.from + this.window.length;
      if (inside) return;
      const bytes = Math.max(length, Math.min(windowBytes, file.size - position));
      this.window = await file.read(position, bytes, 'zip directory');
      this.from = position;
    }

    override close(done: (error: Error | null) => void): void {
      done(null);
    }
  })();
}
