// Damaged copies of valid files: the outcome is a checkpoint whose tensors lie in their files, or a StatespaceError;
// never another exception, a hang, or a trace in Object.prototype.
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { openCheckpoint } from '../../dist/lib/checkpoint/open.js';
import {
  matrix,
  op,
  pickle,
  pickledTensor,
  safetensors,
  scratchFolders,
  torchFile,
} from '../support/checkpoint-files.js';
import { modelCase } from '../support/golden.js';
import { processorMs } from '../support/stalls.js';

const folders = scratchFolders();
const slowestMs = 10_000;

interface Edit {
  at: number;
  remove: number;
  insert: Uint8Array;
}

/** Bytes that mean something in these formats are likelier than others. */
const byte = fc.oneof(
  fc.integer({ min: 0, max: 255 }),
  fc.constantFrom(...Buffer.from('{}[](),:"0123456789-.RQcXtuqhb\x80\x93\0\xff', 'latin1')),
);
const edits = fc.array(
  fc.record({
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    remove: fc.integer({ min: 0, max: 8 }),
    insert: fc.array(byte, { maxLength: 8 }).map((bytes) => Uint8Array.from(bytes)),
  }),
  { minLength: 1, maxLength: 4 },
);

function apply(bytes: Buffer, changes: Edit[]): Buffer {
  let out = bytes;
  for (const { at, remove, insert } of changes) {
    const place = Math.floor(at * out.length);
    out = Buffer.concat([out.subarray(0, place), insert, out.subarray(place + remove)]);
  }
  return out;
}

/** In place, so that offsets around stay true and the damage reaches the deeper checks. */
function overwrite(bytes: Buffer, changes: Edit[]): Buffer {
  const out = Buffer.from(bytes);
  for (const { at, insert } of changes)
    out.set(insert.subarray(0, out.length - Math.floor(at * out.length)), Math.floor(at * out.length));
  return out;
}

async function survives(folder: string): Promise<boolean> {
  const started = processorMs();
  try {
    const { tensors } = await openCheckpoint(folder);
    for (const { file, offset, byteLength } of tensors.values()) {
      expect(offset + byteLength).toBeLessThanOrEqual(statSync(file).size);
      expect(byteLength).toBeGreaterThanOrEqual(0);
    }
    return true;
  } catch (error) {
    const { name, code, message } = error as Error & { code?: string };
    if (name !== 'StatespaceError' || code !== 'ERR_CHECKPOINT') throw error;
    expect(message).toContain(folder);
    return false;
  } finally {
    expect(processorMs() - started).toBeLessThan(slowestMs);
    expect(Object.keys(Object.prototype)).toEqual([]);
  }
}

const header = {
  __metadata__: { format: 'pt' },
  'a.weight': { dtype: 'F32', shape: [2, 3], data_offsets: [0, 24] },
  'b.weight': { dtype: 'BF16', shape: [4], data_offsets: [24, 32] },
};
const headerText = Buffer.from(JSON.stringify(header));
const statePickle = pickle(
  op.dict(
    op.text('a'),
    pickledTensor(matrix),
    op.text('b'),
    pickledTensor({ shape: [3, 2], strides: [1, 3] }),
    op.text('epoch'),
    op.int(3),
  ),
);
const whole = (name: string, bytes: Buffer) => ({
  name,
  bytes,
  around: (damaged: Buffer): Record<string, Buffer> => ({ [name]: damaged }),
});
const safe = safetensors(header, Buffer.alloc(32));
const torch = readFileSync(join(__dirname, 'torch', 'state-protocol2.pth'));

test.each([
  whole('model.safetensors', safe),
  {
    name: 'header',
    bytes: headerText,
    around: (text: Buffer) => ({ 'model.safetensors': safetensors(text.toString('latin1'), Buffer.alloc(32)) }),
  },
  whole('pytorch_model.bin', torch),
  { name: 'pickle', bytes: statePickle, around: (data: Buffer) => ({ 'model.pth': torchFile(data) }) },
  { name: 'zip', bytes: torchFile(statePickle), around: (bytes: Buffer) => ({ 'model.pth': bytes }) },
  {
    name: 'index',
    bytes: Buffer.from(
      JSON.stringify({ metadata: {}, weight_map: { 'a.weight': 'a.safetensors', 'b.weight': 'a.safetensors' } }),
    ),
    around: (bytes: Buffer) => ({ 'model.safetensors.index.json': bytes, 'a.safetensors': safe }),
  },
  {
    name: 'config',
    bytes: readFileSync(join(modelCase('mamba2_hf').folder, 'config.legacy.json')),
    around: (bytes: Buffer) => ({ 'model.safetensors': safe, 'config.json': bytes }),
  },
])('$name', async ({ bytes, around }) => {
  const folder = folders.put(around(bytes));
  expect(await survives(folder)).toBe(true);
  let refused = 0;
  await fc.assert(
    fc.asyncProperty(edits, fc.boolean(), async (changes, inPlace) => {
      const damaged = (inPlace ? overwrite : apply)(bytes, changes);
      for (const [name, content] of Object.entries(around(damaged))) writeFileSync(join(folder, name), content);
      if (!(await survives(folder))) refused++;
    }),
    { numRuns: 400 },
  );
  expect(refused).toBeGreaterThan(20);
});
