// Every checkpoint of the corpus whose family is supported, on every CPU backend: one prefill, single steps, ragged
// chunks and packing with others give the reference's logits, and greedy decoding its tokens.
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadModel, type Model, type Session, supportedModels, systemInfo, Tensor } from 'statespace';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectClose, modelCase, modelNames, readGolden, relativeL2 } from '../support/golden.js';

const modelType = (name: string): string => {
  try {
    return JSON.parse(readFileSync(join(modelCase(name).folder, 'config.json'), 'utf8')).model_type ?? 'mamba_ssm';
  } catch {
    return 'rwkv';
  }
};
const supported = new Set(supportedModels());
const names = modelNames().filter((n) => supported.has(modelType(n)));
const others = modelNames().filter((n) => !supported.has(modelType(n)));
if (others.length > 0) console.log(`no such model_type yet, refused by loadModel: ${others.join(', ')}`);

/** Rows that the model feeds: the cases with token ids. */
const tokenCase = (name: string) => 'input_ids' in modelCase(name).expected;

/** A copy of a checkpoint with its tensors in another type. */
function writeHalves(source: string, dtype: 'bf16' | 'f16'): string {
  const folder = mkdtempSync(join(tmpdir(), 'statespace-'));
  copyFileSync(join(source, 'config.json'), join(folder, 'config.json'));
  const header: Record<string, unknown> = {};
  const parts: Buffer[] = [];
  let at = 0;
  for (const [name, t] of Object.entries(readGolden(join(source, 'model.safetensors')).tensors)) {
    const { data } = new Tensor(t.data as Float32Array, t.shape).to(dtype);
    const part = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    header[name] = { dtype: dtype.toUpperCase(), shape: t.shape, data_offsets: [at, at + part.length] };
    parts.push(part);
    at += part.length;
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(join(folder, 'model.safetensors'), Buffer.concat([length, text, ...parts]));
  return folder;
}

/** All of several sequences in one call. */
async function packed(model: Model, parts: { session: Session; ids: Int32Array }[]): Promise<Float32Array> {
  const handles = parts.map(({ session }) => (session as unknown as { handle: object }).handle);
  const ids = Int32Array.from(parts.flatMap((p) => [...p.ids]));
  const lengths = parts.map((p) => p.ids.length);
  return model.forward(handles as Parameters<Model['forward']>[0], ids, lengths, 'all', {});
}

async function chunked(session: Session, ids: Int32Array, sizes: number[]): Promise<Float32Array> {
  const rows: number[] = [];
  for (let at = 0, i = 0; at < ids.length; i++) {
    const n = Math.min(sizes[i % sizes.length]!, ids.length - at);
    rows.push(...(await session.forward(ids.subarray(at, at + n), { logits: 'all' })).toFloat32Array());
    at += n;
  }
  return Float32Array.from(rows);
}

for (const backend of systemInfo().cpu.available) {
  describe(`on ${backend}`, () => {
    beforeAll(() => {
      process.env.STATESPACE_BACKEND = backend;
    });
    afterAll(() => {
      process.env.STATESPACE_BACKEND = '';
    });

    test.each(names.filter(tokenCase))('%s', async (name) => {
      const { folder, expected, tolerance } = modelCase(name);
      const model = await loadModel(folder, { dtype: 'f32' });
      const { input_ids, logits, greedy_ids } = expected;
      const [batch, length] = input_ids!.shape as [number, number];
      const per = logits!.data.length / batch;
      const row = (b: number) => (input_ids!.data as Int32Array).subarray(b * length, (b + 1) * length);
      // The last row again, its first tokens already there; then whole rows around one of one token.
      const begun = model.createSession();
      await begun.forward(row(batch - 1).subarray(0, 5), { logits: 'none' });
      const joined = await packed(model, [
        { session: begun, ids: row(batch - 1).subarray(5) },
        { session: model.createSession(), ids: row(0).subarray(0, 1) },
        ...Array.from({ length: batch }, (_, b) => ({ session: model.createSession(), ids: row(b) })),
      ]);
      const all = [...logits!.data];
      const wantJoined = [...all.slice((batch - 1) * per + 5 * (per / length)), ...all.slice(0, per / length), ...all];
      expectClose(joined, wantJoined, tolerance, 'packed');
      for (let b = 0; b < batch; b++) {
        const ids = row(b);
        const want = logits!.data.slice(b * per, (b + 1) * per);
        const whole = model.createSession();
        expectClose(await chunked(whole, ids, [length]), want, tolerance, 'prefill');
        const steps = model.createSession();
        expectClose(await chunked(steps, ids, [1]), want, tolerance, 'steps');
        expectClose(await chunked(model.createSession(), ids, [3, 1, 5, 2]), want, tolerance, 'chunks');
        for (const session of [whole, steps]) {
          const tokens: number[] = [];
          for await (const { token } of session.generate({ maxTokens: 32, temperature: 0 })) tokens.push(token);
          expect(tokens).toEqual([...greedy_ids!.data.slice(b * 32, (b + 1) * 32)]);
        }
      }
      await model.dispose();
    });

    // The rounding of a checkpoint's weights is the checkpoint's; what holding them as halves adds is ours.
    test.each(
      ['mamba_hf', 'llama_gqa', 'mamba2_hf', 'jamba_p4_o3_moe', 'rwkv4_hf', 'rwkv6_orig', 'rwkv7_orig'].flatMap(
        (n) =>
          [
            [n, 'bf16'],
            [n, 'f16'],
          ] as const,
      ),
    )('%s written as %s: held so or as f32, the logits agree to 1e-2', async (name, dtype) => {
      const folder = writeHalves(modelCase(name).folder, dtype);
      const ids = Int32Array.from({ length: 40 }, (_, i) => (i * 37 + 5) % 60);
      const [held, wide] = await Promise.all([loadModel(folder), loadModel(folder, { dtype: 'f32' })]);
      const [got, want] = await Promise.all([held, wide].map((m) => m.createSession().forward(ids, { logits: 'all' })));
      expect(relativeL2(got!.toFloat32Array(), want!.toFloat32Array())).toBeLessThan(1e-2);
      await Promise.all([held.dispose(), wide.dispose()]);
      rmSync(folder, { recursive: true });
    });
  });
}

test.each(others)('%s is refused by name', async (name) => {
  await expect(loadModel(modelCase(name).folder)).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED_MODEL' });
});
