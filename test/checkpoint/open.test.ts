import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import { describe, expect, test } from 'vitest';
import { inferRwkvConfig } from '../../dist/lib/checkpoint/infer-rwkv.js';
import { openCheckpoint, type StoredTensor } from '../../dist/lib/checkpoint/open.js';
import {
  expectRefused,
  matrix,
  op,
  pickle,
  pickledTensor,
  safetensors,
  scratchFolders,
  torchFile,
} from '../support/checkpoint-files.js';

const folders = scratchFolders();
const scalar = safetensors({ w: { dtype: 'F32', shape: [], data_offsets: [0, 4] } }, Buffer.alloc(4));
const pth = torchFile(pickle(op.dict(op.text('w'), pickledTensor(matrix))));
const index = (file: string) => JSON.stringify({ weight_map: { w: file } });

describe('of the files in a folder', () => {
  const inOrder: [string, Buffer | string][] = [
    ['model.safetensors', scalar],
    ['model.safetensors.index.json', index('shard.safetensors')],
    ['pytorch_model.bin', pth],
    ['pytorch_model.bin.index.json', index('shard.bin')],
    ['RWKV-x060-World.pth', pth],
  ];
  const others = {
    'shard.safetensors': scalar,
    'shard.bin': pth,
    'README.md': '#',
    'optimizer.pt': 'x',
    'adapter.safetensors': 'x',
  };
  const opened = ['model.safetensors', 'shard.safetensors', 'pytorch_model.bin', 'shard.bin', 'RWKV-x060-World.pth'];

  test.each(inOrder.map(([name], i) => [name, i] as const))('%s comes before the ones below it', async (_, i) => {
    const folder = folders.put({ ...others, ...Object.fromEntries(inOrder.slice(i)) });
    const { tensors } = await openCheckpoint(folder);
    expect(basename(tensors.get('w')!.file)).toBe(opened[i]);
  });

  test('a relative folder gives absolute files', async () => {
    const folder = folders.put({ 'model.safetensors': scalar });
    const { folder: root, tensors } = await openCheckpoint(relative(process.cwd(), folder));
    expect(root).toBe(folder);
    expect(tensors.get('w')!.file).toBe(join(folder, 'model.safetensors'));
  });

  test('configs are read where they are', async () => {
    const bare = await openCheckpoint(folders.put({ 'model.safetensors': scalar }));
    expect('config' in bare || 'generationConfig' in bare).toBe(false);
    const both = folders.put({
      'model.safetensors': scalar,
      'config.json': '{"a": Infinity}',
      'generation_config.json': '{"b": 1}',
    });
    expect(await openCheckpoint(both)).toMatchObject({ config: { a: Infinity }, generationConfig: { b: 1 } });
  });
});

describe('refused', () => {
  test.each<[string, () => string, RegExp]>([
    [
      'a folder without a model',
      () => folders.put({ 'config.json': '{}' }),
      /expected model\.safetensors, .*one \.pth file, received none/,
    ],
    [
      'two .pth files',
      () => folders.put({ 'a.pth': pth, 'b.pth': pth }),
      /received 2 \.pth files: \["a\.pth", "b\.pth"\]/,
    ],
    ['a folder that is not there', () => join(folders.put({}), 'missing'), /ENOENT/],
    [
      'a file',
      () => join(folders.put({ 'model.safetensors': scalar }), 'model.safetensors'),
      /give the folder that it/,
    ],
    ['an adapter', () => folders.put({ 'adapter_config.json': '{}' }), /holds an adapter .* among `adapters`/],
    ['a broken config', () => folders.put({ 'model.safetensors': scalar, 'config.json': '{' }), /config\.json:1:2/],
  ])('%s', async (_, make, message) => {
    const folder = make();
    await expectRefused(openCheckpoint(folder), folder, message);
  });

  test('a folder and a pipe in place of a file', async () => {
    const folder = folders.put({});
    mkdirSync(join(folder, 'model.safetensors'));
    await expectRefused(openCheckpoint(folder), 'model.safetensors', /expected a regular file/);
    const piped = folders.put({});
    execFileSync('mkfifo', [join(piped, 'model.safetensors')]);
    await expectRefused(openCheckpoint(piped), 'model.safetensors', /expected a regular file/);
  });

  test('a name on the hub, with how it is written', async () => {
    await expect(openCheckpoint('state-spaces/mamba-130m-hf')).rejects.toThrow(/"hf:state-spaces\/mamba-130m-hf"/);
    for (const path of ['./state-spaces/mamba-130m-hf', './mamba-130m', '../mamba-130m'])
      await expect(openCheckpoint(path)).rejects.toThrow(/: ENOENT/);
  });

  test.each([undefined, '', 7])('%s for a folder', async (folder) => {
    await expect(openCheckpoint(folder as string)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
  });
});

describe('an RWKV checkpoint whose shapes contradict each other', () => {
  const tensors = (shapes: Record<string, number[]>) =>
    new Map(
      Object.entries(shapes).map(([name, shape]) => [name, { name, shape, file: 'x.pth' } as unknown as StoredTensor]),
    );
  const common = {
    'emb.weight': [64, 32],
    'blocks.0.ln0.weight': [32],
    'blocks.0.ln1.weight': [32],
    'blocks.0.att.key.weight': [32, 32],
    'blocks.0.ffn.key.weight': [128, 32],
  };

  test.each<[string, Record<string, number[]>, string, RegExp]>([
    [
      'heads',
      { 'blocks.0.att.r_k': [3, 16] },
      'ERR_CHECKPOINT',
      /"blocks\.0\.att\.r_k": expected heads × size to be the 32 rows of blocks\.0\.att\.key\.weight/,
    ],
    ['a vector for heads', { 'blocks.0.att.r_k': [32] }, 'ERR_CHECKPOINT', /expected a matrix, received shape \[32\]/],
    [
      'a hole',
      { 'blocks.0.att.r_k': [2, 16], 'blocks.2.ln1.weight': [32] },
      'ERR_CHECKPOINT',
      /blocks\.1\.ln1\.weight before it/,
    ],
    [
      'version 5.0',
      { 'blocks.0.att.ln_x.weight': [32], 'blocks.0.att.time_first': [2] },
      'ERR_UNSUPPORTED_MODEL',
      /5\.0 or 5\.1/,
    ],
    ['no version', {}, 'ERR_UNSUPPORTED_MODEL', /received none/],
  ])('%s', (_, more, code, message) => {
    expect(() => inferRwkvConfig(tensors({ ...common, ...more }))).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    );
  });

  test('other names are no RWKV', () => {
    expect(inferRwkvConfig(tensors({ 'backbone.embedding.weight': [64, 32] }))).toBeUndefined();
  });
});
