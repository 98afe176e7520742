import fc from 'fast-check';
import { createColors } from 'picocolors';
import * as statespace from 'statespace';
import { describe, expect, it } from 'vitest';
import type { Library } from '../../dist/bench/library.js';
import type { Job, Outcome } from '../../dist/bench/models/child.js';
import { compareModels, firstBelow } from '../../dist/bench/models/compare.js';
import { expressible, FAMILIES, hybrid, sized, sizedAll } from '../../dist/bench/models/families.js';
import { printModels } from '../../dist/bench/models/print.js';
import { runModels } from '../../dist/bench/models/run.js';

const dimensions = { dModel: 768, vocabulary: 50288, headDim: 64, kvHeads: 12, longest: 4096 };
const byName = (name: string) => FAMILIES.find((family) => family.name === name)!;

/** Describes a model by round numbers: layers of a million parameters, four kilobytes of cache per layer and token. */
const library = {
  describeModel(config: Record<string, unknown>) {
    const layers = Number(config.num_hidden_layers);
    const attention = config.model_type === 'llama';
    return {
      modelType: String(config.model_type),
      parameters: { total: 10_000_000 + layers * 1_000_000, active: layers * 1_000_000 },
      layers: [{ kind: attention ? 'attention' : 'mamba', count: layers }],
      flopsPerToken: (n: number) => 2e6 * layers + (attention ? 1000 * n : 5_000_000),
      sessionBytes(n: number) {
        const [state, kvCache] = attention ? [0, 4096 * layers * n] : [layers * 100_000, 0];
        return { state, kvCache, total: state + kvCache };
      },
    };
  },
} as unknown as Library;

const models = ['llama', 'mamba'].map((name) => sized(library, byName(name), dimensions, 30_000_000));

function outcome({ config, context, reps, decodeTokens }: Job): Outcome {
  const attention = config.model_type === 'llama';
  const prefill = attention ? 1e-9 * context ** 2 : 1e-6 * context;
  const decode = attention ? 1e-9 * context : 1e-6;
  expect(decodeTokens).toBeGreaterThan(0);
  return {
    parameters: { total: 1, active: 1 },
    checkError: 1e-6,
    prefill: Array(reps).fill(prefill),
    decode: Array(reps).fill(decode),
    sessionBytes: attention ? 4096 * context : 100_000,
    modelBytes: 1e8,
    peakBytes: 1e8 + 5000 * context,
  };
}

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

function run(runJob: (job: Job) => Outcome | Promise<Outcome>, budgetSeconds = 100) {
  return runModels(
    models,
    { contexts: [512, 1024, 2048], decodeTokens: 4, reps: 5, dtype: 'f32', threads: null, budgetSeconds },
    {
      command: 'statespace bench models',
      machine,
      signal: new AbortController().signal,
      onProgress: () => {},
      runJob: async (job) => runJob(job),
    },
  );
}

describe('equal size', () => {
  it('chooses the layers that come nearest', () => {
    fc.assert(
      fc.property(fc.integer({ min: 11, max: 500 }), fc.integer({ min: -499_999, max: 499_999 }), (layers, off) => {
        const found = sized(library, byName('mamba'), dimensions, 10_000_000 + layers * 1_000_000 + off);
        expect(found.layers).toBe(layers);
        expect(found.config.num_hidden_layers).toBe(layers);
      }),
    );
    expect(sized(library, byName('llama'), dimensions, 1).layers).toBe(1);
  });

  it('places attention in a hybrid as the ratio says', () => {
    const attentionLayers = (attention: number, mamba: number, layers: number) => {
      const config = hybrid({ attention, mamba }).config(dimensions, layers);
      const [period, offset] = [Number(config.attn_layer_period), Number(config.attn_layer_offset)];
      expect(offset).toBeLessThan(period);
      return Array.from({ length: layers }, (_, i) => i).filter((i) => i % period === offset).length;
    };
    expect(attentionLayers(1, 7, 32)).toBe(4);
    expect(attentionLayers(1, 3, 32)).toBe(8);
    expect(attentionLayers(2, 6, 32)).toBe(8);
    expect(attentionLayers(1, 1, 10)).toBe(5);
    expect(attentionLayers(1, 0, 9)).toBe(9);
    expect(attentionLayers(0, 1, 9)).toBe(0);
    expect(expressible({ attention: 3, mamba: 1 })).toBe(false);
  });
});

