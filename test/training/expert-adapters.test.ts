import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createModel, createTrainer, loadModel, resumeTrainer, saveModel, Tensor } from 'statespace';
import { describe, expect, test, vi } from 'vitest';
import { readSafetensors } from '../../dist/lib/checkpoint/safetensors.js';
import { writeSafetensors } from '../../dist/lib/checkpoint/write-safetensors.js';
import { splitExperts } from '../../dist/lib/models/peft-experts.js';
import { batchOf, temporary } from '../support/training.js';

test('adapters of all experts in one parameter are read once, however many experts there are', async () => {
  const [experts, rank, inner, dModel] = [64, 2, 6, 4];
  const folder = await temporary();
  const file = join(folder, 'adapter_model.safetensors');
  const at = (i: number) => Math.sin(i);
  const values = (n: number) => Float32Array.from({ length: n }, (_, i) => at(i));
  const shapes = { a: [experts * rank, dModel], b: [2 * inner, rank * experts] } as const;
  const tensors = Object.entries(shapes).map(([name, shape]) => {
    const data = values(shape[0] * shape[1]);
    return { name, dtype: 'f32' as const, shape, values: async () => new Tensor(data, shape) };
  });
  await writeSafetensors(file, tensors);
  const stored = new Map((await readSafetensors(file)).map((t) => [t.name, t]));
  const shapeOf = (name: string) =>
    Number(/^m\.(\d+)\./.exec(name)![1]) < experts
      ? name.includes('w2')
        ? [dModel, inner]
        : [inner, dModel]
      : undefined;
  const split = splitExperts('m', { a: stored.get('a')!, b: stored.get('b')! }, shapeOf)!;
  expect([split.parameter, split.parts.size]).toEqual(['gate_up_proj', 2 * experts]);
  const own = createRequire(__filename); // the modules that split's tensors use
  const { InputFile } = own(
    '../../dist/lib/checkpoint/files.js',
  ) as typeof import('../../dist/lib/checkpoint/files.js');
  const { readTensorF32 } = own(
    '../../dist/lib/checkpoint/open.js',
  ) as typeof import('../../dist/lib/checkpoint/open.js');
  const read = vi.spyOn(InputFile.prototype, 'readFloats');
  for (const [name, halves] of split.parts) {
    const [, e, w] = /^m\.(\d+)\.w([13])\.weight$/.exec(name)!;
    const first = w === '3' ? inner : 0;
    const wanted = Array.from({ length: inner * rank }, (_, i) =>
      Math.fround(at((first + Math.floor(i / rank)) * rank * experts + (i % rank) * experts + Number(e))),
    );
    expect([...(await readTensorF32(halves.b))], name).toEqual(wanted);
  }
  expect(read.mock.calls.map(([, length]) => length)).toEqual([4 * shapes.b[0] * shapes.b[1]]);
  read.mockRestore();
});

