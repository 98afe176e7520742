import { defineConfig } from 'vitest/config';

// pool 'forks': a crash of the addon fails one file, not the run.
export default defineConfig({
  test: {
    pool: 'forks',
    include: ['test/**/*.test.ts'],
    globalSetup: 'test/support/temporary-folder.ts',
    // Of what waits in vain; no machine is too slow for a test, and one may be halted for a while.
    testTimeout: 600_000,
    hookTimeout: 600_000,
    teardownTimeout: 600_000,
    maxWorkers: 2,
    env: { STATESPACE_POISON: '1' }, // an op that leaves a part of its output unwritten leaves NaN
  },
});
