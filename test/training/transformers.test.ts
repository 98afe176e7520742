// What was trained here, read by transformers and peft, and what transformers saves of it, read here: the kept answers of
// transformers/, and where STATESPACE_PYTHON is a Python that has both, new ones.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadModel } from 'statespace';
import { expect, test } from 'vitest';
import { needs } from '../support/needs.js';

const kept = join(__dirname, 'transformers');
const python = process.env.STATESPACE_PYTHON;

interface Expected {
  ids: number[];
  logits: number[];
  adapted: number[];
}

async function logitsOf(folder: string, ids: number[], adapters: string[] = []): Promise<Float32Array> {
  await using model = await loadModel(folder, { device: 'cpu', ...(adapters.length > 0 ? { adapters } : {}) });
  const session = model.createSession();
  return (await session.forward(ids, { logits: 'all' })).toFloat32Array();
}

async function expectAgreement(folder: string): Promise<void> {
  const to = (name: string) => join(folder, name);
  const { ids, logits, adapted } = JSON.parse(readFileSync(to('expected.json'), 'utf8')) as Expected;
  const differs = (a: ArrayLike<number>, b: ArrayLike<number>) =>
    Array.from(a).reduce((most, v, i) => Math.max(most, Math.abs(v - b[i]!)), 0);
  expect(differs(adapted, logits)).toBeGreaterThan(0.1); // the adapters do something
  expect(differs(await logitsOf(to('model'), ids), logits)).toBeLessThan(1e-4);
  expect(differs(await logitsOf(to('back'), ids), logits)).toBeLessThan(1e-4);
  expect(differs(await logitsOf(to('model'), ids, [to('adapters')]), adapted)).toBeLessThan(1e-4);
}

test('a trained model goes to transformers and back, its adapters to peft: as kept', () => expectAgreement(kept));

test.runIf(needs(python, 'STATESPACE_PYTHON, a Python with transformers and peft'))(
  'the same now, with the transformers and peft of STATESPACE_PYTHON',
  { timeout: 120_000 },
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'statespace-transformers-'));
    try {
      execFileSync(process.execPath, [join(kept, 'make.cjs'), folder], { stdio: 'pipe' });
      await expectAgreement(folder);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
);
