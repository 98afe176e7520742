import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemInfo } from 'statespace';
import { afterAll, beforeAll, describe, expect } from 'vitest';

/** What STATESPACE_BACKEND names at the start of the run: the only backend of it. Without it, all of this machine's CPU. */
const only = process.env.STATESPACE_BACKEND;
export const backends = only ? [only] : systemInfo().cpu.available;

/** Whether the run is on a GPU or the emulated device. */
export const onDevice = only?.startsWith('cuda') ?? false;

/** The ops without a kernel on the run's device: cuda/missing.h names their structs. */
const missing = new Set(
  onDevice
    ? [...readFileSync(join(__dirname, '..', '..', 'cuda', 'missing.h'), 'utf8').matchAll(/^ {4}(\w+)[,>]/gm)].map(
        ([, name]) => name![0]!.toLowerCase() + name!.slice(1),
      )
    : [],
);
/** Whether the run's backends have a kernel for this op; tests of one that has none are skipped, each for itself. */
export const hasKernel = (op: string) => !missing.has(op);

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
