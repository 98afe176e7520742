import { readdir, readFile, writeFile } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import vm from 'node:vm';
import {
  createModel,
  createTrainer,
  type LoadOptions,
  loadModel,
  type Model,
  quantize,
  resumeTrainer,
  saveModel,
} from 'statespace';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { readPeftConfig } from '../../dist/lib/models/peft-config.js';
import { batchOf, bits, CONFIG, HYBRID, temporary } from '../support/training.js';

let model: Model;
beforeAll(async () => {
  model = await createModel(CONFIG, { seed: 3, device: 'cpu' });
});
afterAll(() => model.dispose());

test('adapters are trained, saved as peft does and loaded, merged or beside', async () => {
  const folder = await temporary();
  await saveModel(model, join(folder, 'base'));
  await using base = await loadModel(join(folder, 'base'), { device: 'cpu' });
  await using trainer = createTrainer(base, {
    learningRate: 1e-2,
    lora: { rank: 4, alpha: 8, targets: ['q_proj', 'down_proj'] },
  });
  const batch = batchOf(4, 24);
  const { gradients } = await trainer.gradients(batch);
  expect([...gradients.keys()].sort()).toEqual(
    ['mlp.down_proj', 'self_attn.q_proj']
      .flatMap((m) => [0, 1].flatMap((i) => ['A', 'B'].map((half) => [i, m, half] as const)))
      .map(([i, m, half]) => `base_model.model.model.layers.${i}.${m}.lora_${half}.weight`)
      .sort(),
  );
  const first = await trainer.step(batch);
  for (let i = 0; i < 20; i++) await trainer.step(batch);
  const { loss } = await trainer.evaluate(batch);
  expect(loss).toBeLessThan(first.loss);
  await trainer.save(join(folder, 'adapter'));
  const config = JSON.parse(await readFile(join(folder, 'adapter', 'adapter_config.json'), 'utf8'));
  expect(config).toMatchObject({ peft_type: 'LORA', r: 4, lora_alpha: 8 });

  await using merged = await loadModel(join(folder, 'base'), { device: 'cpu', adapters: [join(folder, 'adapter')] });
  await using again = createTrainer(merged);
  expect((await again.evaluate(batch)).loss).toBeCloseTo(loss, 5);
  expect(bits(await merged.getParameter('model.norm.weight'))).toBe(
    bits(await model.getParameter('model.norm.weight')),
  );

  const ids = Array.from({ length: 9 }, (_, i) => 3 * i + 1);
  const logits = async (of: Model) => Array.from((await of.createSession().forward(ids)).data as Float32Array);
  const apart = (a: number[], b: number[]) => Math.hypot(...a.map((x, i) => x - b[i]!)) / Math.hypot(...b);
  for (const dtype of ['f32', 'q8_0'] as const) {
    const options = { device: 'cpu', dtype, exact: true, mergeAdapters: false } as const;
    await using beside = await loadModel(join(folder, 'base'), { ...options, adapters: [join(folder, 'adapter')] });
    const distance = apart(await logits(beside), await logits(merged));
    expect(distance).toBeLessThan(dtype === 'f32' ? 1e-5 : 0.1);
    expect(apart(await logits(base), await logits(merged))).toBeGreaterThan(5 * distance);
    expect(() => createTrainer(beside)).toThrow(/adapters stand beside/);
    await expect(saveModel(beside, join(folder, 'no'))).rejects.toThrow(/adapters stand beside/);
  }

  await using resumed = await resumeTrainer(join(folder, 'adapter'));
  expect((await resumed.evaluate(batch)).loss).toBe(loss);
  await resumed.model.dispose();
  expect(() => createTrainer(base, { lora: { rank: 2, alpha: 2, targets: ['nothing'] } })).toThrow(/no matrix/);
});

test('adapters of more values than there is memory for are refused, and nothing else is touched', async () => {
  const config = { ...CONFIG, num_hidden_layers: 1, intermediate_size: 1 << 16 };
  await using wide = await createModel(config, { seed: 3, device: 'cpu' });
  const lora = { rank: 2 ** 31 - 1, alpha: 1, targets: ['down_proj'] }; // 2^49 bytes, more than addresses reach
  await using trainer = createTrainer(wide, { lora });
  await expect(trainer.step(batchOf(1, 8))).rejects.toMatchObject({ code: 'ERR_OUT_OF_MEMORY' });
  expect(() => createTrainer(wide, { lora: { ...lora, rank: 2 ** 31 } })).toThrow(
    /lora.rank: expected an integer from 1 to/,
  );
  await using other = createTrainer(wide, { lora: { ...lora, rank: 2 } });
  expect((await other.step(batchOf(1, 8))).loss).toBeGreaterThan(0);
});

