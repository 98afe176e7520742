// What is written is what the converter writes, and what is read back is the model: every architecture, both ways.
import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { createModel, loadModel, quantize } from 'statespace';
import { describe, expect, test } from 'vitest';
import { readGguf } from '../../dist/lib/checkpoint/gguf/container.js';
import { openCheckpoint, readTensorF32 } from '../../dist/lib/checkpoint/open.js';
import { scratchFolders } from '../support/checkpoint-files.js';
import { corpusFiles, corpusFolder, wholeCorpus } from '../support/gguf.js';
import { expectClose, goldenRoot, modelCase, modelNames, modelType, relativeL2 } from '../support/golden.js';
import { writeCheckpoint } from '../support/hf-folder.js';

const folders = scratchFolders();
if (!wholeCorpus) console.log('../shared/golden is not here: three models of twenty-five');

/** Model types of the golden checkpoints that GGUF has an architecture for. */
const written = [
  ...['mamba', 'falcon_mamba', 'mamba2', 'llama', 'mistral', 'mixtral', 'jamba', 'granitemoehybrid', 'bamba'],
  ...['falcon_h1', 'lfm2', 'lfm2_moe', 'nemotron_h', 'qwen3_next'],
];
/** RWKV's own checkpoints record no type. */
const isWritten = (name: string) => written.includes(modelType(name)) || /^(rwkv[67]_orig|fla_rwkv7$)/.test(name);

describe('a checkpoint that is written as f32 and read back gives its logits', () => {
  test.each(modelNames().filter(isWritten))('%s', async (name) => {
    const { folder, expected, tolerance } = modelCase(name);
    const file = join(folders.put({}), `${name}.gguf`);
    const report = await quantize(folder, file, { type: 'f32' });
    expect(report.tensors.every((t) => t.error === 0)).toBe(true);
    const model = await loadModel(file, { exact: true });
    const [batch, length] = expected.input_ids!.shape as [number, number];
    const per = expected.logits!.data.length / batch;
    for (let b = 0; b < batch; b++) {
      const ids = (expected.input_ids!.data as Int32Array).subarray(b * length, (b + 1) * length);
      const logits = await model.createSession().forward(ids, { logits: 'all' });
      expectClose(logits.toFloat32Array(), expected.logits!.data.slice(b * per, (b + 1) * per), tolerance, name);
    }
    await model.dispose();
  });
});

/** Keys that name the file, and what llama.cpp asks for and reads from elsewhere. */
const NOISE = /^general\.(name|size_label|file_type|basename|finetune)|^tokenizer\./;

describe('a file of the corpus, as a folder and back', () => {
  const models = corpusFolder('models')!;
  const files = corpusFiles(models, '.gguf').map((file) => [basename(file, '.gguf'), file] as const);
  test.each(files)('%s', async (name, file) => {
    const said = join(models, `${name.split('.')[0]}.config.json`);
    const { tensors, config } = await openCheckpoint(file);
    const folder = folders.put({});
    const original = existsSync(said) ? JSON.parse(readFileSync(said, 'utf8')) : config;
    const folded = name.startsWith('falcon_h1'); // the file holds the products with the multipliers
    const own = folded ? { ...config, mamba_norm_before_gate: original.mamba_norm_before_gate } : original;
    const isRwkv = name.startsWith('rwkv');
    await writeCheckpoint(folder, isRwkv ? config! : own, tensors.values());
    const out = join(folder, 'out.gguf');
    await quantize(folder, out, { type: 'f32' });
    const [theirs, ours] = [await readGguf(file), await readGguf(out)];
    const found = new Map(ours.tensors.map((t) => [t.name, t]));
    expect([...found.keys()].sort()).toEqual(theirs.tensors.map((t) => t.name).sort());
    for (const t of theirs.tensors) {
      const mine = found.get(t.name)!;
      expect([t.name, ...mine.shape]).toEqual([t.name, ...t.shape]);
      const [wanted, values] = [await readTensorF32(t), await readTensorF32(mine)];
      expect(relativeL2(values, wanted), t.name).toBeLessThan(1e-6);
    }
    const value = (file: typeof ours, key: string) => {
      const v = file.metadata.value(key);
      return typeof v === 'object' ? v.numbers() : v;
    };
    for (const key of theirs.metadata.keys()) {
      if (NOISE.test(key)) continue;
      expect([key, value(ours, key)]).toEqual([key, value(theirs, key)]);
    }
  });
});

