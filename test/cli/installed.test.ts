/** The commands that need the addon, on models small enough for a test. */
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { KernelReport } from '../../dist/bench/kernels/report.js';
import type { ModelReport } from '../../dist/bench/models/report.js';
import type { ScalingReport } from '../../dist/bench/scaling/report.js';
import { statespace } from '../support/cli.js';
import { modelCase } from '../support/golden.js';

const folder = () => mkdtempSync(join(tmpdir(), 'statespace-installed-'));
const GiB = 2 ** 30;

describe('info', () => {
  it('tells version, processor, threads and models', async () => {
    const { code, stdout } = await statespace(['info']);
    expect(code).toBe(0);
    for (const name of ['statespace', 'node', 'processor', 'instruction set', 'threads', 'memory', 'cuda', 'models']) {
      expect(stdout).toMatch(new RegExp(`^${name} +\\S`, 'm'));
    }
    const json = JSON.parse((await statespace(['info', '--json'])).stdout) as { models: string[]; threads: number };
    expect(json.models).toContain('mamba');
    expect(json.threads).toBeGreaterThan(0);
  });
});

describe('inspect', () => {
  interface Inspection {
    modelType: string;
    parameters: { total: number; active: number };
    layers: { kind: string; count: number }[];
    sessions: { tokens: number; state: number; kvCache: number; total: number }[];
  }
  async function inspect(config: Record<string, unknown>, ...args: string[]): Promise<Inspection> {
    const file = join(folder(), 'config.json');
    writeFileSync(file, JSON.stringify(config));
    const { code, stdout } = await statespace(['inspect', file, '--json', ...args]);
    expect(code).toBe(0);
    return JSON.parse(stdout) as Inspection;
  }
  const llama70b = {
    model_type: 'llama',
    vocab_size: 32000,
    hidden_size: 8192,
    intermediate_size: 28672,
    num_hidden_layers: 80,
    num_attention_heads: 64,
    num_key_value_heads: 8,
    rms_norm_eps: 1e-5,
    tie_word_embeddings: false,
  };

  it('gives the KV cache of Llama 2 70B in FP16', async () => {
    const { parameters, layers, sessions } = await inspect(llama70b);
    expect(parameters.total / 1e9).toBeCloseTo(69.0, 1);
    expect(layers).toEqual([{ kind: 'attention', count: 80 }]);
    const kvCache = Object.fromEntries(sessions.map((s) => [s.tokens, s.kvCache / GiB]));
    expect(kvCache[4096]).toBe(1.25);
    expect(kvCache[131072]).toBe(40);
    expect(kvCache[1_000_000]).toBeCloseTo(305.2, 1);
  });

  it('gives parameters and constant state of a Mamba', async () => {
    const { modelType, parameters, sessions } = await inspect({
      model_type: 'mamba',
      vocab_size: 50280,
      hidden_size: 768,
      num_hidden_layers: 24,
      state_size: 16,
      conv_kernel: 4,
      expand: 2,
      time_step_rank: 48,
      use_bias: false,
      use_conv_bias: true,
      tie_word_embeddings: true,
    });
    expect(modelType).toBe('mamba');
    expect(parameters.total / 1e6).toBeCloseTo(129.1, 1);
    expect(new Set(sessions.map((s) => s.total)).size).toBe(1);
    expect(sessions.every((s) => s.kvCache === 0 && s.state === s.total)).toBe(true);
  });

  it('doubles the cache in f32 and prints a table', async () => {
    const half = await inspect(llama70b, '--lengths', '4K');
    const full = await inspect(llama70b, '--lengths', '4K', '--dtype', 'f32');
    expect(full.sessions[0]!.kvCache).toBe(2 * half.sessions[0]!.kvCache);
    const { stdout } = await statespace(['inspect', modelCase('mamba_hf').folder]);
    expect(stdout).toMatch(/^mamba_hf\nfamily +mamba\nparameters +\S.*\nlayers +3 mamba$/m);
    expect(stdout).toMatch(/^ +4,096 +\S+ KiB +0 B/m);
  });

  it('names an unknown model type: 1', async () => {
    const file = join(folder(), 'config.json');
    writeFileSync(file, '{"model_type": "perceptron"}');
    const { code, stderr } = await statespace(['inspect', file]);
    expect(code).toBe(1);
    expect(stderr).toContain('perceptron');
    expect(stderr.trim().split('\n')).toHaveLength(1);
  });
});

describe('compare', () => {
  it('prints every supported family at the size asked for, and who wins', async () => {
    const { code, stdout } = await statespace(['compare']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^Transformer \(Llama\) .*O\(N²\) +O\(N\) +O\(N\)$/m);
    expect(stdout).toMatch(/^Mamba .*O\(N\) +O\(1\) +O\(1\)$/m);
    expect(stdout).toMatch(/Mamba needs less memory per session than Transformer \(Llama\) from [\d,]+ tokens on\./);
    const json = await statespace(['compare', '--json', '--parameters', '1B', '--d-model', '2048', '--lengths', '1K']);
    const { models } = JSON.parse(json.stdout) as { models: { parameters: { total: number }; costs: unknown[] }[] };
    for (const model of models) {
      expect(Math.abs(model.parameters.total / 1e9 - 1)).toBeLessThan(0.05);
      expect(model.costs).toHaveLength(1);
    }
  });
});

