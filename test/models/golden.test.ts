// Every checkpoint of the corpus whose family is supported, on every CPU backend: one prefill, single steps, ragged chunks
// and packing with others give the reference's logits, and greedy decoding its tokens, from forks and saved states as well. On a device one of each family,
// the others in npm run check:full.
import { loadModel, type Model, type Session, supportedModels } from 'statespace';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { backends, onDevice } from '../conformance/backends.js';
import { expectClose, modelCase, modelNames, modelType, oneOfEachFamily, streamed } from '../support/golden.js';
import { long } from '../support/scale.js';
import { feedTokens } from '../support/sessions.js';

const supported = new Set(supportedModels());
const names = modelNames().filter((n) => supported.has(modelType(n)));
const others = modelNames().filter((n) => !names.includes(n));
if (others.length > 0) console.log(`no such model_type yet, refused by loadModel: ${others.join(', ')}`);

/** Rows that the model feeds: the cases with token ids. */
const tokenCase = (name: string) => 'input_ids' in modelCase(name).expected;

const every = names.filter((name) => tokenCase(name));
const cases = onDevice && !long ? oneOfEachFamily(every) : every;
if (cases.length < every.length)
  console.log(`left to npm run check:full: ${every.filter((n) => !cases.includes(n)).join(', ')}`);

// An emulated device takes seconds for what a CPU does in milliseconds: a row and some tokens of each case there.
const brief = onDevice && !long;
const greedyTokens = brief ? 8 : 32;

/** All of several sequences in one call. */
async function packed(model: Model, parts: { session: Session; ids: Int32Array }[]): Promise<Float32Array> {
  const all = await model.forwardBatch(parts.map(({ session, ids }) => ({ session, tokens: ids, logits: 'all' })));
  return Float32Array.from(all.flatMap((t) => [...t.toFloat32Array()]));
}

for (const backend of backends) {
  describe(`on ${backend}`, () => {
    beforeAll(() => {
      process.env.STATESPACE_BACKEND = backend;
    });
    afterAll(() => {
      process.env.STATESPACE_BACKEND = onDevice ? backend : '';
    });

    test.each(cases)('%s', async (name) => {
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
      for (let b = 0; b < (brief ? 1 : batch); b++) {
        const ids = row(b);
        const want = logits!.data.slice(b * per, (b + 1) * per);
        const whole = model.createSession();
        expectClose(await feedTokens(whole, ids, [length]), want, tolerance, 'prefill');
        const steps = model.createSession();
        expectClose(await feedTokens(steps, ids, [1]), want, tolerance, 'steps');
        expectClose(await feedTokens(model.createSession(), ids, [3, 1, 5, 2]), want, tolerance, 'chunks');
        // A fork of the whole, and the steps saved and read back, go on as those would.
        const fork = whole.fork();
        await whole.forward([0], { logits: 'none' });
        const saved = model.restoreSession(steps.save({ logits: true }));
        for (const session of [fork, steps, saved]) {
          const tokens: number[] = [];
          for await (const { token } of session.generate({ maxTokens: greedyTokens, temperature: 0 }))
            tokens.push(token);
          expect(tokens).toEqual(streamed(model, greedy_ids!.data.slice(b * 32, b * 32 + greedyTokens)));
        }
      }
      await model.dispose();
    });
  });
}

test.each(others)('%s is refused by name', async (name) => {
  await expect(loadModel(modelCase(name).folder)).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED_MODEL' });
});
