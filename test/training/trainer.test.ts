import { lstat, mkdir, readdir, readFile, realpath, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  createModel,
  createTrainer,
  loadModel,
  type Model,
  resumeTrainer,
  saveModel,
  setThreads,
  systemInfo,
  Tensor,
  type TrainerOptions,
  type TrainingBatch,
} from 'statespace';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { goldenRoot } from '../support/golden.js';
import { batchOf, bits, CONFIG, HYBRID, temporary } from '../support/training.js';

let model: Model;
beforeAll(async () => {
  model = await createModel(CONFIG, { seed: 3, device: 'cpu' });
});
afterAll(() => model.dispose());

async function trained(options: TrainerOptions, batches: TrainingBatch[], of = model) {
  await using trainer = createTrainer(of, options);
  const reports = [];
  for (const batch of batches) reports.push(await trainer.step(batch));
  return { reports, parameters: await trainer.parameters() };
}

test('learns what repeats itself, and leaves the model as it was', async () => {
  const before = bits(await model.getParameter('model.norm.weight'));
  await using trainer = createTrainer(model, { learningRate: 1e-2, warmupSteps: 2, totalSteps: 30 });
  const batch = batchOf(4, 24);
  const first = await trainer.step(batch);
  expect(first.learningRate).toBeCloseTo(5e-3);
  for (let i = 0; i < 29; i++) await trainer.step(batch);
  expect(trainer.steps).toBe(30);
  expect((await trainer.evaluate(batch)).loss).toBeLessThan(0.2 * first.loss);
  expect(bits(await model.getParameter('model.norm.weight'))).toBe(before);

  const copy = await createModel(CONFIG, { seed: 3, device: 'cpu' });
  await copy.setParameters(await trainer.parameters());
  await using again = createTrainer(copy);
  expect((await again.evaluate(batch)).loss).toBe((await trainer.evaluate(batch)).loss);
  await copy.dispose();
});

describe.each([
  ['llama', CONFIG],
  ['mamba2', HYBRID],
])('%s', (_, config) => {
  test('the same bits with one thread and with two', async () => {
    const threads = systemInfo().threads;
    await using of = await createModel(config, { seed: 1, device: 'cpu' });
    const results = [];
    for (const n of [1, 2]) {
      setThreads(n);
      results.push(await trained({}, [batchOf(2, 33), batchOf(2, 33, 5)], of));
    }
    setThreads(threads);
    const [one, two] = results;
    expect(one!.reports.map((r) => [r.loss, r.gradNorm])).toEqual(two!.reports.map((r) => [r.loss, r.gradNorm]));
    for (const [name, t] of one!.parameters) expect(bits(t), name).toBe(bits(two!.parameters.get(name)));
  });

  test('packed sequences are rows of their own, whatever their lengths', async () => {
    await using of = await createModel(config, { seed: 1, device: 'cpu' });
    await using trainer = createTrainer(of);
    const { ids } = batchOf(2, 12);
    const data = Int32Array.from(ids.data as Int32Array).filter((_, i) => i < 7 || i >= 12);
    const packed = await trainer.gradients({
      ids: { data, shape: [1, 19] },
      cuSeqlens: Int32Array.from([0, 7, 19]),
    });
    const labels = Int32Array.from(ids.data as Int32Array);
    labels.fill(-100, 7, 12);
    const rows = await trainer.gradients({ ids, labels: { data: labels, shape: [2, 12] } });
    expect(packed.loss).toBeCloseTo(rows.loss, 5);
    for (const [name, t] of packed.gradients) {
      const other = rows.gradients.get(name)!.data as Float32Array;
      (t.data as Float32Array).forEach((v, i) => {
        if (Math.abs(v - other[i]!) > 1e-5) expect.fail(`${name}[${i}]: ${v} and ${other[i]}`);
      });
    }
  });

  test('gradients are those of differences', async () => {
    await using of = await createModel(config, { seed: 2, device: 'cpu' });
    const batch = batchOf(2, 10);
    await using trainer = createTrainer(of);
    const { gradients } = await trainer.gradients(batch);
    const values = await of.parameters();
    let slope = 0;
    const moved = (sign: number) =>
      new Map(
        [...values].map(([name, t]) => {
          const g = gradients.get(name)!.data as Float32Array;
          return [
            name,
            new Tensor(
              (t.data as Float32Array).map((v, i) => v + sign * STEP * Math.sign(g[i]!)),
              t.shape,
            ),
          ];
        }),
      );
    const STEP = 2e-4;
    for (const t of gradients.values()) for (const g of t.data as Float32Array) slope += Math.abs(g);
    const losses = [];
    for (const sign of [1, -1]) {
      await of.setParameters(moved(sign));
      await using there = createTrainer(of);
      losses.push((await there.evaluate(batch)).loss);
    }
    const difference = (losses[0]! - losses[1]!) / (2 * STEP);
    expect(Math.abs(difference / slope - 1)).toBeLessThan(0.02);
  });
});

