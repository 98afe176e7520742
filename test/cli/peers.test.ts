/** `bench peers` against programs that answer as the real ones do: the real ones are not installed where tests run. */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { PeersReport } from '../../dist/bench/peers/print.js';
import { statespace } from '../support/cli.js';

// In place of Python: PyTorch convolves, ONNX Runtime gives another result, transformers has another size.
const program = `#!${process.execPath}
const fs = require('node:fs');
const script = process.argv[2];
const read = ({ file }) => new Float32Array(new Uint8Array(fs.readFileSync(file)).buffer);
const silu = (x) => x / (1 + Math.exp(-x));
function conv({ x, weight, bias }) {
  const [, L, D] = x.shape, K = weight.shape[1];
  const [xs, ws, bs] = [x, weight, bias].map(read);
  const y = new Float32Array(L * D);
  for (let t = 0; t < L; t++) for (let d = 0; d < D; d++) {
    let sum = bs[d];
    for (let j = 0; j < K; j++) if (t - K + 1 + j >= 0) sum += ws[d * K + j] * xs[(t - K + 1 + j) * D + d];
    y[t * D + d] = silu(sum);
  }
  return y;
}
const say = (answer) => console.log(JSON.stringify(answer));
if (script.endsWith('hf_models.py')) say({ peer: 'transformers 1' });
else if (script.endsWith('fla_kernels.py')) say({ peer: 'fla 1', kernels: ['kda'], dtypes: ['f32'] });
else say({ peer: script.endsWith('torch_kernels.py') ? 'PyTorch 1' : 'ONNX 1', kernels: ['conv'], dtypes: ['f32'] });
console.log('a notice that is not an answer');
require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const job = JSON.parse(line);
  if (job.config) return say({ parameters: 5, prefill: [1], decode: [1] });
  const y = conv(job.inputs);
  if (script.endsWith('onnx_kernels.py')) y[0] += 1;
  fs.writeFileSync(job.result, y);
  say({ form: 'a loop', seconds: Array(job.reps).fill(10) });
});
`;

// In place of transformers, this package: what it trains is the same, what it says of the loss is off by `off`.
const trains = (off: number) => `#!${process.execPath}
const { createModel, createTrainer, Tensor } = require(${JSON.stringify(resolve(__dirname, '../../dist/lib/index.js'))});
let model, trainer;
async function answer(job) {
  if (job.do === 'make') {
    model = await createModel(job.config, { seed: 1, device: 'cpu' });
    await model.save(job.folder);
    trainer = createTrainer(model, { learningRate: job.learningRate });
    return { parameters: model.parameters.total };
  }
  if (job.do === 'finish') return { peakBytes: 2 ** 40 };
  const ids = new Tensor(Int32Array.from(job.ids), [1, job.ids.length]);
  const { loss, gradNorm } = await trainer.step({ ids });
  return { seconds: 5, loss: loss + ${off}, gradNorm };
}
const say = (answer) => console.log(JSON.stringify(answer));
say({ peer: 'transformers 1' });
const lines = require('node:readline').createInterface({ input: process.stdin });
lines.on('line', async (line) => say(await answer(JSON.parse(line))));
`;

function environment(text = program): string {
  const dir = mkdtempSync(join(tmpdir(), 'statespace-peers-test-'));
  mkdirSync(join(dir, 'venv', 'bin'), { recursive: true });
  writeFileSync(join(dir, 'venv', 'bin', 'python'), text);
  chmodSync(join(dir, 'venv', 'bin', 'python'), 0o755);
  return dir;
}