test('exact: what adapters are merged into is not rounded to the type of its file again', async () => {
  const folder = await temporary();
  const to = (name: string) => join(folder, name);
  await saveModel(model, to('base'));
  await quantize(to('base'), to('base.gguf'), { type: 'q4_0' });
  await using base = await loadModel(to('base.gguf'), { device: 'cpu' });
  await using trainer = createTrainer(base, { learningRate: 1e-2, lora: { rank: 4, alpha: 8 } });
  for (let i = 0; i < 5; i++) await trainer.step(batchOf(4, 24));
  await trainer.save(to('adapter'));
  const ids = Array.from({ length: 9 }, (_, i) => 3 * i + 1);
  const logits = async (mergeAdapters: boolean) => {
    const options = { device: 'cpu' as const, exact: true, adapters: [to('adapter')], mergeAdapters };
    await using loaded = await loadModel(to('base.gguf'), options);
    return Array.from((await loaded.createSession().forward(ids)).data as Float32Array);
  };
  const [merged, beside] = [await logits(true), await logits(false)];
  expect(Math.hypot(...merged.map((x, i) => x - beside[i]!)) / Math.hypot(...beside)).toBeLessThan(1e-5);
});

test('adapters beside matrices that keep the blocks of their file lose nothing, unless they are to be merged', async () => {
  const folder = await temporary();
  const to = (name: string) => join(folder, name);
  await saveModel(model, to('base'));
  await quantize(to('base'), to('base.gguf'), { type: 'q4_0' });
  await using base = await loadModel(to('base.gguf'), { device: 'cpu' });
  await using trainer = createTrainer(base, { learningRate: 1e-4, lora: { rank: 4, alpha: 8 } });
  for (let i = 0; i < 5; i++) await trainer.step(batchOf(4, 24));
  await trainer.save(to('adapter'));
  const ids = Array.from({ length: 9 }, (_, i) => 3 * i + 1);
  const logits = async (source: string, options: LoadOptions) => {
    await using loaded = await loadModel(to(source), { device: 'cpu', ...options });
    return (await loaded.createSession().forward(ids, { logits: 'all' })).toFloat32Array();
  };
  const change = async (source: string, options: LoadOptions) => {
    const [without, adapted] = [
      await logits(source, {}),
      await logits(source, { ...options, adapters: [to('adapter')] }),
    ];
    return adapted.map((v, i) => v - without[i]!);
  };
  const dot = (a: Float32Array, b: Float32Array) => a.reduce((total, v, i) => total + v * b[i]!, 0);
  const learned = await change('base.gguf', { mergeAdapters: false });
  const share = async (source: string, options: LoadOptions = {}) =>
    dot(await change(source, options), learned) / dot(learned, learned);
  expect(await share('base.gguf')).toBe(1);
  expect(await share('base.gguf', { mergeAdapters: true })).toBeLessThan(0.5);
  expect(await share('base')).toBeGreaterThan(0.8); // merged, in f32

  const adapters = [to('adapter')];
  await using beside = await loadModel(to('base.gguf'), { device: 'cpu', adapters });
  expect(() => createTrainer(beside)).toThrow(/adapters stand beside it; load it with mergeAdapters: true/);
  await using merged = await loadModel(to('base.gguf'), { device: 'cpu', adapters, mergeAdapters: true });
  await createTrainer(merged).dispose();
});