// Of the first part all gradients are written; to most of them (a head's that is the table as well, experts' of which a part
// reaches some) later parts add in place, others (of norms and recurrences) are added up beside.
describe.each<[string, Record<string, unknown> | string, TrainerOptions]>([
  ['a head that is the table', CONFIG, {}],
  ['a table of its own', { ...CONFIG, tie_word_embeddings: false }, {}],
  ['bf16', CONFIG, { dtype: 'bf16' }],
  ['blocks computed again', CONFIG, { recompute: 'blocks' }],
  ['a recurrence', HYBRID, {}],
  ['experts', { ...CONFIG, model_type: 'mixtral', num_local_experts: 8, num_experts_per_tok: 1 }, {}],
  ['a table of n-grams', 'training/qwen4_exp', {}],
  ['adapters', CONFIG, { lora: { rank: 4, alpha: 8, targets: ['q_proj', 'down_proj'] } }],
])('a batch in parts: %s', (_, config, options) => {
  const rows = (...of: [number, number, number?]) => {
    const { ids } = batchOf(...of);
    return { ids: { ...ids, data: Int32Array.from(ids.data as Int32Array, (id) => id % 37) } };
  };
  const batch = rows(5, 12);
  const labels = Int32Array.from(batch.ids.data as Int32Array, (v, i) => (i % 7 === 0 ? -100 : v));
  const counted = { ...batch, labels: { data: labels, shape: [5, 12] } };
  const made = () =>
    typeof config === 'string'
      ? loadModel(join(goldenRoot, config), { device: 'cpu' })
      : createModel(config, { seed: 3, device: 'cpu' });

  test('gives the gradients of the whole, after another one as well', async () => {
    await using of = await made();
    await using whole = createTrainer(of, options);
    await using parts = createTrainer(of, { ...options, accumulate: 3 });
    await parts.gradients(rows(3, 7, 2));
    const [one, three, again] = [
      await whole.gradients(counted),
      await parts.gradients(counted),
      await parts.gradients(counted),
    ];
    expect(three.loss).toBeCloseTo(one.loss, options.dtype ? 3 : 5);
    expect([...three.gradients.keys()]).toEqual([...one.gradients.keys()]);
    for (const [name, t] of one.gradients) {
      const other = three.gradients.get(name)!;
      expect(bits(again.gradients.get(name)), name).toBe(bits(other));
      let [difference, size] = [0, 0];
      (t.data as Float32Array).forEach((v, i) => {
        difference += (v - (other.data[i] as number)) ** 2;
        size += v ** 2;
      });
      expect(Math.sqrt(difference), name).toBeLessThanOrEqual((options.dtype ? 2e-2 : 2e-5) * Math.sqrt(size) + 1e-9);
    }
  });

  test('is the same to the bit with one thread and with two, and when the run is resumed', async () => {
    const threads = systemInfo().threads;
    await using of = await made();
    const all = { ...options, accumulate: 3, learningRate: 3e-3 };
    const results = [];
    for (const n of [1, 2]) {
      setThreads(n);
      results.push(await trained(all, [counted, rows(4, 9), counted], of));
    }
    setThreads(threads);
    const [one, two] = results;
    expect(one!.reports.map((r) => [r.loss, r.gradNorm])).toEqual(two!.reports.map((r) => [r.loss, r.gradNorm]));
    for (const [name, t] of one!.parameters) expect(bits(t), name).toBe(bits(two!.parameters.get(name)));
    const folder = join(await temporary(), 'run');
    {
      await using trainer = createTrainer(of, all);
      for (const b of [counted, rows(4, 9)]) await trainer.step(b);
      await trainer.save(folder);
    }
    await using resumed = await resumeTrainer(folder);
    expect((await resumed.step(counted)).loss).toBe(one!.reports[2]!.loss);
    for (const [name, t] of await resumed.parameters()) expect(bits(t), name).toBe(bits(one!.parameters.get(name)));
    await resumed.model.dispose();
  });
});

