// Checkpoints that transformers makes of random configs (transformers/random_models.py), of every family that it has too:
// read whole, in pieces, packed with others, forked and restored here, as GGUF files too; and saved again, read by transformers.
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadModel, quantize } from 'statespace';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { writable } from '../../dist/lib/quantize/keys/index.js';
import { readGolden, relativeL2 } from '../support/golden.js';
import { needs } from '../support/needs.js';
import { succeed } from '../support/process.js';
import { amount } from '../support/scale.js';
import { ways } from '../support/ways.js';

const python = process.env.STATESPACE_PYTHON;
/** Another one draws others. */
const seed = process.env.STATESPACE_SEED ?? '1';

describe.runIf(needs(python, 'STATESPACE_PYTHON, a Python with transformers'))('random configs of transformers', () => {
  const folder = mkdtempSync(join(tmpdir(), 'statespace-'));
  const [drawn, saved, read] = ['drawn', 'saved', 'read'].map((name) => join(folder, name)) as [string, string, string];
  const script = (...args: string[]) =>
    succeed(python!, [join(__dirname, 'transformers/random_models.py'), ...args], { timeout: 3_600_000 });
  afterAll(() => rmSync(folder, { recursive: true }), 600_000);
  beforeAll(async () => {
    await script('make', drawn, seed, `${amount(1, 10)}`);
  }, 3_600_000);

  async function each(check: (name: string, ids: Int32Array, close: (logits: Float32Array) => void) => Promise<void>) {
    const names = readdirSync(drawn).sort();
    expect(names.length).toBeGreaterThan(30);
    for (const name of names) {
      const { input_ids, logits, logits_f32 } = readGolden(join(drawn, name, 'expected.safetensors')).tensors;
      // What rounding does to such weights, transformers' own f32 shows, but for norms and delta rules, which round alike in
      // its f64.
      const most = Math.max(1e-5, 20 * relativeL2(logits_f32!.data, logits!.data));
      await check(name, input_ids!.data as Int32Array, (received) =>
        expect(relativeL2(received, logits!.data), name).toBeLessThan(most),
      );
    }
  }

  test.each(Object.entries(ways))('%s', { timeout: 600_000 }, (_, way) =>
    each(async (name, ids, close) => {
      await using model = await loadModel(join(drawn, name));
      close(await way(model, ids));
    }),
  );

  test('as GGUF files', { timeout: 600_000 }, async () => {
    const file = join(folder, 'x.gguf');
    const types = new Set<string>();
    await each(async (name, ids, close) => {
      const { model_type } = JSON.parse(readFileSync(join(drawn, name, 'config.json'), 'utf8'));
      if (!writable.includes(model_type)) return;
      try {
        await quantize(join(drawn, name), file, { type: 'f32' });
      } catch (error) {
        expect(error, name).toMatchObject({ code: 'ERR_UNSUPPORTED_MODEL', message: expect.stringMatching(/\bGGUF/) });
        return; // what the format cannot hold
      }
      types.add(model_type);
      await using model = await loadModel(file, { exact: true });
      close(await ways.whole!(model, ids));
    });
    expect(types.size).toBeGreaterThan(15);
  });

  test('saved again, and read by transformers', { timeout: 3_600_000 }, async () => {
    mkdirSync(saved);
    mkdirSync(read);
    await each(async (name) => {
      await using model = await loadModel(join(drawn, name));
      await model.save(join(saved, name));
      copyFileSync(join(drawn, name, 'expected.safetensors'), join(saved, name, 'expected.safetensors'));
    });
    await script('read', saved, read);
    await each(async (name, _, close) => {
      close(readGolden(join(read, `${name}.safetensors`)).tensors.logits!.data as Float32Array);
    });
  });
});
