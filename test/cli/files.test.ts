import { mkdirSync, mkdtempSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { removeAbandonedOf, replaceFile, replaceFilesBy } from '../../dist/lib/atomic-file.js';
import { checkWritable, readModelConfig, writeOutput } from '../../dist/lib/cli/files.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'statespace-files-'));
});

describe('atomic writing', () => {
  it('replaces the file and leaves nothing beside it', () => {
    const path = join(folder, 'report.json');
    writeOutput(path, 'old');
    writeOutput(path, 'new, ä'.repeat(100_000));
    expect(readFileSync(path, 'utf8')).toBe('new, ä'.repeat(100_000));
    expect(readdirSync(folder)).toEqual(['report.json']);
  });

  it('removes its temporary file when the target cannot be replaced', () => {
    const path = join(folder, 'taken');
    mkdirSync(join(path, 'inside'), { recursive: true });
    expect(() => writeOutput(path, 'text')).toThrow(/cannot write .*taken/);
    expect(readdirSync(folder)).toEqual(['taken']);
  });

  it('names the file that cannot be written, and leaves errors of who writes alone', async () => {
    const absent = join(folder, 'absent', 'x.gguf');
    await expect(replaceFile(absent, Buffer.from('x'))).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
      message: `${absent}: cannot be written: ENOENT: no such file or directory, open`,
    });
    const path = join(folder, 'x.gguf');
    const full = Object.assign(new Error('ENOSPC: no space left on device, write'), {
      syscall: 'write',
      code: 'ENOSPC',
    });
    await expect(replaceFilesBy([path], () => Promise.reject(full))).rejects.toThrow(
      `${path}: cannot be written: ENOSPC: no space left on device, write`,
    );
    const own = new Error('mine');
    await expect(replaceFilesBy([path], () => Promise.reject(own))).rejects.toBe(own);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('finds what a kill left of a file, once nobody writes it any more', async () => {
    const path = join(folder, 'x.gguf');
    const names = ['.x.gguf.0123456789ab.tmp', '.x.gguf.0123456789ac.tmp', '.y.gguf.0123456789ab.tmp', '.x.gguf.tmp'];
    for (const name of names) writeFileSync(join(folder, name), 'part');
    const old = Date.now() / 1000 - 7200;
    for (const name of names.filter((n) => !n.includes('9ac'))) utimesSync(join(folder, name), old, old);
    await removeAbandonedOf([path]);
    expect(readdirSync(folder).sort()).toEqual(names.slice(1).sort());
  });

  it('refuses beforehand what it could not write', () => {
    expect(() => checkWritable(join(folder, 'none', 'x.json'))).toThrow(/no folder/);
    expect(() => checkWritable(folder)).toThrow(/is a folder/);
  });
});

describe('config of a model', () => {
  it('is that of a folder or of a file, published infinities included', async () => {
    const path = join(folder, 'config.json');
    writeFileSync(path, '{"a": [0.0, Infinity], "c": {"__float__": "Infinity"}}');
    const expected = { a: [0, Number.POSITIVE_INFINITY], c: Number.POSITIVE_INFINITY };
    expect(await readModelConfig(folder)).toEqual(expected);
    expect(await readModelConfig(path)).toEqual(expected);
  });

  it('names the file that holds none', async () => {
    const path = join(folder, 'config.json');
    for (const text of ['[]', 'null', '3', '{', '']) {
      writeFileSync(path, text);
      await expect(readModelConfig(path)).rejects.toThrow(path);
    }
    const empty = mkdtempSync(join(tmpdir(), 'statespace-empty-'));
    await expect(readModelConfig(empty)).rejects.toThrow(empty);
    await expect(readModelConfig(join(empty, 'none'))).rejects.toThrow(/no file or folder/);
  });
});
