// Whatever is wrong with the CUDA library becomes a reason; everything else goes on on the CPU. The loader's own tests
// (wrong ABI, an init that fails …) are native/tests/cuda_loader_test.cc.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { needs } from '../support/needs.js';

const root = resolve(__dirname, '../..');

/** What a process with this environment says of CUDA, and whether it still works. */
function ask(env: Record<string, string>) {
  const script = `
    const { createModel, ops, systemInfo } = require(${JSON.stringify(root)});
    const config = { model_type: 'mamba', vocab_size: 50, hidden_size: 16, num_hidden_layers: 1, state_size: 4 };
    (async () => {
      const { cuda } = systemInfo();
      let error;
      try { await createModel(config, { device: 'cuda' }); } catch (e) { error = { code: e.code, message: e.message }; }
      const logits = await (await createModel(config)).createSession().forward([1, 2, 3]);
      console.log(JSON.stringify({ cuda, error, logits: logits.shape }));
    })();`;
  const clean = { ...process.env, STATESPACE_BACKEND: '', STATESPACE_CUDA_LIBRARY: '' };
  const text = execFileSync(process.execPath, ['-e', script], { env: { ...clean, ...env }, encoding: 'utf8' });
  return JSON.parse(text) as {
    cuda: { available: boolean; reason?: string };
    error?: { code: string; message: string };
    logits: number[];
  };
}

function expectRefused(env: Record<string, string>, reason: string | RegExp): void {
  const { cuda, error, logits } = ask(env);
  expect(cuda.available).toBe(false);
  expect(cuda.reason).toMatch(reason);
  expect(error).toMatchObject({ code: 'ERR_DEVICE', message: expect.stringContaining(cuda.reason!) });
  expect(logits).toEqual([1, 50]);
}

test('no library: the reason says where it was looked for', () => {
  expectRefused({ STATESPACE_CUDA_LIBRARY: '/nowhere/lib.so' }, '/nowhere/lib.so');
});

test('a file that is no library, named by the environment or found as the package', () => {
  const folder = mkdtempSync(join(tmpdir(), 'statespace-'));
  const name = `statespace-cuda-${process.platform}-${process.arch}`;
  mkdirSync(join(folder, name));
  const file = join(folder, name, 'libstatespace_cuda.so');
  writeFileSync(file, 'no library');
  writeFileSync(join(folder, name, 'package.json'), JSON.stringify({ name, main: 'libstatespace_cuda.so' }));
  expectRefused({ STATESPACE_CUDA_LIBRARY: file }, file);
  expectRefused({ NODE_PATH: folder }, file);
  rmSync(folder, { recursive: true });
});

const built = [join(root, 'build-cuda/cuda/libstatespace_cuda.so')].find(existsSync);

test.runIf(needs(built, 'npm run build:cuda'))(
  'the library by nvcc: it is used, or the driver or the device is missing',
  () => {
    const env = { STATESPACE_CUDA_LIBRARY: built! };
    if (ask(env).cuda.available) expect(ask(env).error).toBeUndefined();
    else expectRefused(env, /driver|device/);
  },
);
