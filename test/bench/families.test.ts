import { describeModel, supportedModels } from 'statespace';
import { expect, test } from 'vitest';
import { SHAPES } from '../../dist/bench/families/configs.js';
import { printFamilies } from '../../dist/bench/families/print.js';
import { type FamiliesReport, runFamilies } from '../../dist/bench/families/run.js';
import type { Meter } from '../../dist/bench/limits.js';

test.each(SHAPES.map((shape) => [shape.name, shape] as const))(
  '%s has 100 to 650 million parameters',
  (_, { config }) => {
    const { total } = describeModel({ ...config }).parameters;
    expect(total).toBeGreaterThan(1e8);
    expect(total).toBeLessThan(6.5e8);
  },
);

test('every family that reads tokens has a shape', () => {
  const shown = new Set(SHAPES.map(({ config }) => config.model_type ?? 'mamba_ssm'));
  const wrappers = ['qwen3_5', 'qwen3_5_moe', 'qwen4_exp', 'glm5_next', 'gemma3', 'inkling_mm_model'];
  const others = ['s4d_example', 'hyena_operator', 'rwkv4', 'minimax_text_01', 'minimax_m1']; // rows of floats; others' older words
  const known = new Set([...shown, ...wrappers, ...others]);
  expect(supportedModels().filter((type) => !known.has(type))).toEqual([]);
});

// 2 layers, 8 wide, 2 heads of 4 on one of keys, feed-forward of 12, vocabulary of 16, tied.
const small = { name: 'llama', like: 'a small one', config: { model_type: 'llama', vocab_size: 16, hidden_size: 8 } };
Object.assign(small.config, { num_hidden_layers: 2, intermediate_size: 12, num_attention_heads: 2 });
Object.assign(small.config, { num_key_value_heads: 1, tie_word_embeddings: true });

// A machine of one operation and one byte a second.
const rates = { one: [1], all: [1] };
const meter = { computeRates: () => [1], memoryRates: () => ({ read: rates, copy: rates }) } as unknown as Meter;

test('counts operations and bytes by definition, and says which bound is missed', async () => {
  const settings = { tokens: 6, steps: 2, reps: 1, dtype: 'f32' as const };
  const machine = {} as FamiliesReport['machine'];
  const run = { command: '', machine, meter, signal: new AbortController().signal, onProgress: () => {} };
  const report = await runFamilies([small], settings, run);
  const [family] = report.families;
  const matrices = 2 * (8 * 16 + 8 * 8 + 3 * 8 * 12);
  // Every matrix for six tokens, the head for the last; keys 1 + … + 6, of 8 channels, twice, in two layers.
  expect(family!.prefill.flops).toBe(2 * (6 * matrices + 16 * 8) + 2 * 4 * 8 * 21);
  // The weights with their norms and the 2 pairs' frequencies of q and k; after 7 tokens keys and values of 4 channels.
  expect(family!.decode.bytes).toBe(4 * (matrices + 16 * 8 + 5 * 8 + 2 * 2 * 2) + 4 * 2 * 2 * 4 * 7);
  expect(printFamilies(report)).toContain('a small one');
});
