import { systemInfo } from 'statespace';
import { afterAll, beforeAll, describe, expect } from 'vitest';

/** Runs a suite once on every backend of this machine. */
export function onEveryBackend(suite: () => void): void {
  for (const backend of systemInfo().cpu.available) {
    describe(`on ${backend}`, () => {
      const before = process.env.STATESPACE_BACKEND;
      beforeAll(() => {
        process.env.STATESPACE_BACKEND = backend;
        expect(systemInfo().cpu.isa).toBe(backend);
      });
      afterAll(() => {
        if (before === undefined) delete process.env.STATESPACE_BACKEND;
        else process.env.STATESPACE_BACKEND = before;
      });
      suite();
    });
  }
}
