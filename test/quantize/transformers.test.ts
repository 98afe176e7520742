// Plain Transformers as GGUF files: Qwen 2 and 3, Gemma 2 and 3, Phi-3, OLMo 2. Keys, and what llama.cpp makes of them, are
// those of its converter and its loader; it gave the same logits for such files (docs/gguf.md).
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createModel, loadModel, quantize } from 'statespace';
import { describe, expect, test } from 'vitest';
import { readGguf } from '../../dist/lib/checkpoint/gguf/container.js';
import { openCheckpoint, readTensorF32 } from '../../dist/lib/checkpoint/open.js';
import { scratchFolders } from '../support/checkpoint-files.js';
import { f32s, gguf, type Value } from '../support/gguf.js';
import { expectClose, readGolden, relativeL2 } from '../support/golden.js';
import { writeCheckpoint } from '../support/hf-folder.js';

type Config = Record<string, unknown>;

const folders = scratchFolders();
const checkpoints = join(__dirname, '../models/transformers');

/** What sequences a checkpoint is meant for, where its rotations depend on it. */
const lengths: Record<string, number> = { phi3_longrope_long: 32 };

describe('a checkpoint of transformers, written as f32, gives its logits; and its folder, saved out of the file', () => {
  test.each([
    ...['qwen2', 'qwen2_gelu', 'qwen2_window', 'qwen3', 'gemma2', 'gemma3_text', 'gemma3_text_cap'],
    ...['gemma3_text_yarn', 'phi3', 'phi3_longrope', 'phi3_longrope_long', 'olmo2'],
  ])('%s', async (name) => {
    const { tensors, metadata } = readGolden(join(checkpoints, name, 'expected.safetensors'));
    const tolerance = { atol: Math.max(1e-4, 10 * Number(metadata.f32_vs_f64_maxdiff)), rtol: 0 };
    const folder = folders.put({});
    const [file, saved] = [join(folder, 'x.gguf'), join(folder, 'saved')];
    await quantize(join(checkpoints, name), file, { type: 'f32' });
    const options = { exact: true, contextLength: lengths[name] };
    for (const path of [file, saved]) {
      const model = await loadModel(path, options);
      const ids = tensors.input_ids!.data as Int32Array;
      const logits = await model.createSession().forward(ids, { logits: 'all' });
      expectClose(logits.toFloat32Array(), tensors.logits!.data, tolerance, path);
      if (path === file) await model.save(saved);
      await model.dispose();
    }
  });
});

const SIZES = { vocab_size: 61, hidden_size: 32, num_hidden_layers: 2, intermediate_size: 40 };
const HEADS = { num_attention_heads: 4, num_key_value_heads: 2 };
const BLOCK = { ...SIZES, ...HEADS, max_position_embeddings: 512, rms_norm_eps: 1e-5 };
const GEMMA = { ...BLOCK, head_dim: 16, query_pre_attn_scalar: 16, sliding_window: 5 };
const LINEAR = { rope_type: 'linear', factor: 8, rope_theta: 1e6 };
const LLAMA3 = { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4, rope_theta: 1e4 };
const LONG = { rope_type: 'longrope', rope_theta: 1e4, short_factor: [1, 1.5, 2, 3], long_factor: [2, 4, 8, 16] };

/** A model of random weights in a folder, its file, and what the writer says of llama.cpp. */
async function made(config: Config): Promise<{ folder: string; file: string; notes: string }> {
  const at = folders.put({});
  const [folder, file] = [join(at, 'm'), join(at, 'x.gguf')];
  await using model = await createModel(config, { seed: 5 });
  await model.save(folder);
  const { notes } = await quantize(folder, file, { type: 'f32' });
  return { folder, file, notes: notes.filter((note) => note.startsWith('llama.cpp')).join('\n') };
}

/** The file without a key: under another name of the same length, which nobody reads. */
function without(file: string, ...keys: string[]): string {
  let bytes = readFileSync(file, 'latin1');
  for (const key of keys) {
    expect(bytes).toContain(key);
    bytes = bytes.replace(key, '-'.repeat(key.length));
  }
  const other = `${file}.${keys.length}.gguf`;
  writeFileSync(other, bytes, 'latin1');
  return other;
}

