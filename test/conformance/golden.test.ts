// Every kernel case of the corpus, on every backend, through the public ops.
import { describe, expect, it, test } from 'vitest';
import { kernelCase, kernelNames, kernelOp } from '../support/golden.js';
import { convolutions } from './adapters/conv.js';
import { linearAttention } from './adapters/linear-attention.js';
import { stateSpace3 } from './adapters/mamba3.js';
import { s4Family } from './adapters/s4.js';
import { scans } from './adapters/scan.js';
import { transformer } from './adapters/transformer.js';
import { onEveryBackend } from './backends.js';
import { type Adapters, opNames, runCheck } from './check.js';

const adapters: Adapters = {
  ...scans,
  ...convolutions,
  ...transformer,
  ...linearAttention,
  ...stateSpace3,
  ...s4Family,
};

// Whole layers, which their models' tests run from the same files.
const layers = ['hyena_operator', 'retnet_msr'];

const cases = kernelNames().map((name) => ({ name, op: kernelOp(name) }));

test('every case of the corpus is run, and every public op has one, or is tested by its formula', () => {
  const known = new Set([...Object.keys(adapters), ...layers]);
  expect(cases.filter((c) => !known.has(c.op))).toEqual([]);
  const covered = cases.flatMap((c) => (adapters[c.op]?.(kernelCase(c.name)) ?? []).map((check) => check.op));
  // gradients.test.ts has those, and the loss; this corpus has no plain matrix product and no lookup.
  const elsewhere = /Backward$|^(crossEntropy|linearCrossEntropy|embedding|linear)$/;
  expect(opNames.filter((op) => !covered.includes(op) && !elsewhere.test(op))).toEqual([]);
});

onEveryBackend(() => {
  for (const [op, adapter] of Object.entries(adapters)) {
    describe(op, () => {
      for (const { name } of cases.filter((c) => c.op === op)) {
        it.each(adapter(kernelCase(name)).map((check) => [`${name}: ${check.op} ${check.what ?? ''}`, check] as const))(
          '%s',
          async (_, check) => {
            await runCheck(check);
          },
        );
      }
    });
  }
});
