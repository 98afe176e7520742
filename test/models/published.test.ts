// Published models from their configs alone: parameters as their pages state them, and what a session of one holds.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeModel } from 'statespace';
import { expect, test } from 'vitest';

interface Published {
  /** Where its sizes are published, if that is not its own page. */
  source?: string;
  /** A whole number is exact; one in millions has three digits, or as many as `digits` says. */
  parameters: number;
  digits?: number;
  /** Two digits; default: all of them. null: its page counts what it does not say. */
  active?: number | null;
  /** Tables of embeddings, of the vocabulary by the width, that its page leaves out of each number. */
  withoutTables?: [number, number];
  /** Layers that its page counts, and that the model of the reference does not have. */
  moreLayers?: number;
  config: Record<string, unknown>;
}

const published: Record<string, Published> = JSON.parse(
  readFileSync(join(__dirname, '../configs/published.json'), 'utf8'),
);

test.each(Object.entries(published))(
  '%s',
  (_, { parameters, digits = 3, active, withoutTables, moreLayers, config }) => {
    const layers = describeModel(config).layers.reduce((n, { kind, count }) => n + (kind === 'moe' ? 0 : count), 0);
    const described = describeModel(moreLayers ? { ...config, num_hidden_layers: layers + moreLayers } : config);
    const { vocab_size = 262272, hidden_size = 2048 } = config as Record<string, number>; // ZAYA1's, where it has none
    const table = vocab_size * hidden_size;
    const [left, idle] = withoutTables ?? [0, 0];
    const [total, used] = [described.parameters.total - left * table, described.parameters.active - idle * table];
    if (parameters % 1e6 === 0) expect(Number(total.toPrecision(digits))).toBe(Number(parameters.toPrecision(digits)));
    else expect(total).toBe(parameters);
    if (active) expect(Number(used.toPrecision(2))).toBe(Number(active.toPrecision(2)));
    else if (active === undefined) expect(used).toBe(total);
  },
);

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
  // 48 gated DeltaNets: 48 heads of 128 × 128, and 3 inputs of 2 · 16 heads of keys and 48 of values; 16 attention layers.
  expect(bytes('Qwen/Qwen3.5-27B', 4096)).toMatchObject({
    state: 48 * 4 * (48 * 128 * 128 + 3 * (2 * 16 + 48) * 128),
    kvCache: 16 * 2 * 4 * 256 * 2 * 4096,
  });
  // 24 gated DeltaNets with values twice as wide as keys; 8 attention layers of 30 heads.
  expect(bytes('allenai/Olmo-Hybrid-7B', 1024)).toMatchObject({
    state: 24 * 4 * (30 * 96 * 192 + 3 * 30 * (96 + 96 + 192)),
    kvCache: 8 * 2 * 30 * 128 * 2 * 1024,
  });
  // 34 KDA layers of 64 heads; 11 layers that keep latents of 512 halves, and of 128 floats to choose by.
  expect(bytes('zai-org/GLM-5.3-Flash', 4096)).toMatchObject({
    state: 34 * 4 * (64 * 128 * 128 + 3 * 3 * 64 * 128),
    kvCache: 11 * (512 * 2 + 128 * 4) * 4096,
  });
  // Pages belong to all layers: as one in six sees everything, none is given back.
  expect(bytes('thinkingmachines/Inkling', 4096).kvCache).toBe((11 * 8 + 55 * 16) * 2 * 128 * 2 * 4096);
  // Retention: a state of each head and nothing that grows.
  expect(bytes('torchscale/retnet_7b', 100_000)).toEqual(bytes('torchscale/retnet_7b', 0));
  expect(bytes('torchscale/retnet_7b', 0).state).toBe(32 * 4 * 16 * 256 * 432);
  // A long convolution keeps its inputs.
  expect(bytes('Zymrael/hyena-small-150b-tok', 2048).kvCache).toBeGreaterThan(0);
  // 7 layers of latent attention keep one row of 512 + 64 values a token.
  expect(bytes('moonshotai/Kimi-Linear-48B-A3B-Base', 1024).kvCache).toBe(7 * 576 * 2 * 1024);
});
