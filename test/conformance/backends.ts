import { systemInfo } from 'statespace';
import { afterAll, beforeAll, describe, expect } from 'vitest';

/** What STATESPACE_BACKEND names at the start of the run: the only backend of it. Without it, all of this machine's CPU. */
const only = process.env.STATESPACE_BACKEND;
export const backends = only ? [only] : systemInfo().cpu.available;

/** Whether the run is on a GPU or the emulated device. */
export const onDevice = only?.startsWith('cuda') ?? false;

/** Runs a suite once on every backend of the run. */
export function onEveryBackend(suite: () => void): void {
  for (const backend of backends) {
    describe(`on ${backend}`, () => {
      beforeAll(() => {
        process.env.STATESPACE_BACKEND = backend;
        expect(systemInfo().backend).toBe(backend);
      });
      afterAll(() => {
        if (only === undefined) delete process.env.STATESPACE_BACKEND;
        else process.env.STATESPACE_BACKEND = only;
      });
      suite();
    });
  }
}
