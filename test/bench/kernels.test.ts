import { createColors } from 'picocolors';
import { describe, expect, it } from 'vitest';
import type { Kernel, KernelCase } from '../../dist/bench/kernels/kernel.js';
import { KERNELS } from '../../dist/bench/kernels/kernels.js';
import { selectCases } from '../../dist/bench/kernels/parse.js';
import { printKernels } from '../../dist/bench/kernels/print.js';
import { limitOf } from '../../dist/bench/kernels/report.js';
import { runKernels } from '../../dist/bench/kernels/run.js';
import type { Limits } from '../../dist/bench/limits.js';
import { publicCalls } from '../../dist/bench/peers/kernels.js';
import { limits as native } from '../../dist/lib/limits.js';

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
// The rates are not what is tested here, and large buffers take seconds.
const meter = { ...native, memoryRates: (_: number, samples: number) => native.memoryRates(2 ** 16, samples) };
const run = (cases: readonly KernelCase[]) =>
  runKernels(cases, {
    reps: 5,
    command: 'statespace bench kernels',
    machine,
    meter,
    signal: new AbortController().signal,
    onProgress: () => {},
  });

const small = ['scan:L=33,D=20', 'scan:L=7,D=5,N=128', 'conv:L=9,D=7', 'linear:rows=3,in=64,out=40'].concat(
  ['bf16', 'f16', 'q8_0', 'q4_0'].map((dtype) => `linear:rows=3,in=64,out=40,dtype=${dtype}`),
  ['attention:L=70,H=2', 'attention:L=70,H=2,dtype=bf16', 'ssd:L=70,H=2,P=8,N=16', 'retention:L=70,H=2,K=8,V=16'],
  ['wkv6:L=70,H=2,P=8', 'wkv7:L=70,H=2,P=8', 'gatedDelta:L=70,H=2,K=8,V=16', 'fftConv:L=50,D=6'],
  ['kda:L=70,H=2,K=8,V=16', 'gla:L=70,H=2,K=8,V=16', 'rgLru:L=70,H=2,P=8'],
  ['lightning:L=70,H=2,P=8', 'deltaRule:L=70,H=2,K=8,V=16', 'shortConv:L=9,D=7'],
  ['mamba3:L=70,H=2,P=8,N=16,R=1', 'mamba3:L=70,H=2,P=8,N=16,R=2'],
  ['rmsNorm:L=9,D=20', 'layerNorm:L=9,D=20', 'rope:L=9,H=2,P=8', 'wkv4:L=70,D=7'],
  ['moe:T=9,d=16,f=32,E=4', 'moe:T=9,d=16,f=32,E=4,dtype=bf16'],
);

describe('bench kernels', () => {
  it('checks and times every kernel on this machine', async () => {
    const cases = selectCases(KERNELS, { shapes: small });
    expect(new Set(cases.map(({ kernel }) => kernel.name))).toEqual(new Set(KERNELS.map(({ name }) => name)));
    const report = await run(cases);
    expect(report.measurements.length).toBe(cases.length);
    for (const m of report.measurements) {
      expect(m.time.samples.length).toBe(5);
      expect(m.time.median).toBeGreaterThan(0);
      expect(m.check.error).toBeLessThanOrEqual(m.check.bound);
      expect(m.ofLimit).toBeGreaterThan(0);
      const { gradient } = KERNELS.find(({ name }) => name === m.kernel)!;
      expect(m.gradient !== undefined).toBe(gradient !== undefined && m.dtype === 'f32');
      if (m.gradient) expect(m.gradient.ratio).toBeGreaterThan(0);
    }
    const text = printKernels(report, { colours: createColors(false) });
    for (const { name } of KERNELS) expect(text).toMatch(new RegExp(`^${name} `, 'm'));
    for (const unit of ['GFLOP/s', 'GB/s', 'G updates/s']) expect(text).toContain(unit);
  });

  it('times nothing that computes a wrong result', async () => {
    const [{ kernel, variant }] = selectCases(KERNELS, { shapes: ['conv:L=9,D=7'] }) as [KernelCase];
    const off: Kernel = {
      ...kernel,
      prepare: (v) => {
        const prepared = kernel.prepare(v);
        return { ...prepared, check: (y) => prepared.check(y.map((value, i) => (i === 0 ? value + 1 : value))) };
      },
    };
    await expect(run([{ kernel: off, variant }])).rejects.toThrow(/check failed: conv L=9 D=7 K=4 f32: relative error/);
  });

  it('stops when it is told to', async () => {
    const stop = new AbortController();
    stop.abort(new Error('enough'));
    const stopped = runKernels(selectCases(KERNELS, {}), {
      ...{ reps: 5, command: '', machine, meter, signal: stop.signal, onProgress: () => {} },
    });
    await expect(stopped).rejects.toThrow('enough');
  });
});