test('save and resume go on to the bit; the folder is a checkpoint', async () => {
  const folder = join(await temporary(), 'run');
  const options = { learningRate: 3e-3, warmupSteps: 1, totalSteps: 10 };
  const batches = Array.from({ length: 4 }, (_, i) => batchOf(2, 16, i));
  const straight = await trained(options, batches);
  {
    await using trainer = createTrainer(model, options);
    for (const batch of batches.slice(0, 2)) await trainer.step(batch);
    await trainer.save(folder);
    await trainer.save(folder);
  }
  expect((await readdir(folder)).sort()).toEqual([
    'config.json',
    'model.safetensors',
    'optimizer.safetensors',
    'trainer.json',
  ]);
  await using resumed = await resumeTrainer(folder);
  expect(resumed.steps).toBe(2);
  for (const batch of batches.slice(2)) await resumed.step(batch);
  const parameters = await resumed.parameters();
  for (const [name, t] of straight.parameters) expect(bits(parameters.get(name)), name).toBe(bits(t));
  await resumed.model.dispose();
  await using loaded = await loadModel(folder, { device: 'cpu' });
  expect(loaded.config.tie_word_embeddings).toBe(true);

  const other = await temporary();
  await writeFile(join(other, 'letter.txt'), 'dear');
  await expect(saveModel(model, other)).rejects.toThrow(/holds other files/);
  await expect(resumeTrainer(other)).rejects.toMatchObject({ code: 'ERR_CHECKPOINT' });
});

// A model has the rotations of one length (docs/compatibility.md), in training as in sessions.
test.each([
  ['longrope', { short_factor: [1, 1.5, 2, 3], long_factor: [2, 4, 8, 16], original_max_position_embeddings: 16 }],
  ['dynamic', { factor: 2 }],
])(
  '%s: sequences that would need other rotations are refused; a trainer goes on with the length of its model',
  async (rope_type, more) => {
    const config = {
      ...{ ...CONFIG, head_dim: 8, max_position_embeddings: rope_type === 'dynamic' ? 16 : 64 },
      rope_parameters: { rope_type, rope_theta: 1e4, ...more },
    };
    await using short = await createModel(config, { seed: 3, device: 'cpu' });
    await using long = await createModel(config, { seed: 3, device: 'cpu', contextLength: 32 });
    await using trainer = createTrainer(short);
    await trainer.evaluate(batchOf(2, 16));
    const packed = { ...batchOf(1, 40), cuSeqlens: Int32Array.of(0, 16, 33, 40) };
    const message = expect.stringMatching(
      /batch: sequences of: expected at most 16 tokens, for which .*contextLength.*received 17/,
    );
    for (const batch of [batchOf(2, 17), packed])
      for (const call of ['step', 'gradients', 'evaluate'] as const)
        await expect(trainer[call](batch)).rejects.toMatchObject({ code: 'ERR_ARGUMENT', message });
    expect(trainer.steps).toBe(0);

    const losses: number[] = [];
    await using whole = createTrainer(long);
    for (let i = 0; i < 4; i++) losses.push((await whole.step(batchOf(2, 32, i))).loss);
    await using begun = createTrainer(long);
    const folder = join(await temporary(), 'long');
    for (let i = 0; i < 2; i++) expect((await begun.step(batchOf(2, 32, i))).loss).toBe(losses[i]);
    await begun.save(folder);
    await using resumed = await resumeTrainer(folder);
    for (let i = 2; i < 4; i++) expect((await resumed.step(batchOf(2, 32, i))).loss).toBe(losses[i]);
    await resumed.model.dispose();
  },
);

