import { readFileSync } from 'node:fs';
import { createColors } from 'picocolors';
import { describe, expect, it } from 'vitest';
import type { Ops } from '../../dist/bench/library.js';
import { kernelPreset } from '../../dist/bench/scaling/kernel.js';
import { layerPreset } from '../../dist/bench/scaling/layer.js';
import { expNegative, softmaxCausal } from '../../dist/bench/scaling/materialised.js';
import { TILE_KEYS, TILE_QUERIES } from '../../dist/bench/scaling/memory.js';
import { type Preset, relativeError } from '../../dist/bench/scaling/preset.js';
import { crossoverLine, formatFit, printScaling } from '../../dist/bench/scaling/print.js';
import { growth, type Measurement } from '../../dist/bench/scaling/report.js';
import { runScaling } from '../../dist/bench/scaling/run.js';
import { summarise } from '../../dist/bench/statistics.js';
import { plainOps } from '../support/plain-ops.js';

const shape = { dModel: 16, heads: 2, dState: 4, batch: 2 };
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

const run = (preset: Preset, settings: { lengths?: number[]; budgetSeconds?: number; reps?: number } = {}) =>
  runScaling(preset, {
    lengths: [8, 16, 32],
    reps: 3,
    budgetSeconds: 1e6,
    sampleSeconds: 0.003,
    command: 'statespace bench scaling',
    machine,
    signal: new AbortController().signal,
    onProgress: () => {},
    ...settings,
  });

/** The op with one of its results off by this much. */
function broken(op: 'attentionSync' | 'selectiveScanSync', by: number): Ops {
  const wrong = (a: never) => {
    const result = (plainOps[op] as (a: never) => { y: { data: Float32Array } })(a);
    result.y.data[0]! += by;
    return result;
  };
  return { ...plainOps, [op]: wrong } as unknown as Ops;
}

describe.each([
  ['kernel', kernelPreset],
  ['layer', layerPreset],
] as const)('preset %s', (name, make) => {
  it('measures every contender at every length, checked', async () => {
    const report = await run(make(plainOps, shape, 2));
    expect(report.preset).toBe(name);
    expect(report.skipped).toEqual([]);
    expect(report.measurements.map((m) => [m.length, m.contender])).toEqual(
      [8, 16, 32].flatMap((n) => ['tiled', 'materialised', 'scan'].map((id) => [n, id])),
    );
    for (const m of report.measurements) {
      expect(m.time.samples).toHaveLength(3);
      expect(m.tokensPerSecond).toBeCloseTo((2 * m.length) / m.time.median, 6);
    }
    const names = new Set(report.checks.map((check) => check.name));
    expect(names.size).toBe(4);
    for (const check of report.checks) expect(check.error).toBeLessThanOrEqual(check.bound);
  });

  it.each(['attentionSync', 'selectiveScanSync'] as const)('refuses a wrong %s without a number', async (op) => {
    await expect(run(make(broken(op, 0.5), shape, 2))).rejects.toThrow(/check failed at 8 tokens: .*relative error/);
    await expect(run(make(broken(op, Number.NaN), shape, 2))).rejects.toThrow(/check failed/);
  });

  it('says what it skipped for time and keeps the rest', async () => {
    const slow: Preset = make(plainOps, shape, 2);
    const contenders = slow.contenders.map((c) => (c.id === 'materialised' ? { ...c, needs: () => 1e18 } : c));
    const report = await run({ ...slow, contenders });
    expect(report.skipped.map((s) => s.contender)).toEqual(['materialised', 'materialised', 'materialised']);
    expect(report.skipped[0]!.reason).toMatch(/^memory: needs 888 PiB at once, .* may be used$/);
    expect(report.measurements).toHaveLength(6);
    const late = await run(make(plainOps, shape, 2), { budgetSeconds: 1e-9 });
    expect(late.measurements).toEqual([]);
    expect(late.skipped).toHaveLength(9);
    expect(late.skipped[0]!.reason).toMatch(/^time: 4 runs need about/);
  });
});

describe('growth', () => {
  it('is of processor time, names outliers and leaves them out', () => {
    const lengths = [512, 1024, 2048, 4096, 8192, 16384];
    const contenders = kernelPreset(plainOps, shape, 2).contenders.filter((c) => c.id === 'scan');
    const of = (length: number, seconds: number) =>
      ({
        length,
        contender: 'scan',
        time: summarise([9]),
        processor: summarise([seconds]),
        workingBytes: 1,
        keptBytes: 1,
      }) as Measurement;
    const [linear] = growth(
      contenders,
      lengths.map((n) => of(n, n * 1e-6)),
    );
    expect(linear!.outliers).toEqual([]);
    expect(linear!.time!.exponent).toBeCloseTo(1, 9);
    const [disturbed] = growth(
      contenders,
      lengths.map((n) => of(n, n * (n === 4096 ? 6e-6 : 1e-6))),
    );
    expect(disturbed!.outliers).toEqual([4096]);
    expect(disturbed!.time!.exponent).toBeCloseTo(1, 9);
  });

  it('says when others worked on the machine', async () => {
    const report = await run(kernelPreset(plainOps, shape, 2));
    const measurements = report.measurements.map((m, i) => ({ ...m, disturbed: i === 0 ? 2 : 0 }));
    const text = printScaling({ ...report, measurements }, { colours: createColors(false), charts: false });
    expect(text).toMatch(/DISTURBED: during 2 of 27 samples/);
  });

  it('shows what a public call costs beside its kernel', async () => {
    const report = await run(kernelPreset(plainOps, shape, 2, plainOps));
    for (const m of report.measurements) expect(m.call === null).toBe(m.contender === 'materialised');
    expect(printScaling(report, { colours: createColors(false), charts: false })).toContain('Call: the public call');
  });
});