describe('the choice of cases', () => {
  const labels = (cases: KernelCase[]) =>
    cases.map(({ kernel, variant }) => [kernel.name, variant.sizes, variant.dtype]);

  it('takes all, some, or given shapes', () => {
    expect(selectCases(KERNELS, {}).length).toBeGreaterThan(KERNELS.length);
    const scans = selectCases(KERNELS, { only: ['scan'] });
    expect(labels(scans)).toEqual([
      ['scan', { L: 2048, D: 1536, N: 16 }, 'f32'],
      ['scan', { L: 2048, D: 1536, N: 128 }, 'f32'],
    ]);
    expect(labels(selectCases(KERNELS, { shapes: ['scan:N=64', 'attention:L=8,dtype=bf16'] }))).toEqual([
      ['scan', { L: 2048, D: 1536, N: 64 }, 'f32'],
      ['attention', { L: 8, H: 8, P: 64 }, 'bf16'],
    ]);
    expect(
      labels(selectCases(KERNELS, { only: ['conv', 'gateddelta'], shapes: ['conv:L=5'] })).map(([name]) => name),
    ).toEqual(['conv', 'gatedDelta']);
  });

  it.each([
    ['scam', /no kernel "scam"; there are scan, conv/],
    ['scan:M=3', /no size "M"; it has L, D, N, and dtype/],
    ['scan:N=0', /expected N=NUMBER, got "N=0"/],
    ['scan:N', /expected N=NUMBER, got "N"/],
    ['scan:dtype=bf16', /takes dtype f32, not "bf16"/],
  ])('refuses %s', (text, message) => {
    expect(() => selectCases(KERNELS, { shapes: [text] })).toThrow(message);
  });
});

describe('limits', () => {
  const limits: Limits = {
    multiplyAdd: { one: 50e9, all: 100e9 },
    dotBf16: { one: 100e9, all: 200e9 },
    read: { one: 5e9, all: 10e9 },
    copy: { one: 2e9, all: 4e9 },
    bufferBytes: 2 ** 20,
  };

  it('are the slower of operations and reads, at the clock of the moment', () => {
    expect(limitOf({ flops: 100e9, bytes: 1e9 }, 'f32', limits, 80e9)).toEqual({ by: 'multiply-adds', seconds: 1.25 });
    expect(limitOf({ flops: 1e9, bytes: 1e9 }, 'f32', limits, 80e9)).toEqual({ by: 'reads', seconds: 0.1 });
    expect(limitOf({ flops: 200e9, bytes: 1e9 }, 'bf16', limits, 80e9)).toEqual({ by: 'bf16 products', seconds: 1.25 });
    const plain = { ...limits, dotBf16: null };
    expect(limitOf({ flops: 80e9, bytes: 1e9 }, 'bf16', plain, 80e9)).toEqual({ by: 'multiply-adds', seconds: 1 });
    const scan = limitOf({ updates: 1e9, flops: 7e9, bytes: 1e9 }, 'f32', limits, 100e9);
    expect(scan).toEqual({ by: 'scan operations', seconds: 0.26 });
  });

  it('are measured by the addon', () => {
    for (const threads of ['one', 'all'] as const) {
      const rates = native.computeRates('multiplyAdd', threads, 0.002, 3);
      expect(rates.length).toBe(3);
      expect(Math.max(...rates)).toBeGreaterThan(1e8); // the others may be those of a thread that was halted
    }
    const { read, copy } = native.memoryRates(1_000_003, 2);
    for (const rates of [read.one, read.all, copy.one, copy.all]) {
      expect(rates.length).toBe(2);
      expect(Math.max(...rates)).toBeGreaterThan(1e6);
    }
    expect(() => native.computeRates('nothing' as never, 'one', 0.001, 1)).toThrow(/expected multiplyAdd or dotBf16/);
    expect(() => native.memoryRates(0, 1)).toThrow(/at least 4 bytes/);
  });
});

it('every kernel is a public op, which peers are compared with, and takes out', () => {
  for (const { kernel, variant } of selectCases(KERNELS, { shapes: small })) {
    const { ours, withOut } = publicCalls(kernel.prepare(variant));
    ours();
    expect(() => withOut(), kernel.name).not.toThrow();
  }
});