describe('adapters go on to the bit', () => {
  const lora = { rank: 2, alpha: 4 };
  const batch = batchOf(4, 24);
  const options = { device: 'cpu' } as const;
  const stored = async () => {
    const folder = join(await temporary(), 'base');
    await model.save(folder);
    return folder;
  };
  const adapters = async (base: string) => {
    await using of = await loadModel(base, options);
    await using trainer = createTrainer(of, { lora, learningRate: 0.1 });
    for (let i = 0; i < 3; i++) await trainer.step(batch);
    const folder = join(await temporary(), 'adapters');
    await trainer.save(folder);
    return folder;
  };
  // What the adapters' model is, whether its folder has the same values, and what happens to it before they are saved.
  const changed = async (of: Model) => {
    const norm = await of.getParameter('model.norm.weight');
    (norm.data as Float32Array).fill(0.5);
    await of.setParameters(new Map([['model.norm.weight', norm]]));
    return of;
  };
  const models: [string, boolean, () => Promise<Model>][] = [
    ['as stored', true, async () => loadModel(await stored(), options)],
    ['of no folder', false, () => createModel(CONFIG, { ...options, seed: 3 })],
    ['held in bf16', false, async () => loadModel(await stored(), { ...options, dtype: 'bf16' })],
    ['changed', false, async () => changed(await loadModel(await stored(), options))],
    [
      'with others merged',
      false,
      async () => {
        const base = await stored();
        return loadModel(base, { ...options, adapters: [await adapters(base)] });
      },
    ],
  ];
  test.each(models)('of a model %s', async (_, same, made) => {
    await using of = await made();
    await using trainer = createTrainer(of, { lora, learningRate: 0.1 });
    for (let i = 0; i < 3; i++) await trainer.step(batch);
    await of.setParameters(await trainer.parameters()); // brought up to date: the adapters' base stays what it was
    const folder = join(await temporary(), 'saved');
    await trainer.save(folder);
    const resumed = await resumeTrainer(folder);
    const [now, then] = [await trainer.parameters(), await resumed.parameters()];
    expect([...now.keys()].filter((name) => bits(then.get(name)) !== bits(now.get(name)))).toEqual([]);
    expect(await resumed.step(batch)).toMatchObject({ loss: (await trainer.step(batch)).loss, step: 4 });
    await resumed.save(folder);
    const later = await resumeTrainer(folder);
    expect(await later.evaluate(batch)).toEqual(await trainer.evaluate(batch));
    const base = JSON.parse(await readFile(join(folder, 'adapter_config.json'), 'utf8')).base_model_name_or_path;
    expect(isAbsolute(base)).toBe(true); // peft asks the hub for what is no folder
    expect((await readdir(folder)).includes('base')).toBe(!same);
    await using again = await loadModel(base, { ...options, adapters: [folder] });
    await using loaded = createTrainer(again);
    expect((await loaded.evaluate(batch)).loss).toBeCloseTo((await later.evaluate(batch)).loss, 5);
    for (const it of [resumed, later]) {
      await it.dispose();
      await it.model.dispose();
    }
  });
});

test('adapters of a block that layers share stand under each of them, as in peft: the same in all, or refused', async () => {
  const config = {
    ...{ model_type: 'zamba2', vocab_size: 40, hidden_size: 16, intermediate_size: 24, num_hidden_layers: 3 },
    ...{ layers_block_type: ['hybrid', 'linear_attention', 'hybrid'], num_attention_heads: 2, adapter_rank: 2 },
    ...{ n_mamba_heads: 4, mamba_d_state: 4 },
  };
  const folder = await temporary();
  await using made = await createModel(config, { seed: 5, device: 'cpu' });
  await saveModel(made, join(folder, 'base'));
  await using base = await loadModel(join(folder, 'base'), { device: 'cpu' });
  const lora = { rank: 2, alpha: 4, targets: ['down_proj', 'linear'] };
  await using trainer = createTrainer(base, { learningRate: 0.1, lora });
  const batch = batchOf(3, 12);
  for (let i = 0; i < 3; i++) await trainer.step(batch);
  await trainer.save(join(folder, 'adapter'));
  const file = join(folder, 'adapter', 'adapter_model.safetensors');
  const bytes = await readFile(file);
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + Number(bytes.readBigUInt64LE(0)))) as Record<string, unknown>;
  const module = (layer: number) => `model.layers.${layer}.shared_transformer.feed_forward.down_proj`;
  const half = (layer: number, which: string) => `base_model.model.${module(layer)}.lora_${which}.weight`;
  for (const layer of [0, 2]) expect(header).toHaveProperty([half(layer, 'A')]);

  const load = (mergeAdapters: boolean) =>
    loadModel(join(folder, 'base'), { device: 'cpu', adapters: [join(folder, 'adapter')], mergeAdapters });
  const logits = async (of: Model) => [...(await of.createSession().forward([3, 1, 4])).toFloat32Array()];
  await using merged = await load(true);
  await using beside = await load(false);
  await using again = createTrainer(merged);
  expect((await again.evaluate(batch)).loss).toBeCloseTo((await trainer.evaluate(batch)).loss, 5);
  const [a, b] = [await logits(merged), await logits(beside)];
  expect(Math.max(...a.map((x, i) => Math.abs(x - b[i]!)))).toBeLessThan(1e-4);
  const resumed = await resumeTrainer(join(folder, 'adapter'));
  expect(await resumed.evaluate(batch)).toEqual(await trainer.evaluate(batch));
  await resumed.dispose();
  await resumed.model.dispose();

  // Of the first use alone, as peft's layers_to_transform makes them; then another for each use, as it trains them.
  const renamed = Buffer.from(bytes);
  for (const which of ['A', 'B'])
    renamed.write(half(2, which).replace('down_proj', 'down_prok'), renamed.indexOf(half(2, which)), 'latin1');
  await writeFile(file, renamed);
  await expect(load(true)).rejects.toThrow(/is shared by 2 layers, .* there is none for model\.layers\.2\.shared/);
  const other = Buffer.from(bytes);
  const [start] = (header[half(2, 'B')] as { data_offsets: [number, number] }).data_offsets;
  other.writeFloatLE(7, 8 + Number(bytes.readBigUInt64LE(0)) + start);
  await writeFile(file, other);
  for (const merge of [true, false])
    await expect(load(merge)).rejects.toThrow(/is shared by 2 layers, .* that of model\.layers\.2\..*another/);
});

