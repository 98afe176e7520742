// Qwen4's hashes: integers of 64 bits beside the parameters.
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createTrainer, loadModel } from 'statespace';
import { expect, test } from 'vitest';
import { goldenRoot, readGolden } from '../support/golden.js';
import { temporary } from '../support/training.js';

test('integers of 64 bits, which f32 does not hold, are saved as they are', async () => {
  const folder = join(goldenRoot, 'training/qwen4_exp');
  const to = await temporary();
  await using model = await loadModel(folder, { device: 'cpu' });
  await using trainer = createTrainer(model);
  await trainer.save(join(to, 'trained'));
  await model.save(join(to, 'saved'));
  const before = readGolden(join(folder, 'model.safetensors')).tensors;
  for (const name of ['saved', 'trained']) {
    await using again = await loadModel(join(to, name), { device: 'cpu' });
    const written = readGolden(join(to, name, 'model.safetensors')).tensors;
    for (const [key, t] of Object.entries(before)) expect(written[key]!.data, key).toEqual(t.data);
    const [a, b] = await Promise.all(
      [model, again].map((m) => m.createSession().forward([1, 7, 3, 3, 9, 2], { logits: 'all' })),
    );
    expect(b!.toFloat32Array()).toEqual(a!.toFloat32Array());
    // As values they are words of 16 bits.
    const words = (await again.parameters()).get('model.layers.0.ple.ple_embedding.layer_multipliers')!;
    expect(words.shape).toEqual([3, 4]);
    await again.setParameters(new Map([['model.layers.0.ple.ple_embedding.layer_multipliers', words]]));
  }
  await rm(to, { recursive: true });
});