describe('memory by formula', () => {
  it('grows as N², N and not at all', async () => {
    const { growth, crossovers } = await run(kernelPreset(plainOps, shape, 2));
    const exponents = Object.fromEntries(
      growth.map((g) => [g.contender, [g.workingMemory!.exponent, g.keptMemory!.exponent]]),
    );
    for (const [id, [working, kept]] of Object.entries({ tiled: [0, 1], materialised: [2, 1], scan: [0, 0] })) {
      expect(exponents[id]![0]).toBeCloseTo(working!, 9);
      expect(exponents[id]![1]).toBeCloseTo(kept!, 9);
    }
    // 2 · 2 · N · 16 · 4 B of keys and values against 2 · 32 · (4 + 3) · 4 B of state.
    expect(crossovers[0]!.keptMemory).toMatchObject({ kind: 'extrapolated' });
    expect((crossovers[0]!.keptMemory as { length: number }).length).toBeCloseTo(7, 6);
  });

  it('counts one matrix', () => {
    const materialised = kernelPreset(plainOps, shape, 2).contenders.find((c) => c.id === 'materialised')!;
    expect(materialised.memory(1024).working).toBe(4 * 1024 * 1024);
  });

  it('names the tile sizes that the kernel has', () => {
    const kernel = readFileSync('native/kernels/attention_tile.h', 'utf8');
    expect(kernel).toContain(`kBlockKeys = ${TILE_KEYS};`);
    expect(kernel).toContain(`kBlockPanels = ${TILE_QUERIES} / kPanelRows`);
  });
});

describe('softmax of the materialised matrix', () => {
  it('has an exponential that is accurate for float32', () => {
    for (let x = 0; x > -87; x -= 0.0137) expect(Math.abs(expNegative(x) / Math.exp(x) - 1)).toBeLessThan(2e-8);
    expect(expNegative(-100)).toBe(0);
    expect(expNegative(Number.NEGATIVE_INFINITY)).toBe(0);
  });

  it('sums to one over what a row may see', () => {
    const scores = Float32Array.from([3, 99, 99, 1, 1, 99, 0, 0, 0]);
    softmaxCausal(scores, 3);
    expect(relativeError(scores, [1, 0, 0, 0.5, 0.5, 0, 1 / 3, 1 / 3, 1 / 3])).toBeLessThan(1e-7);
  });
});

describe('printing', () => {
  it('shows table, growth, crossover and skipped cases, and a chart on request', async () => {
    const report = await run(kernelPreset(plainOps, shape, 2));
    const plain = printScaling(report, { colours: createColors(false), charts: false });
    for (const part of ['attention, tiled', 'attention, N×N matrix', 'selective scan', 'N^2.00 (exact)', 'Crossover']) {
      expect(plain).toContain(part);
    }
    expect(plain).not.toContain('\u001b');
    expect(plain).not.toContain('NaN');
    const width = Math.max(...plain.split('\n').map((line) => [...line].length));
    expect(width).toBeLessThanOrEqual(120);
    const drawn = printScaling(report, { colours: createColors(false), charts: true });
    expect(drawn.length).toBeGreaterThan(plain.length + 500);
    const skipped = { ...report, skipped: [{ length: 8, contender: 'tiled', reason: 'time: none left' }] };
    expect(printScaling(skipped, { colours: createColors(false), charts: false })).toContain(
      '8 tokens, attention, tiled: time: none left',
    );
  });

  it('says what was measured and what was extended', () => {
    expect(crossoverLine('A', 'B', { kind: 'measured', length: 1834, between: [1024, 2048] })).toBe(
      'A takes longer than B from about 1,800 tokens on (measured between 1,024 and 2,048).',
    );
    expect(crossoverLine('A', 'B', { kind: 'extrapolated', length: 99, beyond: 512 })).toContain(
      'extrapolated, not measured (the shortest length is 512)',
    );
    expect(crossoverLine('A', 'B', { kind: 'none', always: 'cheaper' })).toContain('less time than B');
    expect(formatFit({ exponent: 1.234, factor: 1, interval: { low: 1.1, high: 1.4 }, points: 5 })).toBe(
      'N^1.23 (1.10 … 1.40)',
    );
    expect(formatFit({ exponent: 2, factor: 1, interval: null, points: 2 })).toBe('N^2.00 (two points)');
  });
});
