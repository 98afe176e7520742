import { describe, expect, it } from 'vitest';
import { statespace } from '../support/cli.js';

const GiB = 2 ** 30;

interface Row {
  tokens: number;
  matrixOneHead: number;
  matrixOneLayer: number;
  kvAllHeads: number;
  kvGrouped: number;
}

async function rows(...args: string[]): Promise<Row[]> {
  const { code, stdout } = await statespace(['memory', '--json', ...args]);
  expect(code).toBe(0);
  return (JSON.parse(stdout) as { rows: Row[] }).rows;
}

describe('memory', () => {
  it('gives the size of the score matrix in FP16', async () => {
    const found = await rows('--lengths', '1024,4096,16K,64K,1000000,1M');
    expect(found.map((row) => row.matrixOneHead)).toEqual([2 ** 21, 2 ** 25, 2 ** 29, 2 ** 33, 2e12, 2 ** 41]);
    expect(found[0]!.matrixOneLayer).toBe(64 * 2 ** 21);
  });

  it('gives the KV cache of Llama 2 70B', async () => {
    const found = await rows('--lengths', '4K,128K,1000000');
    expect(found.map((row) => row.kvGrouped)).toEqual([1.25 * GiB, 40 * GiB, 327_680 * 1_000_000]);
    for (const row of found) expect(row.kvAllHeads).toBe(8 * row.kvGrouped);
  });

  it('follows the dimensions', async () => {
    const [row] = await rows(
      ...['--lengths', '10', '--layers', '2', '--heads', '4', '--kv-heads', '1'],
      ...['--head-dim', '5', '--bytes', '4', '--batch', '3'],
    );
    expect(row).toEqual({
      tokens: 10,
      matrixOneHead: 400,
      matrixOneLayer: 400 * 4 * 3,
      kvAllHeads: 2 * 2 * 4 * 5 * 4 * 3 * 10,
      kvGrouped: 2 * 2 * 1 * 5 * 4 * 3 * 10,
    });
  });

  it('prints both tables with what they assume', async () => {
    const { stdout } = await statespace(['memory']);
    for (const line of [
      /^ +1,024 +2 MiB/m,
      /^ +4,096 +32 MiB/m,
      /^ *1,048,576 +2 TiB/m,
      /^ +4,096 +10 GiB +1.25 GiB$/m,
      /^ *1,000,000 +2.38 TiB +305 GiB$/m,
      /Assumes that all scores exist at once: L² · 2 bytes/,
      /Assumes 2 \(keys and values\) · 80 layers · heads · 128 channels · 2 bytes/,
    ]) {
      expect(stdout).toMatch(line);
    }
  });
});