describe('adapters of single experts', () => {
  const SIZES = { vocab_size: 40, hidden_size: 16, intermediate_size: 12, num_hidden_layers: 2 };
  const HEADS = { num_attention_heads: 2, num_key_value_heads: 1, num_experts_per_tok: 2 };
  const JAMBA = { model_type: 'jamba', attn_layer_period: 2, attn_layer_offset: 1, mamba_d_state: 8, num_experts: 3 };

  test.each([
    [['gate_proj', 'up_proj', 'down_proj'], 'base_layer.', 4, ['gate_proj', 'up_proj', 'down_proj']], // of dense layers too
    [['up_proj'], '', 2, ['up_proj']],
    [['experts.1.down_proj'], '', 2, []],
  ] as const)(
    '%j stand in one parameter where peft joins none, and come back to the bit',
    async (targets, inner, rank, modules) => {
      const folder = await temporary();
      await using made = await createModel({ ...JAMBA, ...SIZES, ...HEADS }, { seed: 5, device: 'cpu' });
      await saveModel(made, join(folder, 'base'));
      await using base = await loadModel(join(folder, 'base'), { device: 'cpu' });
      await using trainer = createTrainer(base, {
        learningRate: 1e-2,
        lora: { rank: 2, alpha: 6, targets: [...targets] },
      });
      const batch = batchOf(2, 16);
      for (let i = 0; i < 4; i++) await trainer.step(batch);
      await trainer.save(join(folder, 'saved'));
      const stored = await readSafetensors(join(folder, 'saved/adapter_model.safetensors'));
      const experts = 'base_model.model.model.layers.1.feed_forward.experts.';
      expect(stored.some(({ name }) => /experts\.\d/.test(name))).toBe(false);
      const config = JSON.parse(await readFile(join(folder, 'saved/adapter_config.json'), 'utf8'));
      expect(config.target_modules).toEqual(modules);
      const isDown = targets[0].includes('down');
      const parameter = `layers.1.feed_forward.experts.${isDown ? 'down_proj' : 'gate_up_proj'}`;
      expect(config.target_parameters).toContain(parameter);
      expect(config.rank_pattern).toEqual(rank === 4 ? { [parameter]: 4 } : {});
      const a = stored.find(({ name }) => name === `${experts}${inner}lora_A.weight`)!;
      expect(a.shape).toEqual([3 * rank, isDown ? 12 : 16]);
      const { loss } = await trainer.evaluate(batch);
      await using merged = await loadModel(join(folder, 'base'), { device: 'cpu', adapters: [join(folder, 'saved')] });
      await using again = createTrainer(merged);
      expect((await again.evaluate(batch)).loss).toBeCloseTo(loss, 5);
      await using resumed = await resumeTrainer(join(folder, 'saved'));
      expect((await resumed.evaluate(batch)).loss).toBe(loss);
      const [one, other] = [await trainer.step(batch), await resumed.step(batch)];
      expect(other.loss).toBe(one.loss);
      await resumed.model.dispose();
    },
  );

  test('of experts without a gate are read, as peft has them', async () => {
    const folder = await temporary();
    const config = {
      ...{ model_type: 'nemotron_h', hybrid_override_pattern: 'ME', n_routed_experts: 3, moe_intermediate_size: 12 },
      ...{
        moe_shared_expert_intermediate_size: 12,
        mamba_num_heads: 2,
        mamba_head_dim: 8,
        ssm_state_size: 8,
        n_groups: 1,
      },
      head_dim: 8,
    };
    await using made = await createModel({ ...config, ...SIZES, ...HEADS }, { seed: 5, device: 'cpu' });
    await saveModel(made, join(folder, 'base'));
    const module = 'base_model.model.model.layers.1.mixer.experts';
    const draw = (shape: number[], seed: number) =>
      new Tensor(
        Float32Array.from({ length: shape[0]! * shape[1]! }, (_, i) => Math.sin(seed + i) / 3),
        shape,
      );
    const [rank, experts] = [2, 3];
    const halves = new Map([
      [`${module}.base_layer.lora_A.weight`, draw([experts * rank, 16], 1)],
      [`${module}.base_layer.lora_B.weight`, draw([12, experts * rank], 2)],
      [`${module}.lora_A.weight`, draw([experts * rank, 12], 3)],
      [`${module}.lora_B.weight`, draw([16, experts * rank], 4)],
    ]);
    await mkdir(join(folder, 'adapter'));
    await writeSafetensors(
      join(folder, 'adapter/adapter_model.safetensors'),
      [...halves].map(([name, t]) => ({ name, dtype: 'f32' as const, shape: t.shape, values: async () => t })),
    );
    const settings = {
      peft_type: 'LORA',
      r: rank,
      lora_alpha: 4,
      target_parameters: ['experts.up_proj', 'experts.down_proj'],
    };
    await writeFile(join(folder, 'adapter/adapter_config.json'), JSON.stringify(settings));
    await using merged = await loadModel(join(folder, 'base'), { device: 'cpu', adapters: [join(folder, 'adapter')] });
    const [up, before] = await Promise.all(
      [merged, made].map((m) => m.getParameter('backbone.layers.1.mixer.experts.1.up_proj.weight')),
    );
    const at = (name: string, i: number) => Number(halves.get(`${module}.base_layer.lora_${name}.weight`)!.data[i]);
    for (const [row, column] of [
      [0, 0],
      [5, 9],
      [11, 15],
    ] as const) {
      let sum = Number(before!.data[row * 16 + column]);
      for (let r = 0; r < rank; r++)
        sum += 2 * at('B', row * rank * experts + r * experts + 1) * at('A', (rank + r) * 16 + column);
      expect(Number(up!.data[row * 16 + column])).toBeCloseTo(sum, 5);
    }
  });
});
