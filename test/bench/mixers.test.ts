import { createColors } from 'picocolors';
import { ops } from 'statespace';
import { describe, expect, it } from 'vitest';
import type { MixerOps } from '../../dist/bench/library.js';
import { mixersPreset } from '../../dist/bench/scaling/mixers.js';
import { printScaling } from '../../dist/bench/scaling/print.js';
import { runScaling } from '../../dist/bench/scaling/run.js';

const shape = { dModel: 24, heads: 3, dState: 5, batch: 2 };
const machine = {
  statespace: '0.0.0',
  commit: null,
  cpu: 'test',
  cores: 2,
  isa: 'scalar',
  threads: 2,
  memoryBytes: 2 ** 34,
  node: 'v20',
  platform: 'linux-x64',
};

const run = (with_: MixerOps, lengths = [8, 65, 130]) =>
  runScaling(mixersPreset(with_, shape, 2), {
    lengths,
    reps: 3,
    budgetSeconds: 1e6,
    command: 'statespace bench scaling --preset mixers',
    machine,
    signal: new AbortController().signal,
    onProgress: () => {},
  });

const CONTENDERS = [
  'tiled',
  'ssd-chunked',
  'ssd-recurrent',
  'ssd-quadratic',
  'retention-chunkwise',
  'retention-recurrent',
  'retention-parallel',
  'wkv4-recurrent',
  'wkv6-chunked',
  'wkv6-recurrent',
  'wkv7-chunked',
  'wkv7-recurrent',
  'mamba3-chunked',
  'mamba3-recurrent',
  'gla-chunked',
  'gla-recurrent',
  'gatedDelta-chunked',
  'gatedDelta-recurrent',
  'kda-chunked',
  'kda-recurrent',
  'rgLru-recurrent',
  'shortConv-direct',
  'fftConv-FFT',
];

describe('preset mixers', () => {
  it('times every family in every mode, each checked against its definition and the modes against each other', async () => {
    const report = await run(ops);
    expect(report.skipped).toEqual([]);
    expect(report.measurements.map((m) => m.contender)).toEqual([8, 65, 130].flatMap(() => CONTENDERS));
    const names = new Set(report.checks.map((check) => check.name));
    // One definition for each, and an equality for each mode beyond a family's first.
    expect(names.size).toBe(CONTENDERS.length + 10);
    for (const check of report.checks) expect(check.error).toBeLessThanOrEqual(check.bound);
    // Attention against all, and a family's form over all pairs against its own other forms.
    expect(report.crossovers.map((c) => `${c.attention} ${c.scan}`)).toEqual([
      ...CONTENDERS.filter((id) => !/tiled|quadratic|parallel/.test(id)).map((id) => `tiled ${id}`),
      'ssd-quadratic ssd-chunked',
      'ssd-quadratic ssd-recurrent',
      'retention-parallel retention-chunkwise',
      'retention-parallel retention-recurrent',
    ]);
    const text = printScaling(report, { colours: createColors(false), charts: false });
    expect(text).toContain('SSD (Mamba-2), quadratic');
    expect(text).not.toMatch(/NaN|undefined/);
  });

  it.each([
    'ssdSync',
    'retentionSync',
    'wkv4Sync',
    'wkv6Sync',
    'wkv7Sync',
    'mamba3Sync',
    'glaSync',
    'gatedDeltaRuleSync',
    'kdaSync',
    'rgLruSync',
    'shortConvSync',
    'fftConvSync',
    'attentionSync',
  ] as const)('refuses a wrong %s without a number', async (op) => {
    const wrong = (a: never) => {
      const result = (ops[op] as (a: never) => { y: { data: Float32Array } })(a);
      result.y.data[0]! += 0.5;
      return result;
    };
    await expect(run({ ...ops, [op]: wrong } as unknown as MixerOps, [16])).rejects.toThrow(
      /check failed at 16 tokens/,
    );
  });
});