async function exactLogits(path: string, ids: Int32Array): Promise<Float32Array> {
  const model = await loadModel(path, { exact: true });
  const rows = await model.createSession().forward(ids, { logits: 'all' });
  await model.dispose();
  return rows.toFloat32Array();
}

describe('RWKV in the layouts of other libraries', () => {
  test('RWKV-6 of its port to transformers: loaded, and written', async () => {
    const { folder: source, expected, tolerance } = modelCase('rwkv6_orig');
    const { tensors, config } = await openCheckpoint(source);
    const c = config as Record<string, number>;
    const ported = (name: string) =>
      name.startsWith('head.')
        ? name
        : `rwkv.${name.replace('emb.', 'embeddings.').replace('.ln0.', '.pre_ln.').replace('.att.', '.attention.').replace('.ffn.', '.feed_forward.')}`;
    const folder = folders.put({});
    const own = {
      model_type: 'rwkv6',
      architectures: ['Rwkv6ForCausalLM'],
      hidden_size: c.n_embd,
      attention_hidden_size: c.n_embd,
      num_hidden_layers: c.n_layer,
      num_attention_heads: c.head_size,
      head_size: c.head_size,
      head_size_divisor: c.head_size_divisor ?? 8,
      intermediate_size: c.dim_ffn ?? null,
      rescale_every: 0,
      vocab_size: c.vocab_size,
    };
    await writeCheckpoint(
      folder,
      own,
      [...tensors.values()].map((t) => ({ ...t, name: ported(t.name) })),
    );
    const length = expected.input_ids!.shape[1]!;
    const ids = (expected.input_ids!.data as Int32Array).subarray(0, length);
    const wanted = expected.logits!.data.slice(
      0,
      (expected.logits!.data.length / expected.input_ids!.data.length) * length,
    );
    expectClose(await exactLogits(folder, ids), wanted, tolerance, 'folder');
    const file = join(folder, 'x.gguf');
    await quantize(folder, file, { type: 'f32' });
    expectClose(await exactLogits(file, ids), wanted, tolerance, 'file');
  });
});

