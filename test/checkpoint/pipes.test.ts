// Only regular files are read: a pipe in the place of any file of a model is refused, and nothing waits for its writer.
// What a download left in place of a file is said in words.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadModel } from 'statespace';
import { describe, expect, it } from 'vitest';
import { scratchFolders } from '../support/checkpoint-files.js';
import { modelCase } from '../support/golden.js';
import { needs } from '../support/needs.js';
import { SMALL, tokenizerFiles } from '../support/tokenizer-kinds.js';

const folders = scratchFolders();
const FILES = ['config.json', 'generation_config.json', 'model.safetensors', 'model.safetensors.index.json'];
FILES.push('pytorch_model.bin', 'tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja');
const within = <T>(work: Promise<T>): Promise<T | 'waits'> =>
  Promise.race([work, new Promise<'waits'>((late) => setTimeout(() => late('waits'), 120_000))]);

function folder(): string {
  const place = folders.put(tokenizerFiles(SMALL, false));
  cpSync(modelCase('mamba_hf').folder, place, { recursive: true });
  return place;
}

describe.runIf(needs(process.platform !== 'win32', 'a system with named pipes')).each(FILES)('%s', (name) => {
  it.each(['a pipe', 'a folder'])('that is %s', async (what) => {
    const place = folder();
    const file = join(place, name);
    rmSync(file, { force: true });
    // Else the other weights are what is read.
    if (name.startsWith('pytorch') || name.endsWith('index.json')) rmSync(join(place, 'model.safetensors'));
    if (what === 'a pipe') execFileSync('mkfifo', [file]);
    else mkdirSync(file);
    const failure = await within(loadModel(place)).catch((e) => e);
    expect(failure).toMatchObject({ name: 'StatespaceError', code: 'ERR_CHECKPOINT' });
    expect(failure.message).toContain(name);
  });
});

describe('what a failed download leaves', () => {
  const left = {
    'a Git LFS pointer': ['version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n', /LFS pointer/],
    'a web page': ['\n<!DOCTYPE html>\n<html><body>Access denied</body></html>', /web page/],
    'a page of another kind': ['<html lang="en"><head></head></html>', /web page/],
  } as const;
  it.each(FILES.flatMap((name) => Object.keys(left).map((what) => [name, what as keyof typeof left] as const)))(
    '%s that is %s is said in words',
    async (name, what) => {
      const [text, message] = left[what];
      const place = folder();
      if (name.startsWith('pytorch') || name.endsWith('index.json')) rmSync(join(place, 'model.safetensors'));
      writeFileSync(join(place, name), text);
      const failure = await loadModel(place).catch((e) => e);
      expect(failure).toMatchObject({ name: 'StatespaceError', code: 'ERR_CHECKPOINT' });
      expect(failure.message).toMatch(message);
      expect(failure.message).toContain(name);
    },
  );
});

it.runIf(needs(process.platform !== 'win32', 'a system with named pipes'))('a snapshot that is a pipe', async () => {
  const place = folder();
  await using model = await loadModel(place);
  const file = join(place, 'snapshot');
  execFileSync('mkfifo', [file]);
  await expect(within(model.restoreSessionFromFile(file))).rejects.toMatchObject({ code: 'ERR_STATE' });
});