test('folders are where they were when they were named; a link is followed', async () => {
  const [first, second] = [await realpath(await temporary()), await realpath(await temporary())];
  await saveModel(model, join(first, 'base'));
  await writeFile(join(first, 'base', 'tokenizer_config.json'), '{}');
  const before = process.cwd();
  try {
    process.chdir(first);
    await using base = await loadModel('base', { device: 'cpu' });
    await using trainer = createTrainer(base, { lora: { rank: 1, alpha: 1 } });
    process.chdir(second);
    await trainer.save('adapter');
    await saveModel(base, 'copy');
    expect(JSON.parse(await readFile('adapter/trainer.json', 'utf8')).base).toBe(join(first, 'base'));
    expect(await readdir('copy')).toContain('tokenizer_config.json');

    await mkdir(join(first, 'disk'));
    await symlink(join(first, 'disk', 'run'), 'link'); // to nothing yet
    for (let i = 0; i < 2; i++) await trainer.save('link');
    expect((await lstat('link')).isSymbolicLink()).toBe(true);
    expect(await readdir(join(first, 'disk'))).toEqual(['run']);
    const resumed = await resumeTrainer('link');
    expect(resumed.steps).toBe(0);
    await resumed.dispose();
    await resumed.model.dispose();
  } finally {
    process.chdir(before);
  }
});

test('what cannot be written, and a state that was damaged, are told by their paths', async () => {
  const folder = await temporary();
  await using trainer = createTrainer(model);
  const long = join(folder, 'n'.repeat(250)); // with the name of what is written beside it too long for a file system
  await expect(trainer.save(long)).rejects.toMatchObject({
    code: 'ERR_ARGUMENT',
    message: expect.stringMatching(/^save: .*n+: cannot be written: ENAMETOOLONG/),
  });
  const run = join(folder, 'run');
  await trainer.save(run);
  const path = join(run, 'trainer.json');
  const state = JSON.parse(await readFile(path, 'utf8')) as object;
  for (const damage of [
    { step: -1 },
    { options: null },
    { options: [] },
    { notes: 3 },
    { base: 5 },
    { contextLength: 0 },
  ]) {
    await writeFile(path, JSON.stringify({ ...state, ...damage }));
    await expect(resumeTrainer(run), JSON.stringify(damage)).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT',
      message: `${path}: of another version, or damaged`,
    });
  }
  await expect(resumeTrainer(path)).rejects.toMatchObject({
    code: 'ERR_CHECKPOINT',
    message: expect.stringMatching(/trainer\.json\/trainer\.json: no trainer was saved here: ENOTDIR/),
  });
  for (const wrong of ['', 'a\0b', 5 as never]) {
    const refused = { code: 'ERR_ARGUMENT', message: expect.stringMatching(/folder: expected a path, received/) };
    await expect(trainer.save(wrong)).rejects.toMatchObject(refused);
    await expect(saveModel(model, wrong)).rejects.toMatchObject(refused);
    await expect(resumeTrainer(wrong)).rejects.toMatchObject(refused);
  }
});

test('a model that has been disposed of is not trained', async () => {
  const gone = await createModel(CONFIG, { seed: 3, device: 'cpu' });
  await gone.dispose();
  expect(() => createTrainer(gone)).toThrow(expect.objectContaining({ code: 'ERR_DISPOSED' }));
});

test('a save removes what kills left of earlier ones, and nothing that may be written to', async () => {
  const parent = await temporary();
  const left = async (name: string, minutes: number) => {
    await mkdir(join(parent, name));
    await writeFile(join(parent, name, 'model.safetensors'), 'half');
    const then = Date.now() / 1000 - 60 * minutes;
    for (const path of [join(parent, name, 'model.safetensors'), join(parent, name)]) await utimes(path, then, then);
  };
  const kept = ['.saved.0123456789ab.tmp', '.saved.notes.tmp', '.other.0123456789ab.tmp'];
  await left('.saved.abcdef012345.tmp', 30);
  await left(kept[0]!, 3);
  for (const name of kept.slice(1)) await left(name, 30);
  await model.save(join(parent, 'saved'));
  expect((await readdir(parent)).sort()).toEqual([...kept, 'saved'].sort());
});

