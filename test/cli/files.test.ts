import { mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { checkWritable, readConfig, writeFileAtomically } from '../../dist/lib/cli/files.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'statespace-files-'));
});

describe('atomic writing', () => {
  it('replaces the file and leaves nothing beside it', () => {
    const path = join(folder, 'report.json');
    writeFileAtomically(path, 'old');
    writeFileAtomically(path, 'new, ä'.repeat(100_000));
    expect(readFileSync(path, 'utf8')).toBe('new, ä'.repeat(100_000));
    expect(readdirSync(folder)).toEqual(['report.json']);
  });

  it('removes its temporary file when the target cannot be replaced', () => {
    const path = join(folder, 'taken');
    mkdirSync(join(path, 'inside'), { recursive: true });
    expect(() => writeFileAtomically(path, 'text')).toThrow(/cannot write .*taken/);
    expect(readdirSync(folder)).toEqual(['taken']);
  });

  it('refuses beforehand what it could not write', () => {
    expect(() => checkWritable(join(folder, 'none', 'x.json'))).toThrow(/no folder/);
    expect(() => checkWritable(folder)).toThrow(/is not a file/);
  });
});

describe('config reading', () => {
  it('reads both spellings of infinity, and strings that hold the word', () => {
    const path = join(folder, 'config.json');
    writeFileSync(
      path,
      '{"a": [0.0, Infinity], "b": -Infinity, "c": {"__float__": "Infinity"}, "d": "Infinity, \\" Infinity"}',
    );
    expect(readConfig(folder)).toEqual({
      a: [0, Number.POSITIVE_INFINITY],
      b: Number.NEGATIVE_INFINITY,
      c: Number.POSITIVE_INFINITY,
      d: 'Infinity, " Infinity',
    });
    expect(readConfig(path)).toEqual(readConfig(folder));
  });

  it('reads any JSON object as JSON.parse does', () => {
    const path = join(folder, 'config.json');
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (config) => {
        const text = JSON.stringify(config);
        writeFileSync(path, text);
        expect(readConfig(path)).toEqual(JSON.parse(text));
      }),
    );
  });

  it('refuses what is no object of keys', () => {
    const path = join(folder, 'config.json');
    for (const text of ['[]', 'null', '3', '{', '']) {
      writeFileSync(path, text);
      expect(() => readConfig(path)).toThrow(path);
    }
    expect(() => readConfig(mkdtempSync(join(tmpdir(), 'statespace-empty-')))).toThrow(/has no config.json/);
  });
});
