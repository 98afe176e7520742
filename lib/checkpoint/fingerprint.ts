import type { FileHandle } from 'node:fs/promises';
import { lazyCrypto, lazyFiles } from '../lazy.js';
import { asCheckpointError } from './files.js';
import { leavesOf, type StoredTensor } from './stored.js';

const SAMPLE = 256;

/**
 * What tells these tensors from others of the same names and shapes: a hash over their types and the first and last
 * bytes of each. Where they lie (folder, shards, format) does not count, so a copy elsewhere is the same checkpoint.
 */
export async function fingerprintTensors(tensors: Iterable<StoredTensor>): Promise<string> {
  const hash = lazyCrypto().createHash('sha256');
  const files = new Map<string, FileHandle>();
  try {
    for (const t of [...tensors].flatMap(leavesOf)) {
      hash.update(
        `${t.name}|${t.dtype}|${t.shape.join(',')}|${t.byteLength}${t.strides ? `|${t.strides.join(',')}` : ''}\n`,
      );
      let file = files.get(t.file);
      if (!file) {
        file = await lazyFiles()
          .open(t.file)
          .catch((error): never => {
            throw asCheckpointError(t.file, error);
          });
        files.set(t.file, file);
      }
      const length = Math.min(SAMPLE, t.byteLength);
      const sample = Buffer.alloc(2 * length);
      await file.read(sample, 0, length, t.offset);
      await file.read(sample, length, length, t.offset + t.byteLength - length);
      hash.update(sample);
    }
  } finally {
    for (const file of files.values()) await file.close();
  }
  return hash.digest('hex');
}
