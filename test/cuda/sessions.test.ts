// Sessions across devices: what the GPU or the emulated device saved goes on on the CPU, and the other way round. Needs a
// device: npm run test:cuda or test:cuda:emulated.
import { createModel, loadModel, type Session, supportedModels } from 'statespace';
import { expect, test } from 'vitest';
import { onDevice } from '../conformance/backends.js';
import { expectClose, modelCase, modelNames, modelType, oneOfEachFamily, streamed } from '../support/golden.js';
import { needs } from '../support/needs.js';

const names = oneOfEachFamily(
  modelNames().filter((n) => supportedModels().includes(modelType(n)) && 'input_ids' in modelCase(n).expected),
);

async function greedy(session: Session, maxTokens: number): Promise<number[]> {
  const tokens: number[] = [];
  for await (const { token } of session.generate({ maxTokens, temperature: 0 })) tokens.push(token);
  return tokens;
}

test.runIf(needs(onDevice, 'STATESPACE_BACKEND, which names a device')).each(names)(
  '%s: saved on one device, restored on the other, forked on both',
  async (name) => {
    const { folder, expected, tolerance } = modelCase(name);
    const [device, cpu] = await Promise.all([
      loadModel(folder, { device: 'cuda', dtype: 'f32' }),
      loadModel(folder, { device: 'cpu', dtype: 'f32' }),
    ]);
    const [, length] = expected.input_ids!.shape as [number, number];
    const ids = (expected.input_ids!.data as Int32Array).subarray(0, length);
    const vocab = expected.logits!.data.length / expected.input_ids!.data.length;
    const cut = length >> 1;
    const rest = expected.logits!.data.slice(cut * vocab, length * vocab);
    const want = streamed(cpu, expected.greedy_ids!.data.slice(0, 6));
    for (const [from, to] of [
      [device, cpu],
      [cpu, device],
    ] as const) {
      const first = from.createSession();
      await first.forward(ids.subarray(0, cut), { logits: 'none' });
      const fork = first.fork();
      const snapshot = first.save();
      await first.forward(ids.subarray(0, 3), { logits: 'none' }); // a fork keeps what it was
      for (const session of [fork, to.restoreSession(snapshot)]) {
        const logits = await session.forward(ids.subarray(cut), { logits: 'all' });
        expectClose(logits.toFloat32Array(), rest, tolerance, 'logits behind the cut');
        expect(await greedy(session, 6)).toEqual(want);
      }
    }
    await Promise.all([device.dispose(), cpu.dispose()]);
  },
);

test.runIf(needs(onDevice, 'STATESPACE_BACKEND, which names a device'))(
  'many sessions grow the pool of the device, and their states stay',
  async () => {
    const config = { model_type: 'mamba', vocab_size: 50, hidden_size: 16, num_hidden_layers: 2, state_size: 4 };
    const [device, cpu] = await Promise.all([
      createModel(config, { device: 'cuda', seed: 3 }),
      createModel(config, { device: 'cpu', seed: 3 }),
    ]);
    const sessions = Array.from({ length: 40 }, () => device.createSession());
    await Promise.all(sessions.map((s, i) => s.forward([i, i + 1, i + 2], { logits: 'none' })));
    sessions.push(...sessions.slice(0, 20).map((s) => s.fork()));
    const got = await Promise.all(sessions.map((s) => s.forward([7])));
    for (const [i, logits] of got.entries()) {
      const one = cpu.createSession();
      const seed = i % 40;
      await one.forward([seed, seed + 1, seed + 2], { logits: 'none' });
      expectClose(logits.toFloat32Array(), (await one.forward([7])).toFloat32Array(), { atol: 1e-5, rtol: 1e-4 });
    }
    await Promise.all([device.dispose(), cpu.dispose()]);
  },
);
