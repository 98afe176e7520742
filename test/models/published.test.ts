// Published models from their configs alone: parameters as their pages state them, and what a session of one holds.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeModel } from 'statespace';
import { expect, test } from 'vitest';

interface Published {
  /** A whole number is exact; one in thousands of millions has three digits. */
  parameters: number;
  /** Two digits; default: all of them. null: its page counts what it does not say. */
  active?: number | null;
  /** Tables of embeddings, of the vocabulary by the width, that its page leaves out of each number. */
  withoutTables?: [number, number];
  config: Record<string, unknown>;
}

const published: Record<string, Published> = JSON.parse(
  readFileSync(join(__dirname, '../configs/published.json'), 'utf8'),
);

test.each(Object.entries(published))('%s', (_, { parameters, active, withoutTables, config }) => {
  const described = describeModel(config);
  const { vocab_size = 262272, hidden_size = 2048 } = config as Record<string, number>; // ZAYA1's, where it has none
  const table = vocab_size * hidden_size;
  const [left, idle] = withoutTables ?? [0, 0];
  const [total, used] = [described.parameters.total - left * table, described.parameters.active - idle * table];
  if (parameters % 1e6 === 0) expect(Number(total.toPrecision(3))).toBe(parameters);
  else expect(total).toBe(parameters);
  if (active) expect(Number(used.toPrecision(2))).toBe(Number(active.toPrecision(2)));
  else if (active === undefined) expect(used).toBe(total);
});

test('sessions of hybrids hold a state, and keys of their few attention layers', () => {
  const bytes = (name: string, context: number) => describeModel(published[name]!.config).sessionBytes(context, 'bf16');
  // 36 Mamba-2 layers: 48 heads of 64 with 128 states, and 3 inputs of 3072 + 256 channels, in f32.
  const granite = 36 * 4 * (48 * 64 * 128 + 3 * (3072 + 256));
  expect(bytes('ibm-granite/granite-4.0-h-tiny', 0)).toEqual({ state: granite, kvCache: 0, total: granite });
  // 4 attention layers of 4 heads of 128, keys and values in bf16.
  expect(bytes('ibm-granite/granite-4.0-h-tiny', 4096).kvCache).toBe(4 * 2 * 4 * 128 * 2 * 4096);
  // 10 short convolutions of 3 taps; 6 attention layers of 8 heads of 64.
  expect(bytes('LiquidAI/LFM2-1.2B', 1024)).toMatchObject({
    state: 10 * 4 * 2 * 2048,
    kvCache: 6 * 2 * 8 * 64 * 2 * 1024,
  });
  // 7 layers of latent attention keep one row of 512 + 64 values a token.
  expect(bytes('moonshotai/Kimi-Linear-48B-A3B-Base', 1024).kvCache).toBe(7 * 576 * 2 * 1024);
});
