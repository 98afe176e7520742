// The process that the package lives in: workers that end, results that move, limits of the system, other realms.
import { setMaxListeners } from 'node:events';
import { rmSync } from 'node:fs';
import { resolve } from 'node:path';
import { setImmediate, setTimeout } from 'node:timers/promises';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import { createModel, loadModel, ops, StatespaceError, systemInfo, Tensor } from 'statespace';
import { describe, expect, it } from 'vitest';
import { LONG, needs } from '../support/needs.js';
import { run, succeed } from '../support/process.js';
import { long } from '../support/scale.js';
import { least, processorMs, took, until } from '../support/stalls.js';
import { textModelFolder } from '../support/text-model.js';

const entry = resolve(__dirname, '../../dist/lib/index.js');
const MAMBA = { model_type: 'mamba', vocab_size: 61, hidden_size: 32, num_hidden_layers: 2, state_size: 16 };

/** Runs a program in a process of its own, with the package as `statespace`; what it prints, as JSON. */
async function child(program: string, env: Record<string, string> = {}): Promise<unknown> {
  const code = `const statespace = require(${JSON.stringify(entry)}); (async () => { ${program} })();`;
  return JSON.parse(await succeed(process.execPath, ['-e', code], { env: { ...process.env, ...env } }));
}

const scanArgs = (L: number, D = 64) => {
  const u = new Tensor(new Float32Array(L * D).fill(0.5), [1, L, D]);
  const B = new Tensor(new Float32Array(L * 16).fill(0.25), [1, L, 16]);
  return { u, delta: u, A: new Tensor(new Float32Array(D * 16).fill(-1), [D, 16]), B, C: B };
};

describe('a worker that is terminated during an op', () => {
  const program = (size: number) => `
    const { parentPort, workerData } = require('node:worker_threads');
    const { ops, Tensor } = require(workerData);
    const [L, D] = [${size} >> 8, 64];
    const u = new Tensor(new Float32Array(L * D).fill(0.5), [1, L, D]);
    const B = new Tensor(new Float32Array(L * 16).fill(0.25), [1, L, 16]);
    const A = new Tensor(new Float32Array(D * 16).fill(-1), [D, 16]);
    parentPort.postMessage('runs');
    (async () => { for (;;) await Promise.all([1, 2, 3].map(() => ops.selectiveScan({ u, delta: u, A, B, C: B }))); })();`;

  it.each([2 << 20, 160 << 20])(
    'ends soon, and nobody writes to the memory of its results of %i bytes',
    async (size) => {
      const before = ops.selectiveScanSync(scanArgs(5000));
      let tried = 0;
      const end = async () => {
        const worker = new Worker(program(size), { eval: true, workerData: entry });
        const failed = new Promise((_, fail) => worker.once('error', fail));
        await Promise.race([new Promise((done) => worker.once('message', done)), failed]);
        await setTimeout(30 + 17 * (tried++ % 3));
        const ms = await took(async () => expect(await worker.terminate()).toBe(1));
        const mine = Array.from({ length: 6 }, () => new Float32Array(ops.selectiveScanSync(scanArgs(5000)).y.data));
        for (const y of mine) expect(Buffer.compare(Buffer.from(y.buffer), Buffer.from(before.y.data.buffer))).toBe(0);
        return ms;
      };
      for (let i = 0; i < 3; i++) expect(await least(1500, end)).toBeLessThan(1500);
    },
  );
});