describe('bench peers', () => {
  it('compares results, then times', async () => {
    const dir = environment();
    const json = join(dir, 'peers.json');
    const args = ['--shape', 'conv:L=8,D=5', '--shape', 'scan:L=8,D=5', '--json', json];
    const { code, stdout } = await statespace(['bench', 'peers', ...args], { env: { STATESPACE_PEERS: dir } });
    expect(code).toBe(0);
    const report = JSON.parse(readFileSync(json, 'utf8')) as PeersReport;
    const [conv, scan] = report.kernels as [PeersReport['kernels'][0], PeersReport['kernels'][0]];
    expect(conv.peers.map((p) => [p.peer, p.form, p.time.median])).toEqual([['PyTorch 1', 'a loop', 10]]);
    expect(conv.peers[0]!.ratio).toBeCloseTo(10 / conv.ours.median, 6);
    expect(conv.ours.samples.length).toBe(5);
    expect(conv.skipped[0]!.reason).toMatch(/^its result is another/);
    expect(scan.peers).toEqual([]);
    expect(stdout).toMatch(/^conv +L=8 D=5 K=4 f32 .*PyTorch 1, a loop +10\.0 s/m);
    expect(stdout).toMatch(/ONNX 1, conv f32: its result is another/);
  });

  it('trains the same weights on the same tokens in turn, and times no step that is another', async () => {
    const args = ['bench', 'peers', '--training', 'mamba2-10m', '--dtypes', 'f32', '--length', '16', '--reps', '2'];
    const json = join(mkdtempSync(join(tmpdir(), 'statespace-peers-test-')), 'peers.json');
    const same = await statespace([...args, '--env', environment(trains(0)), '--json', json]);
    expect(same.code, same.stderr).toBe(0);
    const { training } = JSON.parse(readFileSync(json, 'utf8')) as PeersReport;
    expect(training).toHaveLength(1);
    const { difference, ours, peer, ratio, length } = training[0]!;
    expect(difference).toEqual({ loss: 0, gradNorm: 0 });
    expect([peer.step.samples, ours.step.samples.length, length]).toEqual([[5, 5], 2, 16]);
    expect(ratio.speed).toBeCloseTo(5 / ours.step.median, 6);
    expect(ratio.memory).toBeCloseTo(ours.peakBytes / 2 ** 40, 9);
    expect(ours.peakBytes).toBeGreaterThan(16 * 9.8e6); // parameters, gradients and two means
    expect(same.stdout).toMatch(/^mamba2-10m, 9\.87 M +16 +statespace f32/m);
    const other = await statespace([...args, '--env', environment(trains(0.1))]);
    expect(other.stdout).toMatch(/mamba2-10m f32: its first step is another: loss/);
  });

  it('says which peer is missing or does not start', async () => {
    const none = await statespace(['bench', 'peers', '--env', mkdtempSync(join(tmpdir(), 'statespace-none-'))]);
    expect(none.code).toBe(1);
    expect(none.stderr).toMatch(
      /no peer to compare with.*PyTorch not installed.*ONNX Runtime not installed.*flash-linear-attention not installed/,
    );
    const failing = environment(
      `#!${process.execPath}\nconsole.error("ModuleNotFoundError: No module named 'torch'");`,
    );
    const { code, stderr } = await statespace(['bench', 'peers', '--env', failing]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/PyTorch does not start: ModuleNotFoundError: No module named 'torch'/);
  });

  it.each([
    [[], /bench\/peers\/setup\.sh DIR/],
    [['--env', '/nonexistent'], /no folder/],
    [['--env', tmpdir(), '--models', 'gpt'], /no model "gpt"; there are mamba, mamba2, llama, jamba/],
    [['--env', tmpdir(), '--models', 'mamba', '--dtypes', 'f64'], /no dtype "f64"/],
    [['--env', tmpdir(), '--training', 'mamba', '--dtypes', 'q8_0'], /no dtype "q8_0"; there are f32, bf16/],
    [['--env', tmpdir(), '--reps', '2'], /--reps: expected at least 5/],
  ])('%j is wrong usage', async (args, message) => {
    const { code, stderr } = await statespace(['bench', 'peers', ...args], { env: { STATESPACE_PEERS: '' } });
    expect(code).toBe(2);
    expect(stderr).toMatch(message);
  });
});