async function logitsOf(path: string, contextLength?: number): Promise<Float32Array> {
  await using model = await loadModel(path, { exact: true, contextLength });
  const ids = Int32Array.from({ length: 24 }, (_, i) => (i * 17 + 3) % 60);
  return (await model.createSession().forward(ids, { logits: 'all' })).toFloat32Array();
}

describe('keys and tensors are those of the official converter, and say all', () => {
  const common = {
    ...{ context_length: 512, embedding_length: 32, block_count: 2, feed_forward_length: 40 },
    ...{ 'attention.head_count': 4, 'attention.head_count_kv': 2, 'attention.layer_norm_rms_epsilon': 1e-5 },
  };
  const ends = ['token_embd.weight', 'output_norm.weight'];
  const mlp = ['ffn_gate.weight', 'ffn_up.weight', 'ffn_down.weight'];
  const qkv = ['attn_q.weight', 'attn_k.weight', 'attn_v.weight', 'attn_output.weight'];
  const headNorms = ['attn_q_norm.weight', 'attn_k_norm.weight'];
  const before = ['attn_norm.weight', 'ffn_norm.weight'];
  const behind = ['post_attention_norm.weight', 'post_ffw_norm.weight'];
  const widths = { 'attention.key_length': 16, 'attention.value_length': 16 };
  test.each<[string, Config, Config, string[], string[]]>([
    [
      'qwen2',
      { ...BLOCK, rope_theta: 1e6 },
      { 'rope.freq_base': 1e6 },
      [...before, ...qkv, ...mlp, 'attn_q.bias', 'attn_k.bias', 'attn_v.bias'],
      ['output.weight'],
    ],
    [
      'qwen3',
      { ...BLOCK, head_dim: 16, rope_parameters: LINEAR, tie_word_embeddings: true },
      { 'rope.freq_base': 1e6, 'rope.scaling.type': 'linear', 'rope.scaling.factor': 8, ...widths },
      [...before, ...qkv, ...headNorms, ...mlp],
      [],
    ],
    [
      'gemma2',
      { ...GEMMA, attn_logit_softcapping: 20, final_logit_softcapping: 10 },
      {
        ...{ 'rope.freq_base': 1e4, ...widths, 'attention.sliding_window': 5 },
        ...{ attn_logit_softcapping: 20, final_logit_softcapping: 10 },
      },
      [...before, ...behind, ...qkv, ...mlp],
      [],
    ],
    [
      'gemma3_text',
      {
        ...{ ...GEMMA, sliding_window_pattern: 2 },
        rope_parameters: { full_attention: LINEAR, sliding_attention: { rope_type: 'default', rope_theta: 5000 } },
      },
      {
        ...{ 'rope.freq_base': 1e6, 'rope.freq_base_swa': 5000, ...widths, 'attention.sliding_window': 5 },
        ...{ 'rope.scaling.type': 'linear', 'rope.scaling.factor': 8, 'attention.sliding_window_pattern': 2 },
      },
      [...before, ...behind, ...qkv, ...headNorms, ...mlp],
      [],
    ],
    [
      'phi3',
      { ...BLOCK, sliding_window: 512, original_max_position_embeddings: 128, rope_parameters: LONG },
      {
        ...{ 'rope.freq_base': 1e4, 'rope.dimension_count': 8, 'rope.scaling.original_context_length': 128 },
        'rope.scaling.attn_factor': Math.fround(Math.sqrt(1 + Math.log(4) / Math.log(128))),
        'attention.sliding_window': 512,
      },
      [...before, 'attn_qkv.weight', 'attn_output.weight', 'ffn_up.weight', 'ffn_down.weight'],
      ['output.weight', 'rope_factors_long.weight', 'rope_factors_short.weight'],
    ],
    [
      'olmo2',
      { ...BLOCK, rope_theta: 5e5 },
      { 'rope.freq_base': 5e5 },
      [...behind, ...qkv, ...headNorms, ...mlp],
      ['output.weight'],
    ],
  ])('%s', async (type, config, keys, layer, more) => {
    const { folder, file, notes } = await made({ model_type: type, ...config });
    expect(notes).toBe('');
    const { tensors, metadata } = await readGguf(file);
    const name = type.replace('_text', '');
    const said = Object.fromEntries(
      [...metadata.keys()]
        .filter((key) => key.startsWith(`${name}.`) && !key.endsWith('.vocab_size'))
        .map((key) => [key.slice(name.length + 1), Math.fround(Number(metadata.value(key))) || metadata.value(key)]),
    );
    const rounded = Object.entries({ ...common, ...keys }).map(([k, v]) => [k, Math.fround(Number(v)) || v]);
    expect(said).toEqual(Object.fromEntries(rounded));
    expect(tensors.map((t) => t.name).sort()).toEqual(
      [...ends, ...more, ...[0, 1].flatMap((i) => layer.map((part) => `blk.${i}.${part}`))].sort(),
    );
    expect(metadata.has('statespace.config')).toBe(false);
    for (const length of type === 'phi3' ? [undefined, 512] : [undefined])
      expect(relativeL2(await logitsOf(file, length), await logitsOf(folder, length))).toBeLessThan(1e-6);
  });

  test('norms of Gemma have the 1 that the model adds', async () => {
    const { folder, file } = await made({ model_type: 'gemma2', ...GEMMA });
    const own = (await openCheckpoint(folder)).tensors.get('model.layers.1.post_feedforward_layernorm.weight')!;
    const there = (await readGguf(file)).tensors.find((t) => t.name === 'blk.1.post_ffw_norm.weight')!;
    const [a, b] = await Promise.all([own, there].map((t) => readTensorF32(t)));
    expect([...b!]).toEqual([...a!].map((w) => Math.fround(w + 1)));
  });
});