describe('every family', () => {
  const real = statespace as unknown as Library;
  const supported = new Set(statespace.supportedModels());
  const small = { dModel: 256, vocabulary: 1000, headDim: 64, kvHeads: 4, longest: 2048 };

  it('leaves out a ratio whose period the size has no layers for', () => {
    const families = [hybrid({ attention: 1, mamba: 1 }), hybrid({ attention: 1, mamba: 7 })];
    const { models, leftOut } = sizedAll(real, families, small, 2e6);
    expect(models.map((m) => m.family.name)).toEqual(['1:1']);
    expect(models[0]!.layers).toBeLessThan(8);
    expect(leftOut).toEqual([{ label: 'attention:Mamba 1:7', reason: expect.stringMatching(/it needs 8$/) }]);
  });

  it.each(FAMILIES.filter((f) => supported.has(f.modelType)))('$name has a model of a given size', (family) => {
    const found = sized(real, family, small, 20e6);
    const one = real.describeModel(family.config(small, found.layers + 1)).parameters.total - found.parameters;
    expect(Math.abs(found.parameters - 20e6)).toBeLessThanOrEqual(one);
    const { sessionBytes, flopsPerToken } = real.describeModel(found.config);
    const grows = family.kind !== 'scan';
    expect(sessionBytes(2048).total > sessionBytes(64).total).toBe(grows);
    expect(sessionBytes(2048).kvCache > 0).toBe(grows);
    expect(flopsPerToken(2048) > flopsPerToken(64)).toBe(grows);
  });

  it('says which families cannot have the dimensions', () => {
    const { models, leftOut } = sizedAll(
      real,
      FAMILIES.filter((f) => supported.has(f.modelType)),
      { ...small, dModel: 96, headDim: 32, kvHeads: 3 },
      1e6,
    );
    expect(models.map((m) => m.family.name)).toContain('mamba');
    expect(leftOut).toContainEqual({ label: 'RWKV-7', reason: expect.stringContaining('no multiple of head_size 64') });
  });
});

describe('model benchmark', () => {
  it('measures every model at every length and fits what it was given', async () => {
    const report = await run(outcome);
    expect(report.skipped).toEqual([]);
    expect(report.measurements).toHaveLength(6);
    const [llama, mamba] = report.growth;
    expect(llama!.prefill!.exponent).toBeCloseTo(2, 9);
    expect(mamba!.prefill!.exponent).toBeCloseTo(1, 9);
    expect(mamba!.decode!.exponent).toBeCloseTo(0, 9);
    expect(report.crossovers[0]).toMatchObject({
      costlier: 'llama',
      other: 'mamba',
      prefill: { kind: 'measured', between: [512, 1024] },
      sessionBytes: { kind: 'extrapolated', beyond: 512 },
    });
    const text = printModels(report, createColors(false));
    expect(text).toContain('the context from which Transformer (Llama) costs more');
    expect(text).toMatch(/^Mamba +1,000 +1,000 +24 \(extrapolated\)$/m);
    expect(text).not.toMatch(/NaN|undefined/);
  });

  it('refuses a model whose prefill is not its steps', async () => {
    await expect(run((job) => ({ ...outcome(job), checkError: 0.5 }))).rejects.toThrow(/check failed: .*5\.00e-1/);
    await expect(run((job) => ({ ...outcome(job), checkError: Number.NaN }))).rejects.toThrow(/check failed/);
  });

  it('writes down what the time did not allow', async () => {
    const slow = (job: Job): Outcome => ({ ...outcome(job), prefill: [job.context * 10] });
    const report = await run(slow, 1);
    expect(report.measurements).toEqual([]);
    expect(report.skipped).toHaveLength(6);
    expect(printModels(report, createColors(false))).toMatch(/512 tokens, Mamba: time: 1 run needs about/);
  });

  it('passes on why a measuring process failed', async () => {
    const failing = () => Promise.reject(new Error('the measuring process was killed'));
    await expect(run(failing)).rejects.toThrow('the measuring process was killed');
  });
});

describe('comparison from configurations', () => {
  it('finds from where a scan needs less', () => {
    const [llama, mamba] = compareModels(library, models, [1024], 'f16');
    expect(llama!.wins).toBeNull();
    // 20 layers each: 100,000 B of state per layer against 4,096 B per token; 5 M FLOPs against 1,000 per token.
    expect(mamba!.wins).toEqual({ memory: 25, flops: 5001 });
    expect(mamba!.costs[0]).toEqual({
      context: 1024,
      flopsPerToken: 45e6,
      stateBytes: 2e6,
      kvCacheBytes: 0,
      sessionBytes: 2e6,
    });
  });

  it('is the first context from which it stays below', () => {
    const number = fc.integer({ min: 0, max: 1e9 });
    fc.assert(
      fc.property(number, number, fc.integer({ min: 1, max: 1e6 }), (base, other, slope) => {
        const found = firstBelow(
          () => base,
          (n) => other + slope * n,
        )!;
        expect(base).toBeLessThan(other + slope * found);
        if (found > 1) expect(base).toBeGreaterThanOrEqual(other + slope * (found - 1));
      }),
    );
    expect(
      firstBelow(
        () => 2,
        () => 1,
      ),
    ).toBeNull();
  });
});