describe('generate', () => {
  it.each(['mamba_hf', 'llama_gqa'])('continues %s as its reference does, ids to stdout alone', async (name) => {
    const { folder: path, expected } = modelCase(name);
    const ids = (tensor: 'input_ids' | 'greedy_ids') => {
      const { data, shape } = expected[tensor]!;
      return [...data.slice(0, shape[1])];
    };
    const given = ids('input_ids');
    const greedy = ids('greedy_ids');
    const continuation = greedy.slice(0, given.length).join() === given.join() ? greedy.slice(given.length) : greedy;
    const args = ['generate', path, '--prompt', given.join(), '-n', String(continuation.length)];
    const { code, stdout, stderr } = await statespace(args);
    expect(code).toBe(0);
    expect(stdout).toBe(`${continuation.join()}\n`);
    expect(stderr).toMatch(/tokens\/s/);
    expect((await statespace([...args, '--quiet'])).stderr).toBe('');
  });

  it('repeats itself with a seed and stops where told', async () => {
    const base = ['generate', modelCase('mamba_hf').folder, '-q', '-p', '1,2,3', '-n', '16'];
    const sampled = [...base, '-t', '1', '--seed', '7', '--top-k', '50', '--top-p', '0.99', '--min-p', '0.001'];
    const [first, second] = [await statespace(sampled), await statespace(sampled)];
    expect(first.code).toBe(0);
    expect(second.stdout).toBe(first.stdout);
    const ids = (await statespace(base)).stdout.trim().split(',');
    const stopped = (await statespace([...base, '--stop', ids[5]!])).stdout.trim();
    expect(stopped.split(',')).toEqual(ids.slice(0, ids.indexOf(ids[5]!)));
  });

  it('explains prompts that it cannot read', async () => {
    const path = modelCase('mamba_hf').folder;
    const text = await statespace(['generate', path, '-p', 'hello']);
    expect([text.code, text.stdout]).toEqual([2, '']);
    expect(text.stderr).toContain('no tokenizer');
    const large = await statespace(['generate', path, '-p', '5000']);
    expect([large.code, large.stdout]).toEqual([1, '']);
    const empty = await statespace(['generate', folder(), '-p', '1']);
    expect([empty.code, empty.stdout]).toEqual([1, '']);
  });

  it('stops at Ctrl-C with what it has: 130', async () => {
    let signalled = false;
    const { code, stdout } = await statespace(
      ['generate', modelCase('mamba_hf').folder, '-p', '1', '-n', '100000000', '-t', '1'],
      {
        onOutput: (_text, from) => {
          if (from !== 'stdout' || signalled) return undefined;
          signalled = true;
          return 'SIGINT';
        },
      },
    );
    expect(code).toBe(130);
    expect(stdout).toMatch(/^\d+(,\d+)*/);
  });
});

describe('bench scaling', () => {
  const small = ['--d-model', '32', '--heads', '2', '--reps', '3', '--budget', '100000'];

  it.each(['kernel', 'layer'])(
    'preset %s: a table on stdout, progress on stderr, everything as JSON',
    async (preset) => {
      const file = join(folder(), 'report.json');
      const args = ['bench', 'scaling', '--preset', preset, '--lengths', '16..64', ...small, '--json', file];
      const { code, stdout, stderr } = await statespace(args);
      expect(code).toBe(0);
      expect(stdout).toMatch(/^ *N +contender +median/m);
      for (const mark of ['╭', '╰', '\u001b']) expect(stdout).not.toContain(mark);
      expect(stderr).toContain('64 tokens, pass 3 of 3: sample');
      const report = JSON.parse(readFileSync(file, 'utf8')) as ScalingReport;
      expect(report).toMatchObject({ schema: 'statespace.bench.scaling', schemaVersion: 2, preset, skipped: [] });
      expect(report.measurements).toHaveLength(9);
      expect(report.growth.find((g) => g.contender === 'scan')!.keptMemory!.exponent).toBe(0);
      expect(report.command).toContain('bench scaling --preset');
    },
  );

  it('preset mixers: every family in its modes, and which mode overtakes which', async () => {
    const file = join(folder(), 'report.json');
    const args = ['bench', 'scaling', '--preset', 'mixers', '--lengths', '16..64', ...small, '--json', file];
    const { code, stdout } = await statespace(args);
    expect(code).toBe(0);
    for (const label of [
      'SSD (Mamba-2), quadratic',
      'retention, chunkwise',
      'WKV, RWKV-7, chunked',
      'long convolution',
    ])
      expect(stdout).toContain(label);
    const report = JSON.parse(readFileSync(file, 'utf8')) as ScalingReport;
    expect(report.measurements).toHaveLength(3 * 23);
    expect(report.crossovers.map((c) => c.attention)).toContain('retention-parallel');
  });

  it('draws the chart when asked to', async () => {
    const { stdout } = await statespace(['bench', 'scaling', '--lengths', '16,32', ...small, '--chart']);
    // Letters of lines that end in one row stand side by side, in the order of the legend.
    expect(stdout).toMatch(/[╭╰─]ab?c?$/m);
    expect(stdout).toContain('a ── attention, tiled');
  });

  it('leaves nothing half-written at Ctrl-C: 130', async () => {
    const where = folder();
    const { code, stdout } = await statespace(
      ['bench', 'scaling', '--lengths', '512..32K', '--json', join(where, 'report.json')],
      { onOutput: (text, from) => (from === 'stderr' && text.includes('sample 2') ? 'SIGINT' : undefined) },
    );
    expect(code).toBe(130);
    expect(stdout).toBe('');
    expect(readdirSync(where)).toEqual([]);
  });
});

