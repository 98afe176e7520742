// `bench serving` at a size of nothing: every row measures what it says, and fails where that did not happen.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { modelOf } from '../../dist/bench/calls/sessions.js';
import { clientCases, promptLengths } from '../../dist/bench/serving/clients.js';
import { inAnotherProcess, prefixCases } from '../../dist/bench/serving/prefix.js';

const size = { parameters: 100e3, dModel: 64, vocabulary: 96 };
const job = { family: 'mamba', size, dtype: 'bf16' as const, prefix: 256 };

test('prompts grow by one factor from 10 tokens to the longest', () => {
  expect(promptLengths({ clients: 64, longest: 4000 }).slice(0, 3)).toEqual([10, 11, 12]);
  expect(promptLengths({ clients: 64, longest: 4000 }).at(-1)).toBe(4000);
  expect(promptLengths({ clients: 1, longest: 4000 })).toEqual([10]);
});

// Once more where the other process, or the store, was halted for longer than a request waits for it.
test('rates beside forwardBatch, gaps beside a long prompt, and the first token after a prefix', {
  retry: 5,
}, async () => {
  const model = await modelOf('mamba', size, 'bf16', 8192);
  const load = { clients: 3, longest: 48, generated: 4, rounds: 1 };
  const cases = [...clientCases('mamba', async () => model, load), ...prefixCases('mamba', job, undefined)];
  const seen: Record<string, number> = {};
  for (const { group, name, measure } of cases) seen[`${group}: ${name}`] = await measure();
  await model.dispose();
  expect(Object.keys(seen).map((name) => name.split(':')[0])).toEqual([
    'rate',
    'rate',
    'rate',
    'gap',
    'prefix',
    'prefix',
  ]);
  for (const value of Object.values(seen)) {
    expect(value).toBeGreaterThan(0);
    expect(value).toBeLessThan(1e6);
  }
});

test('a process that does not find the prefix in the store says so', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'statespace-bench-'));
  const asked = inAnotherProcess({ ...job, salt: 7, store: { folder } });
  await expect(asked).rejects.toThrow('bench serving: 0 of 256 tokens came from the cache');
  rmSync(folder, { recursive: true, force: true });
});
