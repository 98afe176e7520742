// The kernel's speed reaches the caller: results cost little beside what makes them, halves little more than floats.
import { resolve } from 'node:path';
import { expect, it } from 'vitest';
import { succeed } from '../support/process.js';
import { long } from '../support/scale.js';

const script = resolve(__dirname, '../support/call-cost.cjs');

if (!long) console.log('left to npm run check:full: ratios of times, which hold where nothing else runs');

it.runIf(long).each(['selectiveScan', 'causalConv1d', 'attention', 'ssd', 'linear', 'rmsNorm'])(
  '%s: with `out`, in a loop, on bf16',
  { timeout: 60_000, retry: 2 }, // a busy machine is no finding
  async (op) => {
    const text = await succeed(process.execPath, [script, op], { env: { ...process.env, STATESPACE_POISON: '0' } });
    const { seen, bounds } = JSON.parse(text) as Record<'seen' | 'bounds', Record<string, number>>;
    for (const [what, ratio] of Object.entries(seen)) expect(ratio, what).toBeLessThanOrEqual(bounds[what]!);
  },
);