describe('large results', () => {
  it.each([1 << 16, 1 << 20, 5 << 20])('of %i values can be transferred', async (count) => {
    const x = new Tensor(new Float32Array(count).fill(2), [count / 64, 64]);
    const { y } = await ops.rmsNorm({ x });
    const expected = y.data[count - 1];
    const moved = structuredClone(y.data, { transfer: [y.data.buffer as ArrayBuffer] });
    expect([y.data.length, moved.length, moved[count - 1]]).toEqual([0, count, expected]);
  });

  it('outlive the worker that made them', async () => {
    const code = `
      const { parentPort, workerData } = require('node:worker_threads');
      const { ops, Tensor } = require(workerData);
      const x = new Tensor(new Float32Array(1 << 21).fill(3), [1 << 15, 64]);
      ops.rmsNorm({ x }).then(({ y }) => parentPort.postMessage(y.data, [y.data.buffer]));`;
    const worker = new Worker(code, { eval: true, workerData: entry });
    const data = await new Promise<Float32Array>((done, fail) => worker.once('message', done).once('error', fail));
    await worker.terminate();
    for (let i = 0; i < 5; i++) ops.rmsNormSync({ x: new Tensor(new Float32Array(1 << 21).fill(i), [1 << 15, 64]) });
    expect(data.every((v) => Math.abs(v - 1) < 1e-5)).toBe(true);
  });

  it('that a synchronous loop drops leave memory bounded', async () => {
    const seen = (await child(`
      const { ops, Tensor } = statespace;
      const x = new Tensor(new Float32Array(4 << 20).fill(1), [1 << 16, 64]);
      ops.rmsNormSync({ x });
      const before = process.memoryUsage.rss();
      let most = 0;
      for (let i = 0; i < 200; i++) { ops.rmsNormSync({ x }); most = Math.max(most, process.memoryUsage.rss()); }
      await new Promise((done) => setTimeout(done, 6000));
      console.log(JSON.stringify({ grown: most - before }));`)) as { grown: number };
    expect(seen.grown).toBeLessThan(400e6); // of 3.2 GB
  });

  it('of more than 4 GiB are results or typed errors', async () => {
    const seen = (await child(
      `
      const { output } = require(${JSON.stringify(resolve(entry, '../ops/run.js'))});
      const { Sizes } = require(${JSON.stringify(resolve(entry, '../ops/check.js'))});
      const told = (count) => { try { return output(new Sizes('op'), 'y', [count]).data.length; } catch (e) { return e.code; } };
      console.log(JSON.stringify([2 ** 30 + 1, 2 ** 42].map(told)));`,
      { STATESPACE_POISON: '0' },
    )) as unknown[];
    expect([2 ** 30 + 1, 'ERR_OUT_OF_MEMORY']).toContain(seen[0]);
    expect(seen[1]).toBe('ERR_OUT_OF_MEMORY');
  });
});

describe('logits of a session', () => {
  const model = `
    require('node:v8').setFlagsFromString('--expose-gc');
    const gc = require('node:vm').runInNewContext('gc');
    const collected = async (ref) => {
      for (let i = 0; i < 200; i++) {
        await new Promise((done) => setTimeout(done, 20)); // what deref() gives stays until then
        gc();
        if (!ref.deref()) return true;
      }
      return false;
    };
    const config = { model_type: 'mamba', vocab_size: 50280, hidden_size: 16, num_hidden_layers: 1, state_size: 4 };
    const model = await statespace.createModel(config, { seed: 1 });
    const session = model.createSession();
    const tokens = (length) => Int32Array.from({ length }, (_, i) => (i * 7919) % 50280);`;

  it('are not kept once the caller has dropped them', async () => {
    const seen = await child(`${model}
      const calls = {
        forward: () => session.forward(tokens(8), { logits: 'all' }),
        forwardBatch: async () => (await model.forwardBatch([{ session, tokens: tokens(8), logits: 'all' }]))[0],
        save: () => session.saveAsync(),
      };
      const kept = [];
      for (const [name, call] of Object.entries(calls)) {
        const result = await (async () => new WeakRef(await call()))();
        if (!(await collected(result))) kept.push(name);
      }
      console.log(JSON.stringify(kept));`);
    expect(seen).toEqual([]);
  });

  // 4.3 GB of memory: in npm run check:full.
  it.runIf(needs(long, LONG) && needs(process.platform === 'linux', 'Linux'))(
    'of more than 4 GiB are written in place, and leave the event loop its turns',
    async () => {
      const seen = (await child(`${model}
      const { readFileSync } = require('node:fs');
      // Processor time of the loop's thread, in ms.
      const spent = () => Number(readFileSync('/proc/self/task/' + process.pid + '/schedstat', 'utf8').split(' ')[0]) / 1e6;
      let [worst, last] = [0, spent()];
      const beat = () => { const now = spent(); worst = Math.max(worst, now - last); last = now; };
      const timer = setInterval(beat, 5);
      const all = await session.forward(tokens(21500), { logits: 'all' });
      beat();
      clearInterval(timer);
      const one = await model.createSession().forward(tokens(21500));
      const row = all.data.subarray(21499 * 50280);
      console.log(JSON.stringify({ worst, shape: all.shape, equal: one.data.every((v, i) => v === row[i]) }));`)) as {
        worst: number;
      };
      expect(seen).toMatchObject({ shape: [21500, 50280], equal: true });
      expect(seen.worst).toBeLessThan(500); // 3,000 where the result is copied
    },
  );
});

