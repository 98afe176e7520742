/** `bench peers` against programs that answer as the real ones do: the real ones are not installed where tests run. */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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

  it('says which peer is missing or does not start', async () => {
    const none = await statespace(['bench', 'peers', '--env', mkdtempSync(join(tmpdir(), 'statespace-none-'))]);
    expect(none.code).toBe(1);
    expect(none.stderr).toMatch(/no peer to compare with.*PyTorch not installed.*ONNX Runtime not installed/);
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
    [['--env', tmpdir(), '--reps', '2'], /--reps: expected at least 5/],
  ])('%j is wrong usage', async (args, message) => {
    const { code, stderr } = await statespace(['bench', 'peers', ...args], { env: { STATESPACE_PEERS: '' } });
    expect(code).toBe(2);
    expect(stderr).toMatch(message);
  });
});
