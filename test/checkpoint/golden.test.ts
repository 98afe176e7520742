// Every golden folder opens, by each of its formats, and its tensors are where the reader says.
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Checkpoint, openCheckpoint, readTensorF32 } from '../../dist/lib/checkpoint/open.js';
import { modelCase, modelNames, readGolden } from '../support/golden.js';

const opened = new Map<string, Checkpoint>();
const names = modelNames();
beforeAll(async () => {
  for (const name of names) opened.set(name, await openCheckpoint(modelCase(name).folder));
});

describe.each(names)('%s', (name) => {
  test('every tensor lies within its file, as long as its shape says', () => {
    const { tensors, totalBytes, config } = opened.get(name)!;
    let total = 0;
    for (const { dtype, shape, offset, byteLength, file } of tensors.values()) {
      const bytes = dtype === 'i64' ? 8 : 4; // tables of n-grams
      expect(byteLength).toBe(bytes * shape.reduce((a, b) => a * b, 1));
      expect(offset + byteLength).toBeLessThanOrEqual(readFileSync(file).length);
      total += byteLength;
    }
    expect(tensors.size).toBeGreaterThan(10);
    expect(totalBytes).toBe(total);
    expect(config).toBeDefined();
  });

  test('holds the tensors that the reference saved', () => {
    const keys = modelCase(name).metadata.keys as string[];
    expect([...opened.get(name)!.tensors.keys()].sort()).toEqual([...keys].sort());
  });
});

test('values are those of an independent reader', async () => {
  const { tensors, folder } = opened.get('mamba_hf')!;
  const golden = readGolden(join(folder, 'model.safetensors')).tensors;
  for (const stored of tensors.values()) {
    expect(await readTensorF32(stored)).toEqual(golden[stored.name]!.data);
    expect(stored.shape).toEqual(golden[stored.name]!.shape);
  }
});

/** Over name, type, shape and bytes of each tensor, by name; computed from the omitted model.safetensors. */
const digests = {
  rwkv5_orig: '24f89397496162d6182e51fc69d7e4f197350679c36ab476ed0ed1c8b623c769',
  ssm_orig_mamba1: '4a2379e054127a5913486625f429f7005e2b4356df39e6abdc371508189a0000',
};

test.each(Object.entries(digests))('%s: the PyTorch file equals the safetensors file bit by bit', (name, digest) => {
  const hash = createHash('sha256');
  const byName = [...opened.get(name)!.tensors.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const { name, dtype, shape, file, offset, byteLength } of byName) {
    hash.update(`${name} ${dtype} [${shape}]\n`).update(readFileSync(file).subarray(offset, offset + byteLength));
  }
  expect(hash.digest('hex')).toBe(digest);
});

test('a tied embedding is located, not copied', () => {
  const { tensors } = opened.get('ssm_orig_mamba1')!;
  expect(tensors.get('lm_head.weight')!.offset).toBe(tensors.get('backbone.embedding.weight')!.offset);
});

describe('an RWKV release without config.json', () => {
  const cases = names.filter((name) => /^rwkv\d_orig/.test(name));
  const root = mkdtempSync(join(tmpdir(), 'statespace-rwkv-'));
  afterAll(() => rmSync(root, { recursive: true }));

  test.each(cases)('%s: names and shapes give the config', async (name) => {
    const { tensors, config } = opened.get(name)!;
    const alone = mkdtempSync(join(root, name));
    const file = tensors.get('emb.weight')!.file;
    symlinkSync(file, join(alone, file.endsWith('.pth') ? 'any-name.pth' : 'model.safetensors'));
    const { note, ...expected } = config!;
    const inferred = (await openCheckpoint(alone)).config!;
    const sizes = Object.entries(inferred).filter(([key]) => !/^d_\w+_lora$/.test(key));
    expect(Object.fromEntries(sizes)).toEqual(expected);
  });
});
