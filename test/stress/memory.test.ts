// A process whose address space is limited: every call gives its result or ERR_OUT_OF_MEMORY, sessions are as they were,
// and nothing ends the process, wherever in a call memory runs out.
import { resolve } from 'node:path';
import { expect, test } from 'vitest';
import { needs } from '../support/needs.js';
import { run } from '../support/process.js';
import { amount } from '../support/scale.js';

const entry = resolve(__dirname, '../../dist/lib/index.js');

const PROGRAM = `
const { execFileSync } = require('node:child_process');
const { readFileSync } = require('node:fs');
const { createModel, createTrainer, ops, setThreads, Tensor } = require(process.argv[1]);
const extra = Number(process.argv[2]);
setThreads(2);
const sizes = { vocab_size: 509, hidden_size: 64, num_hidden_layers: 2 };
const configs = {
  mamba: { model_type: 'mamba', ...sizes, state_size: 16 },
  llama: { model_type: 'llama', ...sizes, intermediate_size: 128, num_attention_heads: 4, num_key_value_heads: 2 },
};
const ids = (n) => Int32Array.from({ length: n }, (_, i) => (i * 7919) % 509);
const values = (...shape) => {
  const data = new Float32Array(shape.reduce((a, b) => a * b));
  for (let i = 0; i < data.length; i++) data[i] = ((i * 7919) % 1000) / 1000 - 0.5;
  return new Tensor(data, shape);
};
// Only the soft limit: it can be lifted again.
const limit = (more) => {
  const size = Number(readFileSync('/proc/self/statm', 'utf8').split(' ')[0]) * 4096;
  const soft = more === undefined ? 'unlimited' : size + more;
  execFileSync('prlimit', ['--pid', String(process.pid), '--as=' + soft + ':unlimited']);
};
const sum = (data) => { let s = 0; for (let i = 0; i < data.length; i += 97) s += data[i] * (1 + (i % 13)); return s; };
(async () => {
  const x = values(3000, 512);
  const dy = values(3000, 3000);
  const heads = values(1, 2048, 8, 64);
  const u = values(1, 2048, 512);
  const half = u.to('bf16');
  const B = values(1, 2048, 16);
  const kernel = values(512, 2048);
  const A = new Tensor(new Float32Array(512 * 16).fill(-1), [512, 16]);
  const models = {}, bases = {}, trained = await createModel(configs.mamba, { seed: 1 });
  const trainer = createTrainer(trained, { learningRate: 1e-3 });
  for (const name of Object.keys(configs)) {
    models[name] = await createModel(configs[name], { seed: 1 });
    bases[name] = models[name].createSession();
    await bases[name].forward(ids(40));
  }
  const calls = {
    linear: async () => sum((await ops.linear({ x, weight: x })).y.data),
    linearSync: async () => sum(ops.linearSync({ x, weight: x }).y.data),
    attention: async () => sum((await ops.attention({ q: heads, k: heads, v: heads })).y.data),
    selectiveScan: async () => sum((await ops.selectiveScan({ u, delta: u, A, B, C: B, deltaSoftplus: true })).y.data),
    fftConv: async () => sum((await ops.fftConv({ x: u, kernel })).y.data),
    'halves': async () => sum((await ops.rmsNorm({ x: half })).y.data),
    gradient: async () => sum((await ops.linearBackward({ x, weight: x, dy })).dx.data),
    create: async () => { const m = await createModel(configs.llama, { seed: 2 }); await m.dispose(); return 1; },
    step: async () => { await trainer.step({ ids: new Tensor(ids(256), [1, 256]) }); return 0; },
  };
  for (const name of Object.keys(configs)) {
    const base = bases[name];
    calls[name + ' forward'] = async () => { const s = base.fork(); try { return sum((await s.forward(ids(3000), { logits: 'all' })).data); } finally { await s.dispose(); } };
    calls[name + ' batch'] = async () => {
      const sessions = Array.from({ length: 24 }, () => base.fork());
      try { return sum((await models[name].forwardBatch(sessions.map((session) => ({ session, tokens: ids(50) })))).at(-1).data); }
      finally { for (const s of sessions) await s.dispose(); }
    };
    calls[name + ' generate'] = async () => { const s = base.fork(); let last = 0; try { for await (const { token } of s.generate({ prompt: ids(900), maxTokens: 3 })) last = last * 31 + token; return last; } finally { await s.dispose(); } };
    calls[name + ' save and restore'] = async () => { const s = models[name].restoreSession(base.save()); try { return s.position; } finally { await s.dispose(); } };
  }
  // Limited first: memory that a call has had before would be there again.
  const outcomes = {};
  for (const [name, call] of Object.entries(calls)) {
    limit(extra);
    try { outcomes[name] = await call(); } catch (error) { outcomes[name] = error; }
    limit();
  }
  const seen = { results: 0, refused: 0, wrong: [] };
  for (const [name, base] of Object.entries(bases)) if (base.position !== 40) seen.wrong.push([name, 'position', base.position]);
  for (const [name, outcome] of Object.entries(outcomes)) {
    const expected = await calls[name]();
    if (outcome instanceof Error) {
      seen.refused++;
      if (outcome.code !== 'ERR_OUT_OF_MEMORY') seen.wrong.push([name, String(outcome)]);
    } else {
      seen.results++;
      if (Math.abs(outcome - expected) > 1e-4 * Math.abs(expected)) seen.wrong.push([name, outcome, expected]);
    }
  }
  console.log(JSON.stringify(seen));
})();`;

/** What became of the calls with so many bytes more than the process had; undefined where V8 itself ran out. */
async function limited(extra: number): Promise<{ results: number; refused: number; wrong: unknown[] } | undefined> {
  const { code, signal, stdout, stderr } = await run(process.execPath, ['-e', PROGRAM, entry, String(extra)]);
  if (/JavaScript heap out of memory|Fatal process out of memory/.test(stderr)) return undefined;
  expect({ code, signal, stderr: stderr.slice(-2000) }).toEqual({ code: 0, signal: null, stderr: '' });
  return JSON.parse(stdout);
}

test.runIf(needs(process.platform === 'linux', 'Linux'))(
  'where memory runs out, calls are refused one by one',
  { timeout: 1_200_000 },
  async () => {
    const tries = amount(1, 60);
    let [results, refused, itself] = [0, 0, 0];
    for (let i = 0; i < tries; i++) {
      const seen = await limited(Math.round((20 << 20) * (i ? 0.25 + i / 20 : 1)));
      if (!seen) {
        itself++;
        continue;
      }
      expect(seen.wrong).toEqual([]);
      results += seen.results;
      refused += seen.refused;
    }
    if (itself > 0) console.log(`not judged: ${itself} of ${tries} processes in which V8 found no memory for itself`);
    if (itself === tries) return;
    expect(results).toBeGreaterThan(0);
    expect(refused).toBeGreaterThan(0);
  },
);
