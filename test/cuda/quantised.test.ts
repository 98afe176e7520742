// Files of quantised types on a device: what its products read stays as it lies, the rest becomes bf16. Needs a device:
// npm run test:cuda or test:cuda:emulated.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createModel, describeModel, loadModel, type Model, quantize } from 'statespace';
import { afterAll, describe, expect, test } from 'vitest';
import { onDevice } from '../conformance/backends.js';
import { relativeL2 } from '../support/golden.js';
import { needs } from '../support/needs.js';

const root = mkdtempSync(join(tmpdir(), 'statespace-quantised-'));
afterAll(() => rmSync(root, { recursive: true }));

const sizes = { vocab_size: 96, hidden_size: 256, num_hidden_layers: 2, intermediate_size: 256 };
const heads = { num_attention_heads: 4, num_key_value_heads: 2 };
const configs: Record<string, object> = {
  llama: { model_type: 'llama', ...sizes, ...heads },
  mixtral: { model_type: 'mixtral', ...sizes, ...heads, num_local_experts: 2, num_experts_per_tok: 2 },
  mamba: { model_type: 'mamba', vocab_size: 96, hidden_size: 256, num_hidden_layers: 2, state_size: 4 },
};

const ids = Int32Array.from({ length: 24 }, (_, i) => (i * 37 + 5) % 90); // tiles, then single rows
async function logits(model: Model): Promise<Float32Array> {
  const session = model.createSession();
  const rows = [await session.forward(ids, { logits: 'all' })];
  for (const id of [7, 8]) rows.push(await session.forward([id]));
  await model.dispose();
  return Float32Array.from(rows.flatMap((r) => [...r.toFloat32Array()]));
}

describe.runIf(needs(onDevice, 'STATESPACE_BACKEND, which names a device'))('on a device', () => {
  test.each(Object.keys(configs))('%s as q4_K_M', async (name) => {
    const folder = join(root, name);
    const made = await createModel(configs[name] as Record<string, unknown>, { device: 'cpu', seed: 3 });
    await made.save(folder);
    await made.dispose();
    const file = join(root, `${name}.gguf`);
    const { tensors } = await quantize(folder, file, { type: 'q4_K_M' });
    const types = new Set(tensors.map((t) => t.type));
    expect(types.has('q4_k') && types.has('q6_k')).toBe(true);
    const exact = await logits(await loadModel(file, { device: 'cpu', exact: true }));
    const device = await loadModel(file, { device: 'cuda' });
    const described = await describeModel(file, { device: 'cuda' });
    expect(described.tensors.filter((t) => t.stored !== t.held)).toEqual([]);
    expect(relativeL2(await logits(device), exact)).toBeLessThan(5e-3);
  });

  test('a folder by dtype, and types that it has no products for', async () => {
    const folder = join(root, 'llama');
    const [held, exact] = await Promise.all([
      loadModel(folder, { device: 'cuda', dtype: 'q6_k' }),
      loadModel(folder, { device: 'cpu', dtype: 'q6_k', exact: true }),
    ]);
    expect(relativeL2(await logits(held), await logits(exact))).toBeLessThan(5e-3);
    await expect(loadModel(folder, { device: 'cuda', dtype: 'q5_k' })).rejects.toMatchObject({
      code: 'ERR_DTYPE',
      message: expect.stringContaining('q5_k is multiplied on the CPU only'),
    });
  });
});