describe('threads', () => {
  it.each(['abc', '0', '-1', '2.5', '3x', '99999'])('STATESPACE_THREADS=%s is an error', async (value) => {
    const code = `console.log(JSON.stringify([() => statespace.systemInfo(), () => statespace.setThreads(2)].map((f) => {
      try { f(); return 'no error'; } catch (e) { return e instanceof statespace.StatespaceError && e.code + e.message; } })))`;
    for (const told of (await child(code, { STATESPACE_THREADS: value })) as string[])
      expect(told).toMatch(/^ERR_ARGUMENTSTATESPACE_THREADS: expected an integer from 1 to 1024/);
  });

  it.runIf(needs(process.platform === 'linux', 'Linux'))('that the system refuses are done without', async () => {
    const seen = await child(`
      const { execFileSync } = require('node:child_process');
      require(${JSON.stringify(resolve(entry, '../native.js'))}).native();
      execFileSync('prlimit', ['--pid', String(process.pid), '--nproc=1:1']);
      if (process.getuid() === 0) process.setuid(65534);
      const { ops, Tensor, setThreads, systemInfo } = statespace;
      setThreads(8);
      const x = new Tensor(new Float32Array(1 << 16).fill(1), [256, 256]);
      const sync = ops.linearSync({ x, weight: x }).y.data[0];
      const { y } = await ops.linear({ x, weight: x });
      const { threads, threadShortage } = systemInfo();
      console.log(JSON.stringify({ threads, threadShortage, sync, off: y.data[0] }));`);
    expect(seen).toMatchObject({ threads: 1, sync: 256, off: 256 });
    expect((seen as { threadShortage: string }).threadShortage).toMatch(/asked for 8, the system allowed 1: /);
  });

  it('there are as many as were asked for, where the system has them', () => {
    expect(systemInfo().threadShortage).toBeUndefined();
  });
});

