// What was trained here, read by transformers and peft, and what transformers saves of it, read here: the kept answers of
// transformers/, and where STATESPACE_PYTHON is a Python that has both, new ones.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createModel, type LoadOptions, loadModel } from 'statespace';
import { expect, test } from 'vitest';
import { configJson } from '../../dist/lib/training/config-json.js';
import { needs } from '../support/needs.js';
import { HYBRID } from '../support/training.js';

const kept = join(__dirname, 'transformers');
const python = process.env.STATESPACE_PYTHON;

interface Expected {
  ids: number[];
  logits: number[];
  /** By the folder of adapters. */
  adapted: Record<string, number[]>;
  /** Of a mixture, whose experts transformers holds in one parameter. */
  experts: { logits: number[]; adapted: number[] };
  /** Of another, whose adapters of experts were trained here. */
  jamba: { logits: number[]; adapted: Record<string, number[]> };
}

async function logitsOf(folder: string, ids: number[], options: LoadOptions = {}): Promise<Float32Array> {
  await using model = await loadModel(folder, { device: 'cpu', ...options });
  const session = model.createSession();
  return (await session.forward(ids, { logits: 'all' })).toFloat32Array();
}

async function expectAgreement(folder: string): Promise<void> {
  const to = (name: string) => join(folder, name);
  const { ids, logits, adapted, experts, jamba } = JSON.parse(readFileSync(to('expected.json'), 'utf8')) as Expected;
  const differs = (a: ArrayLike<number>, b: ArrayLike<number>) =>
    Array.from(a).reduce((most, v, i) => Math.max(most, Math.abs(v - b[i]!)), 0);
  expect(differs(await logitsOf(to('model'), ids), logits)).toBeLessThan(1e-4);
  expect(differs(await logitsOf(to('back'), ids), logits)).toBeLessThan(1e-4);
  expect(Object.keys(adapted)).toHaveLength(6);
  for (const [name, wanted] of Object.entries(adapted)) {
    expect(differs(wanted, logits), name).toBeGreaterThan(0.1); // the adapters do something
    for (const mergeAdapters of [true, false])
      expect(
        differs(await logitsOf(to('model'), ids, { adapters: [to(name)], mergeAdapters }), wanted),
        name,
      ).toBeLessThan(1e-4);
  }
  expect(differs(experts.adapted, experts.logits)).toBeGreaterThan(0.1);
  const mixture = to('experts/model');
  expect(differs(await logitsOf(mixture, ids), experts.logits)).toBeLessThan(1e-4);
  for (const mergeAdapters of [true, false]) {
    const received = await logitsOf(mixture, ids, { adapters: [to('experts/adapters')], mergeAdapters });
    expect(differs(received, experts.adapted)).toBeLessThan(1e-4);
  }
  expect(differs(await logitsOf(to('jamba/model'), ids), jamba.logits)).toBeLessThan(1e-4);
  for (const [name, wanted] of Object.entries(jamba.adapted)) {
    expect(differs(wanted, jamba.logits), name).toBeGreaterThan(0.1);
    const received = await logitsOf(to('jamba/model'), ids, { adapters: [to(`jamba/${name}`)] });
    expect(differs(received, wanted), name).toBeLessThan(1e-4);
  }
}

test('a trained model goes to transformers and back, adapters to peft and from it: as kept', () =>
  expectAgreement(kept));

test('floats of a config keep their fraction: transformers refuses a 1 for a 1.0', async () => {
  const text = readFileSync(join(__dirname, '../configs/transformers.json'), 'utf8').replaceAll(/\s/g, '');
  // What its classes take as integers as well, and what is for generation.
  const either =
    /^(.*_multiplier|logits_scaling|.*dropout|.*_pdrop|block_ffn_dim_multiplier|final_w_init_variance_scale)$/;
  const generation = Object.keys((JSON.parse(text) as { generation: object }).generation);
  let seen = 0;
  for (const [pair, key] of text.matchAll(/"(\w+)":(?:-?\d+\.0(?=[,}])|\[(?:-?\d+\.0,)*-?\d+\.0\])/g)) {
    if (either.test(key!) || generation.includes(key!)) continue;
    seen++;
    expect(configJson(JSON.parse(`{${pair}}`)).replaceAll(/\s/g, '')).toBe(`{${pair}}`);
  }
  expect(seen).toBeGreaterThan(30);
  const folder = mkdtempSync(join(tmpdir(), 'statespace-config-'));
  try {
    const config = { ...HYBRID, time_step_limit: [0, Number.POSITIVE_INFINITY] };
    await using model = await createModel(config, { device: 'cpu' });
    await model.save(join(folder, 'saved'));
    const saved = readFileSync(join(folder, 'saved', 'config.json'), 'utf8');
    expect(saved).toMatch(/"time_step_limit": \[\s+0\.0,\s+\{\s+"__float__": "Infinity"/);
    expect(saved).toContain('"vocab_size": 40,');
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test.runIf(needs(python, 'STATESPACE_PYTHON, a Python with transformers and peft'))(
  'the same now, with the transformers and peft of STATESPACE_PYTHON',
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
