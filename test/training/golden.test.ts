// Whole models against autograd in float64: the loss, every gradient, and three steps of AdamW, on every CPU backend.
// The cases are of GRADIENTS.md's kind: training.safetensors beside a checkpoint.
import { existsSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createTrainer, loadModel, setThreads, systemInfo, type TrainingBatch } from 'statespace';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { backends, onDevice } from '../conformance/backends.js';
import { expectClose, goldenRoot, readGolden, relativeL2 } from '../support/golden.js';

const roots = [join(goldenRoot, 'training'), resolve(__dirname, '../../../shared/golden/gradients-C/models')];
const folders = new Map(
  roots.filter(existsSync).flatMap((root) => readdirSync(root).map((name) => [name, join(root, name)] as const)),
);

// The same everywhere: what a device lacks, its CPU does.
describe.each(onDevice ? ['cpu'] : backends)('on %s', (backend) => {
  const before = process.env.STATESPACE_BACKEND;
  beforeAll(() => {
    if (!onDevice) process.env.STATESPACE_BACKEND = backend;
  });
  afterAll(() => {
    if (before === undefined) delete process.env.STATESPACE_BACKEND;
    else process.env.STATESPACE_BACKEND = before;
  });

  test.each([...folders])('%s', async (_, folder) => {
    const { tensors, metadata } = readGolden(join(folder, 'training.safetensors'));
    const batch = { ids: tensors.input_ids!, labels: tensors.labels! } as TrainingBatch;
    const losses = tensors.losses!.data;
    await using model = await loadModel(folder, { device: 'cpu' });
    await using trainer = createTrainer(model, { learningRate: 1e-3, betas: [0.9, 0.95], eps: 1e-8, weightDecay: 0.1 });

    const { loss, gradients } = await trainer.gradients(batch);
    expect(Math.abs(loss - losses[0]!)).toBeLessThan(1e-5);
    const names = Object.keys(tensors).filter((name) => name.startsWith('grad.'));
    expect([...gradients.keys()].sort()).toEqual(names.map((name) => name.slice(5)).sort());
    for (const name of names) {
      const [received, wanted] = [gradients.get(name.slice(5))!, tensors[name]!];
      expect(received.shape, name).toEqual(wanted.shape);
      if (wanted.data.some((v) => Math.abs(v) > 1e-12))
        expect(relativeL2(received.data, wanted.data), name).toBeLessThan(1e-4);
    }

    // Blocks that are computed again, and another number of threads, change no bit.
    const { threads } = systemInfo();
    try {
      setThreads(threads === 1 ? 2 : 1);
      await using again = createTrainer(model, { recompute: 'blocks' });
      for (const [name, { data }] of (await again.gradients(batch)).gradients)
        expect(data, name).toEqual(gradients.get(name)!.data);
    } finally {
      setThreads(threads);
    }

    for (let i = 0; i < 3; i++) {
      const { loss: before, gradNorm } = await trainer.step(batch);
      expect(Math.abs(before - losses[i]!)).toBeLessThan(1e-5);
      expect(Math.abs(gradNorm / tensors.grad_norms!.data[i]! - 1)).toBeLessThan(1e-5);
    }
    expect(Math.abs((await trainer.evaluate(batch)).loss - losses[3]!)).toBeLessThan(1e-5);
    const after = await trainer.parameters();
    const tolerance = metadata.suggested_after_atol as Record<string, number>;
    const ends = Object.keys(tensors).filter((key) => key.startsWith('after.'));
    for (const name of ends.map((key) => key.slice(6)))
      expectClose(after.get(name)!.data, tensors[`after.${name}`]!.data, { atol: tolerance[name]!, rtol: 0 }, name);
    expect(ends.length).toBeGreaterThanOrEqual(names.length);
  });
});