describe('bench models', () => {
  const small = [
    ...['--parameters', '300k', '--d-model', '64', '--vocabulary', '512', '--reps', '2', '--decode', '2'],
    ...['--budget', '100000'], // seconds: nothing is left out for time
  ];

  it('measures in child processes and reports memory that grows with attention only', async () => {
    const file = join(folder(), 'report.json');
    const args = ['bench', 'models', '--families', 'llama,mamba', '--lengths', '64..256', ...small, '--json', file];
    const { code, stdout } = await statespace(args);
    expect(code).toBe(0);
    expect(stdout).toContain('the context from which Transformer (Llama) costs more');
    const report = JSON.parse(readFileSync(file, 'utf8')) as ModelReport;
    expect(report.measurements).toHaveLength(6);
    expect(report.models.every((m) => m.checkError! <= report.checkBound)).toBe(true);
    const bytes = (family: string) => report.measurements.filter((m) => m.family === family).map((m) => m.sessionBytes);
    expect(new Set(bytes('mamba')).size).toBe(1);
    expect(bytes('llama')[2]).toBeGreaterThan(2 * bytes('llama')[0]!);
    expect(report.measurements.every((m) => m.peakBytes > m.sessionBytes)).toBe(true);
  });

  it('covers every family that there is', async () => {
    const file = join(folder(), 'report.json');
    const { code } = await statespace(['bench', 'models', '--lengths', '64', ...small, '--reps', '1', '--json', file]);
    expect(code).toBe(0);
    const report = JSON.parse(readFileSync(file, 'utf8')) as ModelReport;
    const names = report.measurements.map((m) => m.family);
    expect(names).toEqual(
      expect.arrayContaining(['llama', 'mamba', 'mamba2', 'jamba', 'rwkv4', 'rwkv7', 'hyena', 's4d']),
    );
    expect(names).toEqual(report.models.map((m) => m.name));
  });

  it('sweeps the ratio of a hybrid', async () => {
    const { code, stdout } = await statespace([
      'bench',
      'models',
      '--ratio',
      '1:0,1:1,0:1',
      '--lengths',
      '64,128',
      ...small,
    ]);
    expect(code).toBe(0);
    for (const ratio of ['1:0', '1:1', '0:1']) expect(stdout).toContain(`attention:Mamba ${ratio}`);
  });

  it('kills the measuring process at Ctrl-C: 130', async () => {
    const { code } = await statespace(['bench', 'models', '--lengths', '64..32K', ...small], {
      onOutput: (_text, from) => (from === 'stderr' ? 'SIGINT' : undefined),
    });
    expect(code).toBe(130);
  });
});

describe('bench kernels', () => {
  it('prints the limits and the kernels that were asked for, and writes the samples', async () => {
    const file = join(folder(), 'kernels.json');
    const { code, stdout } = await statespace(['bench', 'kernels', '--shape', 'conv:L=64,D=32', '--json', file]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^multiply-adds in registers, f32 +[\d.,]+ GFLOP\/s/m);
    expect(stdout).toMatch(/^conv +L=64 D=32 K=4 f32/m);
    const report = JSON.parse(readFileSync(file, 'utf8')) as KernelReport;
    expect(report.measurements.map((m) => m.time.samples.length)).toEqual([7]);
    expect(report.limits.read.all).toBeGreaterThan(0);
  });

  it.each([
    [['--only', 'scam'], /no kernel "scam"/],
    [['--reps', '4'], /expected at least 5/],
  ])('%j is wrong usage', async (args, message) => {
    const { code, stderr } = await statespace(['bench', 'kernels', ...args]);
    expect(code).toBe(2);
    expect(stderr).toMatch(message);
  });
});
