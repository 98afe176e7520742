// Files of weights that others write to while loadModel reads them, or later: ERR_CHECKPOINT or the model, never a crash.
import {
  cpSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { loadModel, StatespaceError } from 'statespace';
import { describe, expect, test } from 'vitest';
import { safetensorsOf, scratchFolders } from '../support/checkpoint-files.js';
import { goldenRoot, modelCase, readGolden } from '../support/golden.js';
import { amount } from '../support/scale.js';
import { wanted } from '../support/stalls.js';

const folders = scratchFolders();
const WEIGHTS = /\.(safetensors|bin|pth|gguf)$/;

function copyOf(folder: string): string {
  const place = folders.put({});
  cpSync(folder, place, { recursive: true });
  return place;
}

/** Half of the tensors in each of two files, and the index that names them. */
function sharded(): string {
  const { folder } = modelCase('llama_gqa');
  const all = Object.entries(readGolden(join(folder, 'model.safetensors')).tensors);
  const names = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'] as const;
  const half = all.length >> 1;
  const map = all.map(([name], i) => [name, names[i < half ? 0 : 1]]);
  return folders.put({
    'config.json': readFileSync(join(folder, 'config.json')),
    'model.safetensors.index.json': JSON.stringify({ metadata: {}, weight_map: Object.fromEntries(map) }),
    [names[0]]: safetensorsOf(Object.fromEntries(all.slice(0, half))),
    [names[1]]: safetensorsOf(Object.fromEntries(all.slice(half))),
  });
}

const kinds: Record<string, () => string> = {
  safetensors: () => copyOf(modelCase('mamba_hf').folder),
  shards: sharded,
  'PyTorch zip': () => copyOf(modelCase('rwkv6_orig').folder),
  GGUF: () => folders.put({ 'model.gguf': readFileSync(join(goldenRoot, 'gguf/models/mamba.q8_0.gguf')) }),
};

/** The last of the files of weights. */
const lastOf = (folder: string) =>
  join(
    folder,
    readdirSync(folder)
      .filter((n) => WEIGHTS.test(n))
      .sort()
      .at(-1)!,
  );

const changes: Record<string, (file: string) => void> = {
  'is cut short': (file) => truncateSync(file, statSync(file).size >> 1),
  'is emptied': (file) => truncateSync(file, 0),
  'is overwritten in place': (file) => {
    const bytes = readFileSync(file);
    writeFileSync(file, bytes.fill(1, bytes.length >> 1));
  },
  'is replaced': (file) => {
    writeFileSync(`${file}.part`, readFileSync(file));
    renameSync(`${file}.part`, file);
  },
  'is taken away': (file) => unlinkSync(file),
};

describe.each(Object.keys(kinds))('%s', (kind) => {
  test.each(Object.keys(changes))('a file that %s while it is read', async (change) => {
    const load = async () => {
      const folder = kinds[kind]!();
      const file = lastOf(folder);
      let changed = false;
      const onProgress = () => {
        if (!changed) changes[change]!(file);
        changed = true;
      };
      const outcome = await loadModel(folder, { onProgress }).catch((e) => e);
      expect(changed).toBe(true);
      return { file, outcome };
    };
    // A thread that is halted hears of progress when all has been read.
    const { file, outcome } = await wanted(({ outcome }) => outcome instanceof Error, load);
    expect(outcome).toBeInstanceOf(StatespaceError);
    expect(outcome).toMatchObject({ code: 'ERR_CHECKPOINT', message: expect.stringContaining(file) });
  });

  test('at any moment: the model, or that error', { timeout: 600_000 }, async () => {
    const tries = amount(8, 400);
    for (const [change, make] of Object.entries(changes)) {
      for (let i = 0; i < tries / Object.keys(changes).length; i++) {
        const folder = kinds[kind]!();
        const timer = setTimeout(make, (i * 29) % 17, lastOf(folder));
        const outcome = await loadModel(folder).then(
          (model) => model.dispose(),
          (error) => error,
        );
        clearTimeout(timer);
        if (outcome !== undefined) expect(outcome, change).toMatchObject({ code: 'ERR_CHECKPOINT' });
      }
    }
  });

  test('later, a model needs its files no more', async () => {
    const folder = kinds[kind]!();
    await using model = await loadModel(folder);
    const before = await model.createSession().forward([1, 2, 3]);
    truncateSync(lastOf(folder), 0);
    expect((await model.createSession().forward([1, 2, 3])).data).toEqual(before.data);
    unlinkSync(lastOf(folder));
    expect((await model.createSession().forward([1, 2, 3])).data).toEqual(before.data);
  });
});
