// Checkpoints by transformers whose configs say what the golden corpus does not vary (see transformers/README.md).
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadModel } from 'statespace';
import { expect, test } from 'vitest';
import { expectClose, modelCase, readGolden } from '../support/golden.js';
import { feedTokens } from '../support/sessions.js';

const root = join(__dirname, 'transformers');
const names = readdirSync(root, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));

test.each(names)('%s', async (name) => {
  const { tensors, metadata } = readGolden(join(root, name, 'expected.safetensors'));
  const [ids, logits, greedy] = ['input_ids', 'logits', 'greedy_ids'].map((key) => tensors[key]!.data);
  const tolerance = { atol: Math.max(1e-4, 10 * Number(metadata.f32_vs_f64_maxdiff)), rtol: 0 };
  const model = await loadModel(join(root, name));
  const sizes = { prefill: [ids!.length], steps: [1], chunks: [3, 1, 5] };
  for (const [form, chunks] of Object.entries(sizes)) {
    const session = model.createSession();
    expectClose(await feedTokens(session, ids as Int32Array, chunks), logits!, tolerance, form);
    const tokens: number[] = [];
    for await (const { token } of session.generate({ maxTokens: greedy!.length })) tokens.push(token);
    expect(tokens).toEqual([...greedy!]);
  }
  await model.dispose();
});

test.each(['mamba_hf', 'mamba2_hf', 'falcon_mamba'])('%s with the original name of its embedding', async (name) => {
  const { folder } = modelCase(name);
  const renamed = mkdtempSync(join(tmpdir(), 'statespace-'));
  copyFileSync(join(folder, 'config.json'), join(renamed, 'config.json'));
  const header = readFileSync(join(folder, 'model.safetensors'), 'latin1');
  const other = header.replace('"backbone.embeddings.weight":', '"backbone.embedding.weight" :'); // as long as before
  expect(other).not.toBe(header);
  writeFileSync(join(renamed, 'model.safetensors'), other, 'latin1');
  const [a, b] = await Promise.all([folder, renamed].map((f) => loadModel(f)));
  const logits = (model: typeof a) => model!.createSession().forward([3, 1, 4]);
  expect(await logits(b)).toEqual(await logits(a));
  await Promise.all([a!.dispose(), b!.dispose()]);
  rmSync(renamed, { recursive: true });
});

test.each(['mamba_hf', 'rwkv6_orig', 'jamba_p4_o3_moe'])('loading %s ends with all of its bytes', async (name) => {
  const seen: { loadedBytes: number; totalBytes: number }[] = [];
  const model = await loadModel(modelCase(name).folder, { onProgress: (done) => seen.push(done) });
  expect(seen.at(-1)!.loadedBytes).toBe(seen.at(-1)!.totalBytes);
  expect(seen.every((done) => done.loadedBytes > 0 && done.loadedBytes <= done.totalBytes)).toBe(true);
  await model.dispose();
});
