// config.json as it is saved: what transformers reads again.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  createModel,
  createTrainer,
  loadModel,
  quantize,
  resumeTrainer,
  Tensor,
  type TrainerOptions,
} from 'statespace';
import { describe, expect, test } from 'vitest';
import { readSafetensors } from '../../dist/lib/checkpoint/safetensors.js';
import { configJson, FLOAT_KEYS } from '../../dist/lib/training/config-json.js';
import { temporary } from '../support/training.js';

type Config = Record<string, unknown>;
const SIZES = { vocab_size: 32, hidden_size: 32, num_hidden_layers: 1 };

test('keys that transformers 5.18 takes as floats alone are written as floats', () => {
  const { floats } = JSON.parse(readFileSync(join(__dirname, '../configs/transformers.json'), 'utf8')) as {
    floats: string[];
  };
  expect(floats.length).toBeGreaterThan(30);
  for (const key of floats) expect(configJson({ [key]: 1 }), key).toBe(`{\n  "${key}": 1.0\n}\n`);
  // Of rotations, which no class declares: they warn of an int.
  const others = [...FLOAT_KEYS].filter((key) => !floats.includes(key));
  expect(others.filter((key) => !/factor$|^beta_|^rope_theta$/.test(key))).toEqual([]);
});

test('all else is what JSON.stringify writes, and reads the same', () => {
  const config = {
    ...{
      time_step_limit: [0, Number.POSITIVE_INFINITY],
      time_step_scale: 1,
      rms_norm_eps: 1e-6,
      initializer_range: 1e30,
    },
    ...{ hidden_size: 8, layer_types: ['a', 'b'], nothing: null, gone: undefined, empty: [], none: {} },
    ...{ rope_parameters: { factor: 8, attention_factor: 1, rope_theta: 1e4 }, mlp_multipliers: [1, 0.5, -2] },
    text: 'a "quoted"\n𝄞 text',
  };
  const text = configJson(config);
  expect(text).toContain('"time_step_limit": [\n    0.0,\n    {\n      "__float__": "Infinity"\n    }\n  ]');
  expect(text).toContain('"mlp_multipliers": [\n    1.0,\n    0.5,\n    -2.0\n  ]');
  expect(text).toContain('"attention_factor": 1.0');
  const { time_step_limit: _, ...rest } = config;
  const plain = configJson(rest).replaceAll(/\.0(?=[,\n])/g, '');
  expect(plain).toBe(`${JSON.stringify(rest, null, 2)}\n`);
  expect(JSON.parse(text)).toEqual({
    ...JSON.parse(JSON.stringify(rest)),
    time_step_limit: [0, { __float__: 'Infinity' }],
  });
});

test('a published Mamba is saved with its time_step_scale of 1.0', async () => {
  await using model = await createModel({ model_type: 'mamba', ...SIZES, time_step_scale: 1 }, { seed: 1 });
  const folder = join(await temporary(), 'saved');
  await model.save(folder);
  expect(readFileSync(join(folder, 'config.json'), 'utf8')).toContain('"time_step_scale": 1.0,');
});

/** Written as GGUF, loaded from there, and saved: the config of that folder. */
async function throughGguf(config: Config): Promise<{ saved: Config; off: number }> {
  const at = await temporary();
  const to = (name: string) => join(at, name);
  await using model = await createModel(config, { seed: 1 });
  await model.save(to('first'));
  await quantize(to('first'), to('model.gguf'), { type: 'f32' });
  await using file = await loadModel(to('model.gguf'));
  await file.save(to('saved'));
  await using again = await loadModel(to('saved'));
  const ids = Array.from({ length: 24 }, (_, i) => (7 * i) % 32);
  const [a, b] = await Promise.all(
    [file, again].map(async (m) => (await m.createSession().forward(ids)).toFloat32Array()),
  );
  const off = a!.reduce((most, v, i) => Math.max(most, Math.abs(v - b![i]!)), 0);
  return { saved: JSON.parse(readFileSync(to('saved/config.json'), 'utf8')), off };
}

test('divisors of a GGUF file are saved as factors that transformers knows, for texts of any length', async () => {
  const rope = { rope_type: 'llama3', rope_theta: 1e4, factor: 8, low_freq_factor: 1, high_freq_factor: 4 };
  const { saved, off } = await throughGguf({
    ...{ model_type: 'llama', ...SIZES, intermediate_size: 32, num_attention_heads: 2, max_position_embeddings: 16 },
    rope_parameters: { ...rope, original_max_position_embeddings: 8 },
  });
  const { short_factor, long_factor, ...others } = saved.rope_parameters as Record<string, number[]>;
  expect(others).toEqual({
    ...{ rope_type: 'longrope', rope_theta: 1e4, factor: 1, attention_factor: 1 },
    original_max_position_embeddings: 16,
  });
  expect(short_factor).toHaveLength(8);
  expect(Math.max(...short_factor!)).toBe(8);
  expect(long_factor).toEqual(short_factor);
  expect(off).toBeLessThan(1e-6); // of 24 tokens: more than 16
});