describe('values of another realm', () => {
  const of = (code: string) => runInNewContext(code);

  it('are inputs, bounds and positions of ops', () => {
    const x = { data: of('Float32Array.of(1, 2, 3, 4)'), shape: of('[1, 4, 1]') };
    expect([...ops.causalConv1dSync({ x, weight: { data: Float32Array.of(1), shape: [1, 1] } }).y.data]).toEqual([
      1, 2, 3, 4,
    ]);
    const { y } = ops.causalConv1dSync({
      x,
      weight: { data: Float32Array.of(1, 1), shape: [1, 2] },
      cuSeqlens: of('Int32Array.of(0, 2, 4)'),
    });
    expect([...y.data]).toEqual([1, 3, 3, 7]);
    const rotated = ops.ropeSync({
      x: { data: of('Float32Array.of(1, 0, 1, 0)'), shape: [1, 2, 1, 2] },
      positions: of('Int32Array.of(0, 0)'),
    });
    expect([...rotated.y.data]).toEqual([1, 0, 1, 0]);
    expect(new Tensor(of('Float32Array.of(1, 2)'), [2]).to('bf16').data).toHaveLength(2);
  });

  it('are tokens and snapshots of sessions', async () => {
    const model = await createModel(MAMBA, { seed: 1 });
    const session = model.createSession();
    const logits = await session.forward(of('Int32Array.of(1, 2, 3)'));
    const same = await model.createSession().forward([1, 2, 3]);
    expect([...logits.data]).toEqual([...same.data]);
    const bytes = session.save();
    const foreign = runInNewContext('Uint8Array.from(bytes)', { bytes });
    expect(model.restoreSession(foreign).position).toBe(3);
    await model.dispose();
  });

  it('run the package itself: its failures are its own errors', async () => {
    // As a test runner does that gives each file its globals, and no import().
    const folder = textModelFolder();
    const seen = await child(`
      const vm = require('node:vm'), { readFileSync } = require('node:fs'), { createRequire } = require('node:module');
      // What Node adds to the language's own globals.
      const ofLanguage = new Set(vm.runInNewContext('Object.getOwnPropertyNames(globalThis)'));
      const added = Object.entries(Object.getOwnPropertyDescriptors(globalThis)).filter(([name]) => !ofLanguage.has(name) && name !== 'globalThis' && name !== 'global');
      const context = vm.createContext(Object.defineProperties({}, Object.fromEntries(added)));
      const loaded = new Map();
      const load = (file) => {
        if (loaded.has(file)) return loaded.get(file).exports;
        const module = { exports: {} };
        loaded.set(file, module);
        const own = createRequire(file);
        const wrapped = vm.runInContext('(function (exports, require, module, __filename, __dirname) {' + readFileSync(file, 'utf8') + '\\n})', context);
        const find = (name) => name.startsWith('.') && own.resolve(name).endsWith('.js') ? load(own.resolve(name)) : own(name);
        wrapped(module.exports, Object.assign(find, { resolve: own.resolve }), module, file, require('node:path').dirname(file));
        return module.exports;
      };
      const own = load(${JSON.stringify(entry)});
      const x = new own.Tensor(new Float32Array(4), [2, 2]);
      const y = (await own.ops.linear({ x, weight: x })).y.shape;
      const model = await own.createModel(${JSON.stringify(MAMBA)}, { seed: 1 });
      const session = model.createSession();
      const failure = await session.forward(new Int32Array(1).fill(60)).then(() => model.dispose()).then(() => session.forward([1])).catch((e) => e);
      const folder = ${JSON.stringify(folder)}, file = folder + '/model.gguf';
      await own.quantize(folder, file, { type: 'q8_0', importance: 'hello world, hello' });
      const said = [];
      for (const path of [folder, file]) {
        const model = await own.loadModel(path);
        const text = { prompt: 'hello', responseFormat: { type: 'regex', pattern: '.+' } };
        const request = { maxTokens: 3, ...(model.tokenizer ? text : { prompt: [1, 2] }) };
        for await (const { token } of model.createSession().generate(request)) said.push(token);
        await model.dispose();
      }
      const redis = await own.openJobs('redis://127.0.0.1:1').add({ prompt: [1] }).catch((e) => e.code);
      process.env.HF_ENDPOINT = 'http://127.0.0.1:1';
      const hub = await own.pull('hf:a/b').catch((e) => e.code);
      const typed = failure instanceof own.StatespaceError;
      console.log(JSON.stringify({ y, typed, code: failure.code, said: said.length > 3, redis, hub }));`);
    expect(seen).toEqual({
      ...{ y: [2, 2], typed: true, code: 'ERR_DISPOSED', said: true },
      ...{ redis: 'ERR_STATE', hub: 'ERR_CHECKPOINT' },
    });
    rmSync(folder, { recursive: true });
  });
});

it('a Map of another realm is one: weights as values', async () => {
  await using model = await createModel(MAMBA, { seed: 1 });
  const values = runInNewContext('new Map()') as Map<string, Tensor>;
  for (const [name, tensor] of await model.parameters()) values.set(name, tensor);
  expect(values instanceof Map).toBe(false);
  await using loaded = await loadModel(values, { config: MAMBA });
  await using made = await createModel(MAMBA, { weights: values });
  await made.setParameters(values);
  const [a, b, c] = await Promise.all([model, loaded, made].map((m) => m.createSession().forward([1, 2, 3])));
  expect([b!.data, c!.data]).toEqual([a!.data, a!.data]);
});

it('Tensor.to copies, a Buffer too', () => {
  const buffer = Buffer.alloc(34, 1);
  const t = new Tensor(buffer, [32], 'q8_0');
  const copy = t.to('q8_0');
  buffer.fill(2);
  expect(copy.data[0]).toBe(1);
});