test('adapters of a table of embeddings that is the head too: as peft has them, and to the bit', async () => {
  const folder = await temporary();
  await saveModel(model, join(folder, 'base'));
  await using base = await loadModel(join(folder, 'base'), { device: 'cpu' });
  const lora = { rank: 2, alpha: 4, targets: ['embed_tokens', 'layers.1.self_attn.o_proj'] };
  await using trainer = createTrainer(base, { learningRate: 0.1, lora });
  const batch = batchOf(3, 12);
  const { gradients } = await trainer.gradients(batch);
  const table = 'base_model.model.model.embed_tokens.lora_embedding_';
  expect(['A', 'B'].map((half) => gradients.get(table + half)?.shape)).toEqual([
    [2, 40],
    [32, 2],
  ]);
  for (let i = 0; i < 3; i++) await trainer.step(batch);
  const adapter = join(folder, 'adapter');
  await trainer.save(adapter);
  const config = JSON.parse(await readFile(join(adapter, 'adapter_config.json'), 'utf8'));
  expect(config).toMatchObject({ target_modules: [...lora.targets, 'lm_head'], ensure_weight_tying: true });
  const resumed = await resumeTrainer(adapter);
  expect(await resumed.step(batch)).toMatchObject({ loss: (await trainer.step(batch)).loss });
  const [now, then] = [await trainer.parameters(), await resumed.parameters()];
  for (const [name, t] of now) expect(bits(then.get(name)), name).toBe(bits(t));
  await resumed.dispose();
  await resumed.model.dispose();

  // Of the table alone, as peft trains it unless it is told that the two are tied.
  const file = join(adapter, 'adapter_model.safetensors');
  const text = (await readFile(file)).toString('latin1');
  const load = () => loadModel(join(folder, 'base'), { device: 'cpu', adapters: [adapter] });
  await writeFile(file, text.replaceAll('model.lm_head.lora', 'model.lm_heap.lora'), 'latin1');
  await expect(load()).rejects.toThrow(/embed_tokens is the head as well .*ensure_weight_tying/);
  const half = text.indexOf('"base_model.model.lm_head.lora_B.weight"');
  const offset = Number(/"data_offsets":\[(\d+)/.exec(text.slice(half))![1]);
  const at = 8 + Number((await readFile(file)).readBigUInt64LE(0)) + offset;
  await writeFile(file, `${text.slice(0, at)}\0\0\0\x40${text.slice(at + 4)}`, 'latin1');
  await expect(load()).rejects.toThrow(/embed_tokens is the head as well/);
});

test('modules are found under whatever first part their names have: peft has those of transformers in memory', async () => {
  const folder = await temporary();
  await saveModel(model, join(folder, 'base'));
  await using base = await loadModel(join(folder, 'base'), { device: 'cpu' });
  await using trainer = createTrainer(base, { learningRate: 0.1, lora: { rank: 2, alpha: 4 } });
  for (let i = 0; i < 2; i++) await trainer.step(batchOf(1, 8));
  await trainer.save(join(folder, 'adapter'));
  const file = join(folder, 'adapter', 'adapter_model.safetensors');
  const logits = async () => {
    await using of = await loadModel(join(folder, 'base'), { device: 'cpu', adapters: [join(folder, 'adapter')] });
    return bits(await of.createSession().forward([3, 1, 4]));
  };
  const wanted = await logits();
  const bytes = await readFile(file);
  const end = 8 + Number(bytes.readBigUInt64LE(0));
  for (const first of ['backbone', 'model.language_model', 'language_model.model']) {
    const header = Buffer.from(
      bytes.toString('utf8', 8, end).replaceAll('base_model.model.model.', `base_model.model.${first}.`),
    );
    const size = Buffer.alloc(8);
    size.writeBigUInt64LE(BigInt(header.length));
    await writeFile(file, Buffer.concat([size, header, bytes.subarray(end)]));
    expect(await logits(), first).toBe(wanted);
  }
});

test('what is no plain addition to the weights as they are is refused, and patterns end', async () => {
  const folder = await temporary();
  await saveModel(model, join(folder, 'base'));
  await using base = await loadModel(join(folder, 'base'), { device: 'cpu' });
  await using trainer = createTrainer(base, { lora: { rank: 2, alpha: 4 } });
  await trainer.step(batchOf(1, 8));
  const adapter = join(folder, 'adapter');
  await trainer.save(adapter);
  const file = join(adapter, 'adapter_config.json');
  const config = JSON.parse(await readFile(file, 'utf8'));
  const load = async (keys: object) => {
    await writeFile(file, JSON.stringify({ ...config, ...keys }));
    await (await loadModel(join(folder, 'base'), { device: 'cpu', adapters: [adapter] })).dispose();
  };
  // Each is a plain name, and quickly tried: what takes long is their number.
  const many = Object.fromEntries(Array.from({ length: 50_000 }, (_, i) => [`l${i}`, 1]));
  const refused: [object, RegExp][] = [
    [{ use_dora: true }, /use_dora: is not supported/],
    [{ alora_invocation_tokens: [3] }, /alora_invocation_tokens: is not supported/],
    [{ init_lora_weights: 'pissa_niter_4' }, /init_lora_weights: "pissa_niter_4" has changed the model/],
    [{ alpha_pattern: { q_proj: '3' } }, /alpha_pattern: expected numbers by names of modules/],
    [{ rank_pattern: { q_proj: 0 } }, /rank_pattern: expected numbers/],
    [{ rank_pattern: { q_proj: 3 } }, /r: model\.layers\.0\.self_attn\.q_proj has 3 by the config, and A \(2, 32\)/],
    [{ r: 1.5 }, /expected r and lora_alpha, received 1\.5/],
    [{ lora_alpha: null }, /expected r and lora_alpha, received 2 and null/],
    [{ alpha_pattern: { '(': 1 } }, /alpha_pattern: Invalid regular expression/],
    [{ alpha_pattern: many }, /alpha_pattern: .*timed out/],
    [{ modules_to_save: 'norm' }, /modules_to_save: expected names of modules, received "norm"/],
    [{ modules_to_save: ['norm'] }, /modules_to_save: no tensor of norm is in the file/],
    [{ modules_to_save: ['lm_head'] }, /modules_to_save: no tensor of lm_head is in the file/],
    [{ modules_to_save: ['model.norm'] }, /modules_to_save: no tensor of model\.norm is in the file/],
  ];
  for (const [keys, message] of refused)
    await expect(load(keys), String(message)).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT',
      message: expect.stringMatching(message),
    });
  // peft names the heads of other tasks in each file.
  await load({ modules_to_save: ['classifier', 'score'] });
  await expect(loadModel(join(folder, 'base'), { adapters: [''] })).rejects.toThrow(
    /adapters: expected paths of folders/,
  );
  await load({ init_lora_weights: 'gaussian', alpha_pattern: { q_proj: 2 }, target_parameters: [] });
});