describe('what a file does not say is the published models’', () => {
  const config = async (file: string) => (await openCheckpoint(file)).config!;

  test('Gemma 2: caps and window of the first files, and the scale of the 27B', async () => {
    const { file } = await made({ model_type: 'gemma2', ...GEMMA });
    const keys = ['attn_logit_softcapping', 'final_logit_softcapping', 'attention.sliding_window'];
    const caps = { attn_logit_softcapping: 50, final_logit_softcapping: 30, sliding_window: 4096 };
    const kinds = { layer_types: ['sliding_attention', 'full_attention'] };
    expect(await config(without(file, ...keys))).toMatchObject({ ...caps, ...kinds, query_pre_attn_scalar: 16 });
    const large = { ...GEMMA, hidden_size: 36, query_pre_attn_scalar: 9, num_hidden_layers: 46 };
    const { file: other, notes } = await made({ model_type: 'gemma2', ...large });
    expect(notes).toBe('');
    expect(await config(other)).toMatchObject({ query_pre_attn_scalar: 9 });
  });

  test('Gemma 3: the bases of both rotations; no windows at all where there is no width of them', async () => {
    const { file } = await made({ model_type: 'gemma3_text', ...GEMMA, num_hidden_layers: 7 });
    const kinds = [...new Array(5).fill('sliding_attention'), 'full_attention', 'sliding_attention'];
    const rope_parameters = { full_attention: { rope_theta: 1e6 }, sliding_attention: { rope_theta: 1e4 } };
    const stripped = without(file, 'gemma3.rope.freq_base');
    expect(await config(stripped)).toMatchObject({ layer_types: kinds, rope_parameters, sliding_window: 5 });
    const open = await config(without(file, 'attention.sliding_window', 'rope.freq_base'));
    expect(open).toMatchObject({ layer_types: new Array(7).fill('full_attention') });
  });

  test('Phi-3 with 4,096 positions has a window where none is said; factors of one length alone are refused', async () => {
    const { file } = await made({ model_type: 'phi3', ...BLOCK, max_position_embeddings: 4096 });
    expect(await config(file)).toMatchObject({ sliding_window: null });
    expect(await config(without(file, 'attention.sliding_window'))).toMatchObject({ sliding_window: 2047 });
    const { file: long } = await made({
      ...{ model_type: 'phi3', ...BLOCK, original_max_position_embeddings: 128, rope_parameters: LONG },
    });
    const half = without(long, 'rope_factors_long.weight');
    const lost = { code: 'ERR_CHECKPOINT', message: expect.stringMatching(/rope_factors_long\.weight is missing/) };
    await expect(openCheckpoint(half)).rejects.toMatchObject(lost);
  });

  const bare = (name: string, more: [string, Value][]) => {
    const sizes = { block_count: 2, context_length: 64, embedding_length: 8, feed_forward_length: 8 };
    const keys = { ...sizes, 'attention.head_count': 2, 'attention.layer_norm_rms_epsilon': 1e-6 };
    const pairs: [string, Value][] = [
      ['general.architecture', ['string', name]],
      ...Object.entries(keys).map(([key, n]): [string, Value] => [`${name}.${key}`, [n < 1 ? 'f32' : 'u32', n]]),
      ...more.map(([key, value]): [string, Value] => [`${name}.${key}`, value]),
    ];
    const tensors = ['token_embd.weight', 'output_norm.weight'].map((name) => ({
      ...{ name, shape: [1, 8], type: 0 },
      data: f32s(...new Array<number>(8).fill(1)),
    }));
    return join(folders.put({ 'x.gguf': gguf({ pairs, tensors }) }), 'x.gguf');
  };

  test('OLMo 3, which llama.cpp calls by the same name, is refused by its windows', async () => {
    const refused = { code: 'ERR_UNSUPPORTED_MODEL', message: expect.stringMatching(/sliding_window: OLMo 3/) };
    await expect(openCheckpoint(bare('olmo2', [['attention.sliding_window', ['u32', 4096]]]))).rejects.toMatchObject(
      refused,
    );
  });

  test('Gemma 3: what scales the rotations of all layers, whose windows are not stretched, is refused', async () => {
    const grown: [string, Value][] = [
      ['rope.scaling.type', ['string', 'yarn']],
      ['rope.scaling.factor', ['f32', 4]],
      ['rope.scaling.attn_factor', ['f32', 2]],
    ];
    expect(await config(bare('gemma3', grown))).toMatchObject({ rope_parameters: { full_attention: { factor: 4 } } });
    await expect(openCheckpoint(bare('gemma3', [['attention.sliding_window', ['u32', 4]], ...grown]))).rejects.toThrow(
      /attn_factor: expected 1 beside layers with windows, received 2/,
    );
  });

  test('any factor of its own tells a Granite with positions from a Bamba', async () => {
    const state = { conv_kernel: 4, inner_size: 16, state_size: 4, time_step_rank: 2, group_count: 1 };
    const keys: [string, Value][] = [
      ['attention.head_count_kv', ['array', ['u32', [0, 2]]]],
      ['rope.scaling.finetuned', ['bool', 1]],
      ...Object.entries(state).map(([key, n]): [string, Value] => [`ssm.${key}`, ['u32', n]]),
    ];
    expect(await config(bare('granitehybrid', keys))).toMatchObject({ model_type: 'bamba' });
    for (const [key, name] of [
      ['embedding_scale', 'embedding_multiplier'],
      ['residual_scale', 'residual_multiplier'],
      ['logit_scale', 'logits_scaling'],
    ] as const) {
      const granite = { model_type: 'granitemoehybrid', [name]: 1.5, attention_multiplier: 1 / Math.sqrt(4) };
      expect(await config(bare('granitehybrid', [...keys, [key, ['f32', 1.5]]]))).toMatchObject(granite);
    }
  });

  test('LFM2 with windows, which llama.cpp has and transformers has not, is refused', async () => {
    const keys: [string, Value][] = [
      ['attention.head_count_kv', ['array', ['u32', [0, 2]]]],
      ['shortconv.l_cache', ['u32', 3]],
    ];
    expect(await config(bare('lfm2', keys))).toMatchObject({ layer_types: ['conv', 'full_attention'] });
    const refused = {
      code: 'ERR_UNSUPPORTED_MODEL',
      message: expect.stringMatching(/sliding_window: LFM2 with windows/),
    };
    const windows: [string, Value] = ['attention.sliding_window', ['u32', 4096]];
    await expect(openCheckpoint(bare('lfm2', [...keys, windows]))).rejects.toMatchObject(refused);
  });

  test('the scores of LFM2’s experts are sigmoids, and a file that says otherwise is refused', async () => {
    const keys: [string, Value][] = [
      ['attention.head_count_kv', ['array', ['u32', [0, 2]]]],
      ['shortconv.l_cache', ['u32', 3]],
      ...['expert_count', 'expert_used_count', 'expert_feed_forward_length'].map((key): [string, Value] => [
        key,
        ['u32', 2],
      ]),
    ];
    expect(await config(bare('lfm2moe', [...keys, ['expert_gating_func', ['u32', 2]]]))).toMatchObject({
      num_experts: 2,
    });
    await expect(openCheckpoint(bare('lfm2moe', [...keys, ['expert_gating_func', ['u32', 1]]]))).rejects.toThrow(
      /expert_gating_func: expected 2, the sigmoid of LFM2-MoE, received 1/,
    );
  });

  test('a number of all layers may be listed by layer, where it is the same', async () => {
    const kv = (...n: number[]): [string, Value][] => [['attention.head_count_kv', ['array', ['i32', n]]]];
    expect(await config(bare('llama', kv(1, 1)))).toMatchObject({ num_key_value_heads: 1 });
    await expect(openCheckpoint(bare('llama', kv(1, 2)))).rejects.toThrow(
      /llama.attention.head_count_kv: expected the same number for all layers/,
    );
    await expect(openCheckpoint(bare('llama', kv(1)))).rejects.toThrow(/expected 2 values, received 1/);
  });

  test('which layers have windows may be listed, or be none', async () => {
    const window: [string, Value] = ['attention.sliding_window', ['u32', 4]];
    const kinds = async (pattern: Value) =>
      (await config(bare('gemma3', [window, ['attention.sliding_window_pattern', pattern]]))).layer_types;
    expect(await kinds(['array', ['bool', [0, 1]]])).toEqual(['full_attention', 'sliding_attention']);
    expect(await kinds(['u32', 1])).toEqual(['full_attention', 'full_attention']);
    expect(await kinds(['u32', 0])).toEqual(['sliding_attention', 'sliding_attention']);
    const open = await config(bare('gemma3', [['attention.sliding_window_pattern', ['u32', 2]]]));
    expect(open.layer_types).toEqual(['full_attention', 'full_attention']);
  });
});

