// Checkpoints by transformers whose configs say what the golden corpus does not vary (see transformers/README.md).
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { loadModel } from 'statespace';
import { expect, test } from 'vitest';
import { expectClose, readGolden } from '../support/golden.js';
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