test('patterns of names are no slower for a process that is halted while they are tried', async () => {
  const late = Object.assign(new Error('Script execution timed out'), { code: 'ERR_SCRIPT_EXECUTION_TIMEOUT' });
  const halted = vi.spyOn(vm, 'runInNewContext').mockImplementationOnce(() => {
    throw late;
  });
  const folder = await temporary();
  const config = { peft_type: 'LORA', r: 2, lora_alpha: 2, bias: 'none', alpha_pattern: { q_proj: 3 } };
  await writeFile(join(folder, 'adapter_config.json'), JSON.stringify(config));
  const scales = (await readPeftConfig(folder)).ranksOf(['model.layers.0.self_attn.q_proj']);
  expect([...scales.values()]).toEqual([{ rank: 2, scale: 1.5 }]);
  expect(halted).toHaveBeenCalledTimes(2);
  halted.mockRestore();
});

test('adapters stand by default where peft takes them', async () => {
  const at = async (of: Model) => {
    await using trainer = createTrainer(of, { lora: { rank: 2, alpha: 2 } });
    const { gradients } = await trainer.gradients(batchOf(1, 8));
    return new Set([...gradients.keys()].map((name) => name.split('.').at(-3)));
  };
  await using hybrid = await createModel(HYBRID, { device: 'cpu' });
  expect(await at(model)).toEqual(new Set(['q_proj', 'v_proj']));
  expect(await at(hybrid)).toEqual(new Set(['in_proj'])); // not out_proj: peft refuses it in Mamba's families
});
