/** Work that ends before its time, many times over: terminated workers, aborted calls, forgotten sessions. */
import { resolve } from 'node:path';
import { setImmediate, setTimeout } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { createModel, ops, Tensor } from 'statespace';
import { expect, test } from 'vitest';
import { amount } from '../support/scale.js';

const minutes = 60_000;
const entry = resolve(__dirname, '../../dist/lib/index.js');
const MAMBA = { model_type: 'mamba', vocab_size: 61, hidden_size: 32, num_hidden_layers: 2, state_size: 16 };
const LLAMA = {
  model_type: 'llama',
  vocab_size: 61,
  hidden_size: 32,
  intermediate_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
};
const ids = (n: number, seed = 1) => Int32Array.from({ length: n }, (_, i) => (i * 7919 + seed * 104729) % 61);

/** Kernels still give what they gave before. */
async function works(): Promise<void> {
  const x = new Tensor(Float32Array.of(1, 2, 3, 4), [2, 2]);
  const { y } = await ops.linear({ x, weight: new Tensor(Float32Array.of(1, 1, 1, -1), [2, 2]) });
  expect([...y.data]).toEqual([3, -1, 7, -1]);
}

test(
  'workers terminated in the middle of a forward',
  async () => {
    const total = amount(12, 1000);
    // A forward that never ends by itself: as each is done the next begins.
    const code = `
      const { parentPort, workerData } = require('node:worker_threads');
      const { createModel, ops, Tensor } = require(workerData.entry);
      (async () => {
        const model = await createModel(workerData.config, { seed: 1 });
        const session = model.createSession();
        const tokens = new Int32Array(50000).fill(3);
        const x = new Tensor(new Float32Array(1 << 16).fill(1), [256, 256]);
        let running = false;
        for (;;) {
          const work = [
            session.forward(tokens, { logits: 'none', onProgress: () => { if (!running) parentPort.postMessage('runs'); running = true; } }),
            ops.linear({ x, weight: x }),
          ];
          await Promise.all(work);
        }
      })();`;
    const one = async (i: number) => {
      const worker = new Worker(code, { eval: true, workerData: { entry, config: i % 2 ? LLAMA : MAMBA } });
      const failed = new Promise((_, fail) => worker.once('error', fail));
      await Promise.race([new Promise((done) => worker.once('message', done)), failed]);
      await setTimeout((i * 7) % 20);
      expect(await worker.terminate()).toBe(1);
    };
    const started = process.memoryUsage.rss();
    let next = 0;
    await Promise.all(
      Array.from({ length: 3 }, async () => {
        while (next < total) await one(next++);
      }),
    );
    await works();
    // Each would leave its weights, state and workspace behind: megabytes a worker.
    expect(process.memoryUsage.rss() - started).toBeLessThan(400e6);
  },
  30 * minutes,
);

test(
  'aborted forwards leave their session as it was',
  async () => {
    for (const config of [MAMBA, LLAMA]) {
      const model = await createModel(config, { seed: 2 });
      const session = model.createSession();
      await session.forward(ids(80), { logits: 'none' });
      let before = session.save();
      let aborted = 0;
      for (let i = 0; aborted < amount(40, 500); i++) {
        // A third is aborted at once, the others at a moment that may come after their end.
        expect(i, 'calls are aborted before they end').toBeLessThan(10 * amount(40, 500));
        const controller = new AbortController();
        const reason = new Error('enough');
        const work = session.forward(ids(30_000, i), { logits: 'none', signal: controller.signal });
        const outcome = work.then(
          () => 'done',
          (error) => error,
        );
        if (i % 3 === 0) await setImmediate();
        else if (i % 3 === 1) await setTimeout(i % 7);
        controller.abort(reason);
        const result = await outcome;
        if (result === 'done') {
          // On a busy machine a timer may come after the last token.
          before = session.save();
          continue;
        }
        expect(result).toBe(reason);
        aborted++;
        if (aborted % 10 === 0) {
          expect(Buffer.compare(session.save(), before)).toBe(0);
          await session.forward(ids(3, i), { logits: 'none' });
          before = session.save();
        }
      }
      await model.dispose();
    }
    await works();
  },
  20 * minutes,
);

test(
  'sessions forgotten without dispose() give their memory back',
  async () => {
    // 1.1 MB of state a session: all of them together would not fit into this machine.
    const mamba = await createModel({ ...MAMBA, hidden_size: 512, state_size: 64, num_hidden_layers: 4 }, { seed: 3 });
    const llama = await createModel(LLAMA, { seed: 3 });
    expect(mamba.sessionBytes(1).total).toBeGreaterThan(1e6);
    const total = amount(1500, 10_000);
    let most = 0;
    const started = process.memoryUsage.rss();
    for (let i = 0; i < total; i++) {
      const session = mamba.createSession();
      if (i % 50 === 0) await session.forward([1, 2, 3], { logits: 'none' });
      if (i % 20 === 0) await llama.createSession().forward(ids(200, i), { logits: 'none' });
      if (i % 10 === 0) {
        session.fork();
        await setImmediate();
        most = Math.max(most, process.memoryUsage.rss() - started);
      }
    }
    expect(most).toBeLessThan(700e6);
    expect(total * mamba.sessionBytes(1).total).toBeGreaterThan(2 * 700e6);
    await works();
  },
  20 * minutes,
);
