// GGUF files of random models that gguf-py writes as llama.cpp's converter does (transformers/random_ggufs.py): every
// architecture and type, mixed, split, aligned otherwise, with keys that nobody knows and without those that have a standard.
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadModel } from 'statespace';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readGolden, relativeL2 } from '../support/golden.js';
import { needs } from '../support/needs.js';
import { succeed } from '../support/process.js';
import { amount } from '../support/scale.js';

const python = process.env.STATESPACE_PYTHON;
/** Another one draws others. */
const seed = process.env.STATESPACE_SEED ?? '1';

async function logitsOf(path: string, ids: Int32Array, exact: boolean): Promise<Float32Array> {
  await using model = await loadModel(path, { exact });
  return (await model.createSession().forward(ids, { logits: 'all' })).toFloat32Array();
}

describe.runIf(needs(python, 'STATESPACE_PYTHON, a Python with transformers and gguf'))('random GGUF files', () => {
  const folder = mkdtempSync(join(tmpdir(), 'statespace-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  beforeAll(async () => {
    const script = join(__dirname, 'transformers/random_ggufs.py');
    await succeed(python!, [script, folder, seed, `${amount(1, 10)}`], { timeout: 3_600_000 });
  }, 3_600_000);

  async function each(check: (file: string, golden: ReturnType<typeof readGolden>) => Promise<void>): Promise<void> {
    const there = readdirSync(folder).sort();
    const names = there.filter((name) => name.endsWith('.safetensors')).map((name) => name.slice(0, -12));
    expect(names.length).toBeGreaterThan(20);
    for (const name of names) {
      const file = there.find((other) => other === `${name}.gguf` || other.startsWith(`${name}-00001-of-`));
      await check(join(folder, file!), readGolden(join(folder, `${name}.safetensors`)));
    }
  }

  test('exact: the logits of the reference on the weights that the file holds', { timeout: 600_000 }, () =>
    each(async (file, { tensors, metadata }) => {
      const { input_ids, logits, logits_f32 } = tensors;
      // What rounding does to such weights, the reference's own f32 shows.
      const most = Math.max(1e-5, 10 * relativeL2(logits_f32!.data, logits!.data));
      const received = await logitsOf(file, input_ids!.data as Int32Array, true);
      expect(relativeL2(received, logits!.data), `${file}\n${JSON.stringify(metadata)}`).toBeLessThan(most);
    }),
  );

  // Each product errs by 0.5 % of its result, which such networks magnify by up to four.
  test('products in int8: within 3 %, and at least a quarter of the tokens of mixtures', { timeout: 600_000 }, () =>
    each(async (file, { tensors, metadata }) => {
      const [ids, logits] = [tensors.input_ids!.data as Int32Array, tensors.logits!.data];
      const received = await logitsOf(file, ids, false);
      const width = received.length / ids.length;
      const row = (values: ArrayLike<number>, i: number) =>
        Array.from({ length: width }, (_, j) => values[i * width + j]!);
      const errors = Array.from(ids, (_, i) => relativeL2(row(received, i), row(logits, i))).sort((a, b) => a - b);
      // Where a router's choice is a close one, it may fall otherwise, and with it the tokens behind.
      const routed = Number((metadata.keys as Record<string, unknown>).expert_used_count ?? 0) > 1;
      const error = routed ? errors[errors.length >> 2]! : relativeL2(received, logits);
      expect(error, `${file}\n${JSON.stringify(metadata)}`).toBeLessThan(3e-2);
    }),
  );
});