test('a step that waits for others, or for the trainer to begin, hears its abort', async () => {
  await using trainer = createTrainer(model, {});
  const ended: string[] = [];
  const first = trainer.step(batchOf(8, 64)).then(() => ended.push('first'));
  const controller = new AbortController();
  const waiting = trainer.step(batchOf(8, 64), { signal: controller.signal }).catch((reason) => ended.push(reason));
  const after = trainer.step(batchOf(1, 8)).then(() => ended.push('after'));
  controller.abort('enough');
  await Promise.all([first, waiting, after]);
  expect([ended, trainer.steps]).toEqual([['enough', 'first', 'after'], 2]);
});

test('an aborted step and one that is no number change nothing', async () => {
  await using trainer = createTrainer(model, {});
  const before = await trainer.parameters();
  const controller = new AbortController();
  const step = trainer.step(batchOf(8, 64), { signal: controller.signal });
  controller.abort(new Error('enough'));
  await expect(step).rejects.toThrow('enough');
  expect(trainer.steps).toBe(0);

  await using broken = await createModel(CONFIG, { seed: 3, device: 'cpu' });
  const norm = await broken.getParameter('model.norm.weight');
  (norm.data as Float32Array)[0] = Number.NaN;
  await broken.setParameters(new Map([['model.norm.weight', norm]]));
  await using nan = createTrainer(broken);
  const report = await nan.step(batchOf(2, 8));
  expect(report.skipped).toMatch(/loss is NaN/);
  expect(nan.steps).toBe(0);
  const after = await trainer.parameters();
  for (const [name, t] of before) expect(bits(after.get(name)), name).toBe(bits(t));
});

test('models are made of tensors, and give them back', async () => {
  const values = await model.parameters();
  expect(model.parameters.total).toBe([...values.values()].reduce((n, t) => n + t.data.length, 0));
  for (const made of [
    await createModel(CONFIG, { weights: values, device: 'cpu' }),
    await loadModel(values, { config: CONFIG, device: 'cpu' }),
  ]) {
    for (const [name, t] of await made.parameters()) expect(bits(t), name).toBe(bits(values.get(name)));
    await made.dispose();
  }
  const short = new Map([...values].slice(1));
  await expect(createModel(CONFIG, { weights: short })).rejects.toThrow(/is missing/);
  const wrong = new Map([['model.norm.weight', new Tensor(new Float32Array(3), [3])]]);
  await expect(model.setParameters(wrong)).rejects.toMatchObject({ code: 'ERR_SHAPE' });
  await expect(model.getParameter('nothing')).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
});

test('wrong options and batches are refused', async () => {
  expect(() => createTrainer(model, { learningrate: 1 } as TrainerOptions)).toThrow(/did you mean 'learningRate'/);
  expect(() => createTrainer(model, { schedule: 'cosine' })).toThrow(/totalSteps/);
  await using trainer = createTrainer(model);
  const bad = (ids: number[], shape: number[], more: Partial<TrainingBatch> = {}) =>
    expect(trainer.step({ ids: { data: Int32Array.from(ids), shape }, ...more })).rejects;
  await bad([1, 40], [1, 2]).toMatchObject({ code: 'ERR_ARGUMENT' });
  await bad([1, 2], [2]).toMatchObject({ code: 'ERR_SHAPE' });
  for (const wrong of [Int32Array.from([0, 1]), Float64Array.from([0, 2]), BigInt64Array.from([0n, 2n]), [0, 2]])
    await bad([1, 2], [1, 2], { cuSeqlens: wrong as Int32Array }).toMatchObject({ code: 'ERR_ARGUMENT' });
  await trainer.dispose();
  await bad([1, 2], [1, 2]).toMatchObject({ code: 'ERR_DISPOSED' });
});