test('the same of one kind of layers', async () => {
  const rope = { rope_type: 'llama3', rope_theta: 1e4, factor: 8, low_freq_factor: 1, high_freq_factor: 4 };
  const local = { rope_type: 'default', rope_theta: 5000 };
  const { saved, off } = await throughGguf({
    ...{ model_type: 'gemma3_text', ...SIZES, num_hidden_layers: 2, intermediate_size: 32, head_dim: 16 },
    ...{ num_attention_heads: 2, num_key_value_heads: 1, max_position_embeddings: 16, sliding_window_pattern: 2 },
    rope_parameters: {
      full_attention: { ...rope, original_max_position_embeddings: 8 },
      sliding_attention: local,
    },
  });
  const { full_attention, sliding_attention } = saved.rope_parameters as Record<string, Record<string, number[]>>;
  expect(sliding_attention).toEqual(local);
  expect(full_attention).toMatchObject({ rope_type: 'longrope', factor: 1, attention_factor: 1 });
  expect(full_attention!.long_factor).toHaveLength(8);
  expect(off).toBeLessThan(1e-6);
});

test('a Mamba whose inner width is no multiple of its width has no broken `expand`', async () => {
  const { saved, off } = await throughGguf({ model_type: 'mamba', ...SIZES, intermediate_size: 80 });
  expect(saved).toMatchObject({ intermediate_size: 80 });
  expect(saved.expand).toBeUndefined();
  expect(off).toBe(0);
});

test('of a multimodal model the text is saved as what it is', async () => {
  const folder = await temporary();
  const text = { ...SIZES, intermediate_size: 64, num_attention_heads: 4, num_key_value_heads: 1, head_dim: 8 };
  const config = { model_type: 'gemma3', eos_token_id: [1, 6], tie_word_embeddings: true, text_config: text };
  await using model = await createModel(config, { seed: 3 });
  await model.save(folder);
  const saved = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
  expect(saved).toMatchObject({ ...text, model_type: 'gemma3_text', eos_token_id: [1, 6], tie_word_embeddings: true });
  expect(saved).not.toHaveProperty('text_config');
  await using again = await loadModel(folder);
  const logits = async (of: typeof model) => (await of.createSession().forward([3, 1, 4])).data;
  expect(await logits(again)).toEqual(await logits(model));
});

describe.each(['model.language_model.', 'language_model.model.', 'model.llm.'])(
  'a multimodal checkpoint, %s',
  (place) => {
    const text = { ...SIZES, intermediate_size: 64, num_attention_heads: 4, num_key_value_heads: 1, head_dim: 8 };
    const config = { model_type: 'gemma3', tie_word_embeddings: false, text_config: text };
    const nested = async () => {
      await using made = await createModel(config, { seed: 3 });
      const values = [...(await made.parameters())].map(([name, t]) => [name.replace(/^model\./, place), t] as const);
      return loadModel(new Map(values), { config, device: 'cpu' });
    };
    const ids = new Tensor(Int32Array.of(3, 1, 4, 1, 5, 9, 2, 6), [1, 8]);

    test.each<TrainerOptions>([{}, { lora: { rank: 2, alpha: 4 } }])(
      'trained with %o, is saved and goes on',
      async (o) => {
        const folder = await temporary();
        await using model = await nested();
        await using trainer = createTrainer(model, { learningRate: 1e-2, ...o });
        for (let i = 0; i < 2; i++) await trainer.step({ ids });
        await trainer.save(folder);
        await using again = await resumeTrainer(folder);
        expect((await again.step({ ids })).loss).toBe((await trainer.step({ ids })).loss);
        const base = o.lora ? join(folder, 'base') : folder;
        const saved = JSON.parse(readFileSync(join(base, 'config.json'), 'utf8'));
        await using known = await createModel(saved);
        await using read = await loadModel(base);
        expect([...read.parameterList.keys()]).toEqual([...known.parameterList.keys()]);
        const names = o.lora
          ? (await readSafetensors(join(folder, 'adapter_model.safetensors'))).map((t) => t.name)
          : [];
        for (const name of names) expect(name).toMatch(/^base_model\.model\.model\.layers\./);
        await again.model.dispose();
      },
    );

    test('is saved', async () => {
      const folder = await temporary();
      await using model = await nested();
      await model.save(folder);
      await using again = await loadModel(folder);
      const logits = async (of: typeof model) => (await of.createSession().forward([3, 1, 4])).data;
      expect(await logits(again)).toEqual(await logits(model));
    });
  },
);
