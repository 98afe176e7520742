import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { decodeRows, encodeRows } from '../../dist/lib/blocks.js';
import { byteLength, heldTypes, isQuantized, type StoredType, storedTypes } from '../../dist/lib/dtype.js';
import { call } from '../../dist/lib/native.js';
import { goldenRoot, readGolden } from '../support/golden.js';

const types = Object.keys(storedTypes) as StoredType[];
const quantised = types.filter(isQuantized);
const exactly = ['q8_0', 'q4_0', 'q4_1', 'q5_0', 'q5_1', 'mxfp4', 'tq1_0', 'tq2_0'] as const;
const searched = ['q2_k', 'q3_k', 'q4_k', 'q5_k', 'q6_k', 'iq4_nl', 'iq4_xs'] as const;

test('the table of types is the one of the addon', () => {
  const described = call((n) => n.describeTypes());
  expect(described.map(({ name, block, bytes }) => [name, { block, bytes }])).toEqual(Object.entries(storedTypes));
  expect(described.filter((t) => t.held).map((t) => t.name)).toEqual(heldTypes);
});

describe('decoding equals ggml bit for bit', () => {
  const golden = readGolden(join(goldenRoot, 'quantised/blocks.safetensors')).tensors;
  const names = Object.keys(golden).filter((n) => n.endsWith('.blocks'));
  test('for every type', () => {
    expect(names.map((n) => n.slice(0, -7).toLowerCase()).sort()).toEqual([...quantised].sort());
  });
  test.each(names)('%s', async (name) => {
    const type = name.slice(0, -7).toLowerCase() as StoredType;
    const values = golden[name.replace('.blocks', '.values')]!;
    const decoded = await decodeRows(type, golden[name]!.data as Uint8Array, values.shape[0]!, values.shape[1]!);
    expect(new Uint32Array(decoded.buffer)).toEqual(
      new Uint32Array(values.data.buffer, values.data.byteOffset, values.data.length),
    );
  });
});

describe('encoding', () => {
  const golden = readGolden(join(goldenRoot, 'quantised/encoded.safetensors')).tensors;
  const x = golden.x!.data as Float32Array;
  const importance = golden.importance!.data as Float32Array;
  const [rows, columns] = golden.x!.shape as [number, number];
  const squaredErrors = async (type: StoredType, bytes: Uint8Array, weights?: Float32Array) => {
    const decoded = await decodeRows(type, bytes, rows, columns);
    return Array.from({ length: rows }, (_, r) => {
      let sum = 0;
      for (let c = 0; c < columns; c++) {
        const i = r * columns + c;
        sum += (weights?.[c] ?? 1) * (decoded[i]! - x[i]!) ** 2;
      }
      return sum;
    });
  };

  test.each(exactly)('%s gives the bytes of ggml', async (type) => {
    expect(await encodeRows(type, x, rows, columns)).toEqual(golden[type]!.data);
  });

  test.each(searched)('%s errs no more than ggml, row by row', async (type) => {
    const ours = await squaredErrors(type, await encodeRows(type, x, rows, columns));
    const theirs = await squaredErrors(type, golden[type]!.data as Uint8Array);
    for (const [r, error] of ours.entries()) expect(error, `row ${r}`).toBeLessThanOrEqual(theirs[r]! * 1.0001);
    expect(ours.some((error) => error > 0)).toBe(true);
  });

  test.each(searched)('%s with importance errs no more than ggml with it', async (type) => {
    const encoded = await encodeRows(type, x, rows, columns, { importance });
    const ours = await squaredErrors(type, encoded, importance);
    const theirs = await squaredErrors(type, golden[`${type}.weighted`]!.data as Uint8Array, importance);
    for (const [r, error] of ours.entries()) expect(error, `row ${r}`).toBeLessThanOrEqual(theirs[r]! * 1.0001);
  });

  test.each(['f16', 'bf16', 'f32'] as const)('%s is rounded as tensors are', async (type) => {
    const decoded = await decodeRows(type, await encodeRows(type, x, rows, columns), rows, columns);
    const bound = { f16: 2 ** -11, bf16: 2 ** -8, f32: 0 }[type];
    const worst = decoded.findIndex((v, i) => !(Math.abs(v - x[i]!) <= bound * Math.abs(x[i]!) + 2 ** -25));
    expect(worst).toBe(-1);
  });
});

describe('bad input is an error', () => {
  const rows = new Uint8Array(byteLength('q4_k', 512));
  test.each([
    ['rows of no whole blocks', () => decodeRows('q4_k', rows, 1, 300), 'ERR_SHAPE', /multiple of 256/],
    ['too few bytes', () => decodeRows('q4_k', rows.subarray(1), 1, 512), 'ERR_SHAPE', /288 bytes/],
    ['a type that is only read', () => encodeRows('iq2_s', new Float32Array(256), 1, 256), 'ERR_DTYPE', /only read/],
    ['no type', () => decodeRows('q9' as 'q8_0', rows, 1, 512), 'ERR_DTYPE', /q9/],
    [
      'importance of another length',
      () => encodeRows('q4_k', new Float32Array(256), 1, 256, { importance: new Float32Array(3) }),
      'ERR_SHAPE',
      /256 columns/,
    ],
    [
      'negative importance',
      () => encodeRows('q4_k', new Float32Array(256), 1, 256, { importance: new Float32Array(256).fill(-1) }),
      'ERR_ARGUMENT',
      /at least 0/,
    ],
  ])('%s', async (_, run, code, message) => {
    await expect(run()).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });

  test('an abort ends encoding with its reason', async () => {
    const abort = new AbortController();
    const x = new Float32Array(256 * 4096).map((_, i) => Math.sin(i));
    const running = encodeRows('q4_k', x, 256, 4096, { signal: abort.signal, onProgress: () => abort.abort() });
    await expect(running).rejects.toThrow(/abort/i);
  });
});
