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

/** What sequences these are meant for, where rotations depend on it: 24 tokens and 8 more. */
const lengths: Record<string, number> = { phi3_longrope_long: 32, llama_dynamic: 24 };

test.each(names)('%s', async (name) => {
  const { tensors, metadata } = readGolden(join(root, name, 'expected.safetensors'));
  const [ids, logits, greedy] = ['input_ids', 'logits', 'greedy_ids'].map((key) => tensors[key]?.data);
  const tolerance = { atol: Math.max(1e-4, 10 * Number(metadata.f32_vs_f64_maxdiff)), rtol: 0 };
  const contextLength = lengths[name];
  const model = await loadModel(join(root, name), { contextLength });
  const sizes = { prefill: [ids!.length], steps: [1], chunks: [3, 1, 5] };
  for (const [form, chunks] of Object.entries(sizes)) {
    const session = model.createSession();
    expectClose(await feedTokens(session, ids as Int32Array, chunks), logits!, tolerance, form);
    if (!greedy) continue; // beyond that length transformers turns otherwise
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

test.each([
  ['phi3_longrope', 40],
  ['phi3_longrope_long', 16],
  ['llama_dynamic', 16],
])(
  '%s: tokens that would need other rotations are refused, unless the model is loaded for so many',
  async (name, most) => {
    const model = await loadModel(join(root, name));
    const ids = Array.from({ length: most + 1 }, (_, i) => i % 30);
    const session = model.createSession();
    await session.forward(ids.slice(0, most - 1));
    const other = model.createSession();
    const refused = { code: 'ERR_ARGUMENT', message: expect.stringMatching(`at most ${most} tokens.*contextLength`) };
    await expect(session.forward([1, 2])).rejects.toMatchObject(refused);
    const both = [
      { session: other, tokens: [1] },
      { session, tokens: [1, 2] },
    ];
    await expect(model.forwardBatch(both)).rejects.toMatchObject(refused);
    expect([session.position, other.position]).toEqual([most - 1, 0]);
    await session.forward([1]);
    const generated = async () => {
      for await (const _ of session.generate({ maxTokens: 3 }));
    };
    await expect(generated()).rejects.toMatchObject(refused);

    const longer = await loadModel(join(root, name), { contextLength: most + 1 });
    await longer.createSession().forward(ids);
    // The states of one are no states of the other; up to there, they are.
    expect(() => longer.restoreSession(session.save())).toThrow(/ERR_STATE|another model/);
    const same = await loadModel(join(root, name), { contextLength: most });
    expect(same.restoreSession(session.save()).position).toBe(session.position);
    for (const m of [model, longer, same]) await m.dispose();
    await expect(loadModel(join(root, name), { contextLength: 0 })).rejects.toThrow(
      /contextLength: expected a positive/,
    );
  },
);
