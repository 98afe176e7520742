// The kernel's speed reaches the caller: results cost little beside what makes them, halves little more than floats.
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { CallResult } from '../../dist/bench/calls/case.js';
import { LONG, needs } from '../support/needs.js';
import { long } from '../support/scale.js';

const main = resolve(__dirname, '../../dist/lib/cli/main.js');

/** A process of its own: tests poison outputs. */
async function benchCalls(...args: string[]): Promise<CallResult[]> {
  const file = join(mkdtempSync(join(tmpdir(), 'statespace-calls-')), 'calls.json');
  const env = { ...process.env, STATESPACE_POISON: '0' };
  await promisify(execFile)(process.execPath, [main, 'bench', 'calls', ...args, '--json', file], { env });
  return (JSON.parse(readFileSync(file, 'utf8')) as { results: CallResult[] }).results;
}

describe('bench calls', () => {
  it('measures generate, batches and decoding of a small model', async () => {
    const small = ['--parameters', '300K', '--d-model', '64', '--vocabulary', '200', '--lengths', '64'];
    const results = await benchCalls('--only', 'generate,batch,decode', ...small);
    expect(new Set(results.map((r) => r.group))).toEqual(new Set(['generate', 'batch', 'decode']));
    for (const { name, seen } of results) expect(seen, name).toBeGreaterThanOrEqual(0);
    const greedy = results.find((r) => r.name === 'greedy, bf16')!;
    expect(greedy.bound).toEqual({ atMost: 1.03 });
    expect(greedy.kept).toBe(greedy.seen <= 1.03);
  });

  it.runIf(needs(long, LONG))('ops keep their bounds', { timeout: 10 * 60_000 }, async () => {
    const missed = (await benchCalls('--only', 'ops')).filter((r) => !r.kept);
    expect(missed).toEqual([]);
  });
});
