// A worker that is terminated in the middle of a long op, or of any other long call, ends within 100 ms: its jobs hear
// it between pieces that are short. So does a call whose signal aborts. One op here and the other calls all at once;
// in check:full every op, and every call of models that a large machine runs.
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import * as statespace from 'statespace';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { callSync, type OpName, opNames } from '../conformance/check.js';
import { Random } from '../conformance/random.js';
import type { Args } from '../conformance/reference.js';
import { type Dims, samples } from '../conformance/samples.js';
import { LONG, needs } from '../support/needs.js';
import { long } from '../support/scale.js';
import { least } from '../support/stalls.js';

const entry = resolve(__dirname, '../../dist/lib/index.js');
/** What is asked for, and what a test allows where other tests run beside it. */
const BOUND_MS = long ? 100 : 400;
const LEAST_MS = 300;

/** Calls of an op that take longer than LEAST_MS each; undefined where none does at sizes that can be made here. */
function longArgs(op: OpName): Args | undefined {
  const dims: Dims = { B: 2, L: 512, G: 2, R: 2, P: 32, N: 32, K: 4 };
  for (let grown = 0; grown < 7; grown++) {
    const args = samples[op].args(new Random(1), dims);
    const at = performance.now();
    callSync(op, args);
    if (performance.now() - at > LEAST_MS) return args;
    dims.L *= 2;
    if (grown % 3 === 2) dims.P *= 2;
  }
  return undefined;
}

const loop = `
  const { parentPort, workerData } = require('node:worker_threads');
  const statespace = require(workerData.entry);
  const begun = () => parentPort.postMessage('runs');`;

/** The same values in memory that a worker shares: its end frees none of it. */
function shared(value: unknown): unknown {
  if (ArrayBuffer.isView(value)) {
    const view = value as Float32Array;
    const copy = new (view.constructor as Float32ArrayConstructor)(new SharedArrayBuffer(view.byteLength));
    copy.set(view);
    return copy;
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([name, v]) => [name, shared(v)]));
}

/** Milliseconds that terminate() takes, `after` ms after the worker's work began. */
async function terminated(code: string, data: object, after: number): Promise<number> {
  const worker = new Worker(`${loop}${code}`, { eval: true, workerData: { entry, ...data } });
  const failed = new Promise((_, fail) => worker.once('error', fail));
  await Promise.race([new Promise((done) => worker.once('message', done)), failed]);
  await setTimeout(after);
  const start = performance.now();
  expect(await worker.terminate()).toBe(1);
  return performance.now() - start;
}

/** The best of some tries: a machine that does other work delays any of them. */
function soonest(code: string, data: object): Promise<number> {
  let tried = 0;
  return least(BOUND_MS, () => terminated(code, data, 60 + 47 * (tried++ % 5)));
}

/** Some 0.8 s on two cores. */
const LONG_ATTENTION = `
  const { ops, Tensor } = statespace;
  const x = new Tensor(new Float32Array(12_000 * 512).fill(0.01), [1, 12_000, 8, 64]);
  begun();
  (async () => { for (;;) await ops.attention({ q: x, k: x, v: x }); })();`;

test('attention over 12,000 tokens', { timeout: 600_000 }, async () => {
  expect(await soonest(LONG_ATTENTION, {})).toBeLessThan(BOUND_MS);
});

test.runIf(needs(long, LONG)).each(opNames)('%s', { timeout: 600_000 }, async (op) => {
  const args = longArgs(op);
  if (!args) return console.log(`${op}: takes no ${LEAST_MS} ms at the sizes tried`);
  const code = `begun(); (async () => { for (;;) await statespace.ops[workerData.op](workerData.args); })();`;
  expect(await soonest(code, { op, args: shared(args) })).toBeLessThan(BOUND_MS);
});

const { calls, unsignalled, config } = createRequire(__filename)('../support/endless-calls.cjs');
const sizes = long ? { width: 2048, layers: 8, tokens: 20_000 } : { width: 64, layers: 2, tokens: 4000 };
const folder = mkdtempSync(join(tmpdir(), 'statespace-termination-'));

/** In a worker: calls of these kinds, each again and again. */
const ENDLESS = `
  const { calls, unsignalled } = require(workerData.kinds);
  (async () => {
    const made = workerData.names.map((name) => ({ ...calls, ...unsignalled })[name](statespace, workerData.sizes));
    const running = await Promise.all(made);
    begun();
    for (const call of running) (async () => { for (;;) await call(); })();
  })().catch((error) => { setImmediate(() => { throw error; }); });`;
const kinds = resolve(__dirname, '../support/endless-calls.cjs');

describe('calls', () => {
  beforeAll(async () => {
    await using model = await statespace.createModel(config(sizes), { seed: 1, dtype: 'bf16' });
    await statespace.saveModel(model, folder);
  }, 600_000);
  afterAll(() => rmSync(folder, { recursive: true }));
  const each = { ...sizes, folder };
  const all = [...Object.keys(calls), ...Object.keys(unsignalled)];
  // A synchronous op leaves the others no turn.
  const together = all.filter((name) => name !== 'opSync');

  const groups = long ? all.map((name) => [name]) : [together, ['opSync']];
  test.each(groups)('a worker that does %s is terminated', { timeout: 600_000 }, async (...names) => {
    expect(await soonest(ENDLESS, { kinds, names, sizes: each })).toBeLessThan(BOUND_MS);
  });

  test.each(long ? Object.keys(calls).map((name) => [name]) : [Object.keys(calls)])(
    '%s ends by its signal',
    { timeout: 600_000 },
    async (...names) => {
      const made = await Promise.all(names.map((name) => calls[name](statespace, each)));
      const once = async () => {
        const controller = new AbortController();
        const reason = new Error('enough');
        const ended = made.map(async (call) => {
          for (;;) await call(controller.signal);
        });
        const heard = Promise.allSettled(ended);
        await setTimeout(long ? 300 : 50);
        const start = performance.now();
        controller.abort(reason);
        const outcomes = await heard;
        const ms = performance.now() - start;
        expect(outcomes).toEqual(outcomes.map(() => ({ status: 'rejected', reason })));
        return ms;
      };
      expect(await least(BOUND_MS, once)).toBeLessThan(BOUND_MS);
    },
  );
});