describe('what no key says comes back, and what llama.cpp does otherwise is said', () => {
  const kinds = ['full_attention', 'sliding_attention'];
  const twoRopes = { full_attention: LLAMA3, sliding_attention: { ...LINEAR, rope_theta: 1e4 } };
  test.each<[string, Config, RegExp]>([
    [
      'Qwen 2: windows, another activation',
      {
        model_type: 'qwen2',
        ...BLOCK,
        use_sliding_window: true,
        sliding_window: 5,
        layer_types: kinds,
        hidden_act: 'relu',
      },
      /takes silu for the model's relu\n.*beyond the model's window of 5 tokens/,
    ],
    [
      'Qwen 2: divisors of frequencies',
      { model_type: 'qwen2', ...BLOCK, rope_parameters: { ...LLAMA3, original_max_position_embeddings: 16 } },
      /refuses the file: it knows no divisors/,
    ],
    [
      'Qwen 3: bounds of yarn',
      {
        ...{ model_type: 'qwen3', ...BLOCK, head_dim: 8 },
        rope_parameters: {
          rope_type: 'yarn',
          factor: 4,
          original_max_position_embeddings: 128,
          beta_fast: 16,
          beta_slow: 2,
        },
      },
      /takes 32 for yarn's beta_fast of 16\n.*takes 1 for yarn's beta_slow of 2/,
    ],
    [
      'Qwen 3: biases',
      { model_type: 'qwen3', ...BLOCK, head_dim: 8, attention_bias: true },
      /refuses the file: it knows no bias of attention's output/,
    ],
    [
      'Gemma 2: no caps, another scale, windows elsewhere, a head of its own, silu',
      {
        ...{ model_type: 'gemma2', ...GEMMA, attn_logit_softcapping: null, final_logit_softcapping: null },
        ...{ query_pre_attn_scalar: 20, num_hidden_layers: 4, tie_word_embeddings: false, hidden_activation: 'silu' },
        layer_types: [...kinds, ...kinds.toReversed()],
      },
      /windows to all layers but number 2 .*root of 16, .*of 20.*attention at 50.*logits at 30.*its head is.*model's silu/s,
    ],
    [
      'Gemma 3: windows elsewhere, both rotations stretched, biases',
      {
        ...{ model_type: 'gemma3_text', ...GEMMA, num_hidden_layers: 4, attention_bias: true },
        layer_types: [...kinds, ...kinds.toReversed()],
        rope_parameters: { ...twoRopes, full_attention: { ...LLAMA3, original_max_position_embeddings: 16 } },
      },
      /not stretch the rotations of layers with windows.*all layers but number 6.*no bias of.*no divisors/s,
    ],
    [
      'Gemma 3: no window, and two bases',
      { model_type: 'gemma3_text', ...GEMMA, sliding_window: null, sliding_window_pattern: 2 },
      /turns all layers as those without windows/,
    ],
    [
      'Phi-3: a window, an odd share of each head, heads of another width, stretched',
      {
        ...{ model_type: 'phi3', ...BLOCK, head_dim: 12, sliding_window: 5 },
        rope_parameters: { ...LINEAR, partial_rotary_factor: 0.6 },
      },
      /frequencies of 8 channels.*heads of 8 channels, the model has 12.*window of 5 tokens/s,
    ],
    [
      'Phi-3: positions of a type that no key names, of a share of each head',
      {
        model_type: 'phi3',
        ...BLOCK,
        rope_parameters: { rope_type: 'dynamic', factor: 2, partial_rotary_factor: 0.5 },
      },
      /no rotations of the type dynamic/,
    ],
    [
      'OLMo 2: biases, heads of another width',
      { model_type: 'olmo2', ...BLOCK, head_dim: 16, attention_bias: true },
      /heads of 8 channels, the model has 16.*no bias of attention's output/s,
    ],
    [
      'OLMo 2: a tied head, which becomes one of its own',
      { model_type: 'olmo2', ...BLOCK, tie_word_embeddings: true },
      /^$/,
    ],
  ])('%s', async (_, config, said) => {
    const { folder, file, notes } = await made(config);
    expect(notes).toMatch(said);
    expect(relativeL2(await logitsOf(file), await logitsOf(folder))).toBeLessThan(1e-6);
    if (config.model_type === 'olmo2')
      expect((await readGguf(file)).tensors.some((t) => t.name === 'output.weight')).toBe(true);
  });
});

test('of a multimodal Gemma 3 the text model is written, wherever its tensors lie', async () => {
  const text = { model_type: 'gemma3_text', ...GEMMA };
  const { folder } = await made(text);
  const { tensors } = await openCheckpoint(folder);
  const own = [...tensors.values()];
  for (const place of ['language_model.model.', 'model.language_model.']) {
    const moved = own.map((t) => ({ ...t, name: t.name.replace(/^model\./, place) }));
    const tower = { name: 'vision_tower.vision_model.post_layernorm.weight', shape: [4], values: new Float32Array(4) };
    const whole = folders.put({});
    await writeCheckpoint(whole, { model_type: 'gemma3', text_config: text }, [...moved, tower]);
    const file = join(whole, 'x.gguf');
    const { notes } = await quantize(whole, file, { type: 'f32' });
    expect(notes).toContain('the vision part is left out');
    expect(relativeL2(await logitsOf(file), await logitsOf(folder))).toBeLessThan(1e-6);
  }
});