it('many calls on one signal warn of no leak, and hear it all', async () => {
  const model = await createModel(MAMBA, { seed: 1 });
  const warnings: Error[] = [];
  const listen = (w: Error) => warnings.push(w);
  process.on('warning', listen);
  const controller = new AbortController();
  setMaxListeners(10, controller.signal);
  const { signal } = controller;
  // Each without an end: a sequence goes on until the abort, whenever that comes.
  const sessions = Array.from({ length: 30 }, () => model.createSession());
  const rounds = new Array(30).fill(0);
  const calls = sessions.map(async (session, i) => {
    for (; ; rounds[i]++) await session.forward(new Int32Array(2000).fill(1), { logits: 'none', signal });
  });
  const engine = model.createEngine();
  const generated = new Array(12).fill(0);
  const asked = generated.map(async (_, i) => {
    const request = { tokens: new Int32Array(200).fill(1), maxTokens: 1e9, signal };
    for await (const _ of engine.generate(request)) generated[i]++;
  });
  const ended = Promise.allSettled([...calls, ...asked]);
  await until(() => [...rounds, ...generated].every((count) => count > 0));
  controller.abort(new Error('enough'));
  for (const outcome of await ended)
    expect(outcome).toMatchObject({ status: 'rejected', reason: { message: 'enough' } });
  await setImmediate();
  process.off('warning', listen);
  expect(warnings).toEqual([]);
  await model.dispose();
});

describe('initial systems', () => {
  it('are bounded before work', async () => {
    for (const call of [
      () => ops.s4dInit({ N: 2 ** 31 - 2, init: 'lin' }),
      () => ops.s4dInit({ N: 4096, init: 'legs' }),
      () => ops.hippo({ N: 20_000 }),
    ]) {
      const failure = await call().catch((e) => e);
      expect(failure).toBeInstanceOf(StatespaceError);
      expect(failure.message).toMatch(/at most \d+|to 16384/);
    }
  });

  it.runIf(needs(process.platform === 'linux', 'Linux'))('are made off the event loop', async () => {
    const [loop, all] = [processorMs(), process.cpuUsage()];
    await ops.s4dInit({ N: 600, init: 'legs' });
    const { user, system } = process.cpuUsage(all);
    expect(processorMs() - loop).toBeLessThan((0.5 * (user + system)) / 1000);
  });
});

it.runIf(needs(process.platform === 'linux', 'Linux'))(
  'maps of tensors become weights, and weights tensors, in turns of the event loop',
  async () => {
    // Processor time of the loop's thread, in ms: that of the clock would be other processes' as well.
    const longest = await child(`
    const { readFileSync } = require('node:fs');
    const spent = () => Number(readFileSync('/proc/self/task/' + process.pid + '/schedstat', 'utf8').split(' ')[0]) / 1e6;
    const config = { model_type: 'mamba', vocab_size: 20000, hidden_size: 512, num_hidden_layers: 1, state_size: 16 };
    const model = await statespace.createModel(config);
    const name = 'backbone.embeddings.weight';
    const values = await model.getParameter(name);
    const all = await model.parameters();
    const longest = {};
    const work = {
      f32: () => model.setParameters(new Map([[name, values]])),
      bf16: () => model.setParameters(new Map([[name, bf16]])),
      q8_0: () => model.setParameters(new Map([[name, q8_0]])),
      load: () => statespace.loadModel(all, { config }),
      read: () => model.parameters(),
    };
    const [bf16, q8_0] = ['bf16', 'q8_0'].map((dtype) => values.to(dtype));
    for (const [what, run] of Object.entries(work)) {
      let before = spent(), on = true;
      const turn = () => {
        const now = spent();
        longest[what] = Math.max(longest[what] ?? 0, now - before);
        before = now;
        if (on) setImmediate(turn);
      };
      setImmediate(turn);
      await run();
      await new Promise(setImmediate);
      on = false;
    }
    console.log(JSON.stringify(longest));`);
    for (const [what, ms] of Object.entries(longest as Record<string, number>)) expect(ms, what).toBeLessThan(25);
  },
);

it.runIf(needs(process.platform === 'linux', 'Linux'))('the command names a wrong STATESPACE_THREADS', async () => {
  const command = resolve(entry, '../cli/main.js');
  const { code, stderr } = await run(process.execPath, [command, 'info'], {
    env: { ...process.env, STATESPACE_THREADS: 'abc' },
  });
  expect(code).not.toBe(0);
  expect(stderr).toMatch(/STATESPACE_THREADS: expected an integer/);
});
