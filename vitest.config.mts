import { defineConfig } from 'vitest/config';

// pool 'forks': a crash of the addon fails one file, not the run.
export default defineConfig({
  test: {
    pool: 'forks',
    include: ['test/**/*.test.ts'],
    globalSetup: 'test/support/temporary-folder.ts',
    // For what waits in vain: a machine that is busy, or stands still for a while, is no fault of a test.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    teardownTimeout: 300_000,
    maxWorkers: 2,
    env: { STATESPACE_POISON: '1' }, // an op that leaves a part of its output unwritten leaves NaN
  },
});
