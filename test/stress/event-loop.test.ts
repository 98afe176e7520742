/** What is asked of other threads keeps the event loop's for little: by its own processor time, which neighbours do not change. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { needs } from '../support/needs.js';
import { succeed } from '../support/process.js';

const script = join(__dirname, '../support/loop-time.cjs');
const told = existsSync('/proc/self/schedstat');

describe.runIf(needs(told, 'the processor time of one thread, as Linux tells it'))('calls on 67 MB', () => {
  test('take less than 20 ms of the event loop, where copying them there takes 35', async () => {
    const times = JSON.parse(await succeed(process.execPath, [script])) as Record<string, number>;
    expect(Object.keys(times)).toHaveLength(13);
    for (const [name, ms] of Object.entries(times)) expect(ms, name).toBeLessThan(20);
  });
});