describe('what published checkpoints of a family do not have, and a config may', () => {
  const sizes = { vocab_size: 61, hidden_size: 48, num_hidden_layers: 2, intermediate_size: 40 };
  const heads = { num_attention_heads: 4, num_key_value_heads: 2, head_dim: 12 };
  const mamba2 = { mamba_n_heads: 6, mamba_d_head: 16, mamba_d_state: 8, mamba_n_groups: 1, mamba_expand: 2 };
  const linear = { rope_type: 'linear', factor: 2, rope_theta: 10000 };
  const llama3 = { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4, rope_theta: 10000 };
  const old = { ...llama3, original_max_position_embeddings: 16 };
  const experts = { num_experts: 3, num_experts_per_tok: 2, moe_intermediate_size: 24 };
  const delta = {
    linear_num_key_heads: 2,
    linear_num_value_heads: 4,
    linear_key_head_dim: 12,
    linear_value_head_dim: 8,
  };
  const qwen = {
    model_type: 'qwen3_next',
    ...sizes,
    ...heads,
    ...experts,
    ...delta,
    shared_expert_intermediate_size: 16,
  };
  const kinds = { layer_types: ['linear_attention', 'full_attention'] };
  const granite = {
    model_type: 'granitemoehybrid',
    ...sizes,
    ...heads,
    ...mamba2,
    layer_types: ['mamba', 'attention'],
  };
  const dense = { num_local_experts: 0, num_experts_per_tok: 0, shared_intermediate_size: 40 };
  test.each<[string, Record<string, unknown>, RegExp]>([
    [
      'Qwen3-Next: biases, a layer without experts, narrow values',
      { ...qwen, ...kinds, attention_bias: true, mlp_only_layers: [1] },
      /as wide as keys.*biases of attention.*without experts/s,
    ],
    [
      'Qwen3-Next: no experts at all',
      { ...qwen, ...kinds, num_experts: 0, shared_expert_intermediate_size: 0 },
      /as wide as keys.*without experts/s,
    ],
    [
      'Qwen3-Next: experts further apart than there are layers',
      { ...qwen, ...kinds, decoder_sparse_step: 3 },
      /as wide as keys.*without experts/s,
    ],
    [
      'Granite: a norm of parts of the width, of which there is one group',
      { ...granite, ...dense, norm_groups: 3 },
      /mean square of the whole width, the model that of each of 3 groups/,
    ],
    [
      'Granite: linear positions',
      { ...granite, ...dense, position_embedding_type: 'rope', rope_parameters: linear },
      /^$/,
    ],
    ['Granite: divisors', { ...granite, ...dense, position_embedding_type: 'rope', rope_parameters: old }, /^$/],
    [
      'Bamba: whole heads turn, stretched',
      {
        model_type: 'bamba',
        ...sizes,
        ...heads,
        ...mamba2,
        attn_layer_indices: [1],
        rope_parameters: { ...linear, partial_rotary_factor: 1 },
      },
      /^$/,
    ],
    [
      'Mixtral: biases of attention',
      { model_type: 'mixtral', ...sizes, ...heads, num_local_experts: 2, num_experts_per_tok: 1, attention_bias: true },
      /^/,
    ],
    [
      'LFM2: divisors',
      {
        model_type: 'lfm2',
        ...sizes,
        ...heads,
        head_dim: undefined,
        layer_types: ['conv', 'full_attention'],
        rope_parameters: old,
      },
      /no divisors/,
    ],
    [
      'Llama: positions of a type that no key names',
      {
        model_type: 'llama',
        ...sizes,
        ...heads,
        max_position_embeddings: 64,
        rope_parameters: { rope_type: 'dynamic', factor: 2, rope_theta: 10000 },
      },
      /no rotations of the type dynamic/,
    ],
    [
      'LFM2: biases of convolutions, of which the first layer has none',
      {
        ...{ model_type: 'lfm2', ...sizes, ...heads, head_dim: undefined, conv_bias: true },
        layer_types: ['full_attention', 'conv'],
      },
      /bias/,
    ],
    [
      'LFM2-MoE: no bias of experts, a factor of their weights',
      {
        model_type: 'lfm2_moe',
        ...{ ...sizes, ...heads, head_dim: undefined, ...experts, use_expert_bias: false, num_dense_layers: 0 },
        ...{ layer_types: ['conv', 'full_attention'], routed_scaling_factor: 1.5 },
      },
      /not multiply the experts' weights by 1.5/,
    ],
    [
      'Nemotron-H: biases, also of the shared expert',
      {
        model_type: 'nemotron_h',
        ...{ vocab_size: 61, hidden_size: 48, ...heads, layers_block_type: ['mamba', 'moe', 'attention'] },
        ...{ mamba_num_heads: 6, mamba_head_dim: 16, n_groups: 2, ssm_state_size: 8 },
        ...{ n_routed_experts: 3, num_experts_per_tok: 2, moe_intermediate_size: 24 },
        ...{ moe_shared_expert_intermediate_size: 16, mlp_bias: true },
      },
      /does not hold dt to 0\.001 at least\n.*no biases of the shared expert/,
    ],
    [
      'Nemotron-H: experts of a latent width, beside a layer without experts',
      {
        model_type: 'nemotron_h',
        ...{ vocab_size: 61, hidden_size: 48, ...heads, layers_block_type: ['mamba', 'moe', 'mlp', 'attention'] },
        ...{ mamba_num_heads: 6, mamba_head_dim: 16, n_groups: 2, ssm_state_size: 8, moe_latent_size: 20 },
        ...{ n_routed_experts: 3, num_experts_per_tok: 2, moe_intermediate_size: 24 },
        moe_shared_expert_intermediate_size: 16,
      },
      /does not hold dt to 0\.001 at least\n.*no layers without experts beside layers with them$/,
    ],
  ])('%s', async (_, config, said) => {
    const folder = folders.put({});
    const made = await createModel(config, { seed: 5 });
    await made.save(join(folder, 'm'));
    await made.dispose();
    const file = join(folder, 'x.gguf');
    const { notes } = await quantize(join(folder, 'm'), file, { type: 'f32' });
    expect(notes.filter((note) => note.startsWith('llama.cpp')).join('\n')).toMatch(said);
    const stored = new Set((await readGguf(file)).tensors.map((t) => t.name));
    for (const router of [...stored].filter((t) => config.model_type === 'lfm2_moe' && t.includes('gate_inp')))
      expect(stored).toContain(router.replace('ffn_gate_inp.weight', 'exp_probs_b.bias'));
    const ids = Int32Array.from({ length: 20 }, (_, i) => (i * 17 + 3) % 60);
    const [original, written] = await Promise.all([join(folder, 'm'), file].map((path) => exactLogits(path, ids)));
    expect(relativeL2(written!, original!)).toBeLessThan(1e-6);
  });

  // llama.cpp refuses or crashes on a file without; with them it gives the model's logits.
  test.each<[string, Record<string, unknown>, number[]]>([
    ['mamba', { ...sizes, intermediate_size: 96, use_conv_bias: false }, [96, 96]],
    [
      'mamba2',
      {
        ...sizes,
        intermediate_size: undefined,
        num_heads: 6,
        head_dim: 16,
        n_groups: 2,
        state_size: 8,
        use_conv_bias: false,
      },
      [128, 128],
    ],
    [
      'jamba',
      { ...sizes, ...heads, head_dim: undefined, attn_layer_period: 2, attn_layer_offset: 0, mamba_conv_bias: false },
      [96],
    ],
    ['granitemoehybrid', { ...granite, ...dense, mamba_conv_bias: false }, [112]],
    ['bamba', { ...sizes, ...heads, ...mamba2, attn_layer_indices: [1], mamba_conv_bias: false }, [112]],
    ['falcon_h1', { ...sizes, ...heads, ...mamba2, mamba_d_ssm: 96, mamba_conv_bias: false }, [112, 112]],
    [
      'nemotron_h',
      {
        ...{ vocab_size: 61, hidden_size: 48, ...heads, layers_block_type: ['mamba', 'mlp', 'attention'] },
        ...{ mamba_num_heads: 6, mamba_head_dim: 16, n_groups: 2, ssm_state_size: 8, use_conv_bias: false },
      },
      [128],
    ],
  ])('%s without biases of convolutions: zeros are written', async (model_type, config, channels) => {
    const folder = folders.put({});
    const made = await createModel({ ...config, model_type }, { seed: 5 });
    await made.save(join(folder, 'm'));
    await made.dispose();
    const file = join(folder, 'x.gguf');
    const { notes } = await quantize(join(folder, 'm'), file, { type: 'f32' });
    expect(notes.join('\n')).not.toMatch(/convolution/);
    const biases = (await readGguf(file)).tensors.filter((t) => t.name.endsWith('ssm_conv1d.bias'));
    expect(biases.map((t) => t.shape)).toEqual(channels.map((n) => [n]));
    for (const bias of biases) expect((await readTensorF32(bias)).every((x) => x === 0)).toBe(true);
    const ids = Int32Array.from({ length: 20 }, (_, i) => (i * 17 + 3) % 60);
    expect(relativeL2(await exactLogits(file, ids), await exactLogits(join(folder, 'm'), ids))).toBeLessThan(1e-6);
  });

  test.each([
    ['Bamba', { ...granite, layer_types: undefined, model_type: 'bamba', attn_layer_indices: [1] }],
    [
      'Nemotron-H',
      { ...{ model_type: 'nemotron_h', vocab_size: 61, hidden_size: 48 }, ...heads, layers_block_type: ['attention'] },
    ],
  ])('%s: heads of an odd number of channels are refused', async (_, config) => {
    const folder = folders.put({});
    const made = await createModel({ ...config, head_dim: 7 }, { seed: 5 });
    await made.save(join(folder, 'm'));
    await made.dispose();
    const written = quantize(join(folder, 'm'), join(folder, 'x.gguf'), { type: 'f32' });
    const message = expect.stringMatching(/in pairs, this model has 7/);
    await expect(written).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED_MODEL', message });
  });

  test('a head of other values than the embedding that its config ties it to', async () => {
    const { tensors, config } = await openCheckpoint(join(goldenRoot, 'models/llama_gqa'));
    const folder = folders.put({});
    const own = [...tensors.values()].some((t) => t.name === 'lm_head.weight');
    expect(own).toBe(true);
    await writeCheckpoint(folder, { ...config!, tie_word_embeddings: true }, tensors.values());
    const file = join(folder, 'x.gguf');
    await quantize(folder, file, { type: 'f32' });
    const ids = Int32Array.from([1, 2, 3, 4]);
    expect(relativeL2(await exactLogits(file, ids), await exactLogits(folder, ids))).toBeLessThan(1e-6);
  });
});
