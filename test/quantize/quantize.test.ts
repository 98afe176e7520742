// Types as llama.cpp mixes them, files that are there whole or not at all, and what is said of them.
import { execFileSync } from 'node:child_process';
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describeModel, loadModel, quantize } from 'statespace';
import { describe, expect, test } from 'vitest';
import { readGguf } from '../../dist/lib/checkpoint/gguf/container.js';
import { openCheckpoint } from '../../dist/lib/checkpoint/open.js';
import { perplexity, perplexityOf } from '../../dist/lib/quantize/text.js';
import { chooseTypes, type MixName, mixNamed } from '../../dist/lib/quantize/types.js';
import { scratchFolders } from '../support/checkpoint-files.js';
import { corpusFiles, corpusFolder } from '../support/gguf.js';
import { goldenRoot, relativeL2 } from '../support/golden.js';
import { writeCheckpoint } from '../support/hf-folder.js';

const folders = scratchFolders();
const golden = (name: string) => join(goldenRoot, 'models', name);
const empty = () => folders.put({});

describe('types', () => {
  const quants = corpusFolder('quants');
  const files = quants ? corpusFiles(quants, '.gguf') : [];
  if (!quants) console.log('../shared/golden is not here: types are compared with tables alone');
  const known = files.flatMap((file) => {
    const name = basename(file, '.gguf').split('.')[1]!;
    const mix = name.toLowerCase();
    return /^(iq[123]|q[12]_0)/.test(mix) ? [] : [[basename(file), file, mixNamed(mix)] as const];
  });
  test.each(known)('of %s are llama.cpp’s', async (_, file, mix) => {
    const { tensors, metadata } = await readGguf(file);
    const arch = metadata.string('general.architecture')!;
    const count = (key: string) => metadata.count(`${arch}.${key}`) ?? 0;
    const types = chooseTypes(mix as MixName, tensors, {
      architecture: arch,
      layers: count('block_count'),
      experts: count('expert_count'),
      heads: count('attention.head_count'),
      headsKv: count('attention.head_count_kv'),
      weighted: false,
    });
    const wide = /ssm_dt\.weight/; // floats here whatever their rows
    const theirs = tensors.filter((t) => !wide.test(t.name)).map((t) => [t.name, t.dtype]);
    expect([...types].filter(([name]) => !wide.test(name)).sort()).toEqual(theirs.sort());
    for (const t of tensors) if (wide.test(t.name)) expect(types.get(t.name)).toBe('f16');
  });

  /** A Llama of 16 layers and a group of four queries, by what llama_model_quantize() of llama.cpp made of it. */
  test.each([
    ['q4_K_M', 'attn_v', 'q6_k', [0, 1, 4, 7, 10, 13, 14, 15]],
    ['q4_K_M', 'ffn_down', 'q6_k', [0, 1, 4, 7, 10, 13, 14, 15]],
    ['q5_K_M', 'ffn_down', 'q6_k', [0, 1, 4, 7, 10, 13, 14, 15]],
    ['q4_K_S', 'attn_v', 'q5_k', [0, 1, 2, 3]],
    ['q4_K_S', 'ffn_down', 'q5_k', [0, 1]],
    ['q3_K_M', 'attn_v', 'q5_k', [0, 1]],
    ['q3_K_M', 'ffn_down', 'q5_k', [0]],
    ['q2_K', 'attn_v', 'q4_k', Array.from({ length: 16 }, (_, i) => i)],
  ] as const)('%s gives %s the type %s in some layers', (mix, part, type, layers) => {
    const tensors = Array.from({ length: 16 }, (_, i) =>
      ['attn_v', 'ffn_down', 'attn_q'].map((name) => ({ name: `blk.${i}.${name}.weight`, shape: [256, 256] })),
    ).flat();
    const sizes = { architecture: 'llama', layers: 16, experts: 0, heads: 8, headsKv: 2, weighted: false };
    const types = chooseTypes(mix, tensors, sizes);
    const found = Array.from({ length: 16 }, (_, i) => i).filter((i) => types.get(`blk.${i}.${part}.weight`) === type);
    expect(found).toEqual(layers);
  });

  test('an unknown one is refused with the list', async () => {
    await expect(quantize(golden('mamba_hf'), join(empty(), 'x.gguf'), { type: 'q7_X' })).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
      message: expect.stringMatching(/one of f32, f16, .* received "q7_X"/),
    });
    const near = quantize(golden('mamba_hf'), join(empty(), 'x.gguf'), { type: 'Q4_K_N' });
    await expect(near).rejects.toThrow(/received "Q4_K_N"; did you mean 'q4_K_[MS]'\?/);
  });
});

describe('the file', () => {
  test('is there whole or not at all: stopped, and with values that are not finite', async () => {
    const folder = empty();
    const stop = new AbortController();
    const work = quantize(golden('llama_gqa'), join(folder, 'x.gguf'), {
      type: 'q8_0',
      signal: stop.signal,
      onProgress: ({ values, totalValues }) => values > totalValues / 2 && stop.abort(),
    });
    await expect(work).rejects.toMatchObject({ name: 'AbortError' });
    expect(readdirSync(folder)).toEqual([]);
    const { tensors, config } = await openCheckpoint(golden('mamba_hf'));
    const spoilt = [...tensors.values()].map((t) =>
      t.name.endsWith('in_proj.weight') ? { ...t, values: new Float32Array(t.shape[0]! * t.shape[1]!).fill(NaN) } : t,
    );
    const source = empty();
    await writeCheckpoint(source, config!, spoilt);
    await expect(quantize(source, join(folder, 'x.gguf'), { type: 'q4_0' })).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT',
      message: expect.stringContaining('blk.0.ssm_in.weight: holds values that are not finite'),
    });
    expect(readdirSync(folder)).toEqual([]);
  });

  test('never is what is read, nor lies in a folder that is none', async () => {
    const file = join(empty(), 'a.gguf');
    await quantize(golden('mamba_hf'), file, { type: 'f16' });
    const before = readFileSync(file);
    await expect(quantize(file, file, { type: 'q8_0' })).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
    expect(readFileSync(file).equals(before)).toBe(true);
    await expect(quantize(file, '/nonexistent/x.gguf', { type: 'q8_0' })).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
    });
  });

  test('replaces models and nothing else', async () => {
    const source = empty();
    cpSync(golden('mamba_hf'), source, { recursive: true });
    const config = readFileSync(join(source, 'config.json'));
    const onto = (name: string) => quantize(source, join(source, name), { type: 'q8_0' });
    await expect(onto('config.json')).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
      message: expect.stringMatching(/config\.json is there and is no GGUF file; remove it, or give another name/),
    });
    expect(readFileSync(join(source, 'config.json')).equals(config)).toBe(true);
    const folder = empty();
    await expect(quantize(source, folder, { type: 'q8_0' })).rejects.toThrow(/is a folder; give the path of a file/);
    execFileSync('mkfifo', [join(folder, 'pipe')]);
    await expect(quantize(source, join(folder, 'pipe'), { type: 'q8_0' })).rejects.toThrow(/no file that can be repl/);
    writeFileSync(join(folder, 'x.gguf'), '');
    for (const type of ['q8_0', 'f16']) await quantize(source, join(folder, 'x.gguf'), { type });
    expect(readdirSync(folder).sort()).toEqual(['pipe', 'x.gguf']);
  });

  test('of a file is that of its folder, byte for byte', async () => {
    const folder = empty();
    const [plain, twice, once] = ['plain', 'twice', 'once'].map((name) => join(folder, `${name}.gguf`));
    await quantize(golden('llama_gqa'), plain!, { type: 'f32' });
    await quantize(plain!, twice!, { type: 'q8_0' });
    await quantize(golden('llama_gqa'), once!, { type: 'q8_0' });
    expect(readFileSync(twice!).equals(readFileSync(once!))).toBe(true);
    const { notes } = await quantize(once!, join(folder, 'again.gguf'), { type: 'q4_0' });
    expect(notes).toContain('rounded a second time: the file holds q8_0 already');
  });

  test('of a model that GGUF has no architecture for is refused', async () => {
    await expect(quantize(golden('zamba2'), join(empty(), 'x.gguf'), { type: 'q8_0' })).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED_MODEL',
      message: expect.stringContaining('model_type "zamba2"'),
    });
  });
});

test.each([
  ['mistral_sliding', /attends beyond the model's window/],
  ['mamba_hf_untied_bias_k3', /refuses the file: it knows no biases of in_proj/],
  ['mamba2_hf_groups_limit', /does not clamp dt/],
  ['bamba', /turns other channels than the first/],
])('what llama.cpp does otherwise is said of %s', async (name, said) => {
  const { notes } = await quantize(golden(name), join(empty(), 'x.gguf'), { type: 'f32' });
  expect(notes.filter((note) => note.startsWith('llama.cpp: ')).join('\n')).toMatch(said);
});

test('a tied Falcon-H1 gets a head of its own, as its two multipliers differ', async () => {
  const { tensors, config } = await openCheckpoint(golden('falcon_h1'));
  const folder = empty();
  const tied = {
    ...config!,
    time_step_limit: null,
    tie_word_embeddings: true,
    embedding_multiplier: 2.5,
    lm_head_multiplier: 0.25,
  };
  await writeCheckpoint(
    folder,
    tied,
    [...tensors.values()].filter((t) => t.name !== 'lm_head.weight'),
  );
  const file = join(folder, 'x.gguf');
  await quantize(folder, file, { type: 'f32' });
  expect((await readGguf(file)).tensors.some((t) => t.name === 'output.weight')).toBe(true);
  const [a, b] = await Promise.all([folder, file].map((path) => loadModel(path, { exact: true })));
  const logits = async (model: typeof a) =>
    (await model!.createSession().forward([1, 2, 3, 4], { logits: 'all' })).toFloat32Array();
  expect(relativeL2(await logits(b), await logits(a))).toBeLessThan(1e-5);
});

test('importance weighs K-quants and leaves types with one right rounding alone', async () => {
  const folder = empty();
  const ids = Array.from({ length: 64 }, (_, i) => (i * 7) % 60).join(' ');
  const { config } = await openCheckpoint(golden('llama_gqa'));
  const wide = { ...config!, hidden_size: 256, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 64 };
  const made = await wideLlama(folder, wide);
  const bytes = async (type: string, importance?: string) => {
    await quantize(made, join(folder, 'x.gguf'), { type, importance });
    return readFileSync(join(folder, 'x.gguf'));
  };
  expect((await bytes('q8_0', ids)).equals(await bytes('q8_0'))).toBe(true);
  expect((await bytes('q4_K_S', ids)).equals(await bytes('q4_K_S'))).toBe(false);
});

test('texts are read with the rotations of their length, where these depend on it', async () => {
  const folder = empty();
  const text = Array.from({ length: 64 }, (_, i) => (i * 7) % 60).join(' ');
  const { config } = await openCheckpoint(golden('llama_gqa'));
  const rope_parameters = { rope_type: 'dynamic', factor: 2, rope_theta: 1e4 };
  const sizes = { hidden_size: 256, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 64 };
  const made = await wideLlama(folder, { ...config!, ...sizes, max_position_embeddings: 16, rope_parameters });
  const file = join(empty(), 'x.gguf');
  await quantize(made, file, { type: 'q4_K_S', importance: text });
  const long = await loadModel(made, { contextLength: 64 });
  const ids = Int32Array.from(text.split(' '), Number);
  expect((await perplexityOf(made, text)).perplexity).toBe(await perplexity(long as never, ids));
  expect((await perplexityOf(file, ids)).perplexity).toBeGreaterThan(1);
  await long.dispose();
});

test('projections of one layer that a mix stores in two types are held as they lie', async () => {
  const { config } = await openCheckpoint(golden('llama_gqa'));
  const sizes = { hidden_size: 256, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 64 };
  const file = join(empty(), 'x.gguf');
  await quantize(await wideLlama(empty(), { ...config!, ...sizes }), file, { type: 'q4_K_M' });
  const { tensors, bytes } = await describeModel(file);
  const types = tensors.filter((t) => /attn_[qkv]/.test(t.name)).map((t) => t.stored);
  expect(types.sort()).toEqual(['q4_k', 'q4_k', 'q6_k']);
  for (const t of tensors) expect([t.name, t.held]).toEqual([t.name, t.stored]);
  expect(bytes.held).toBe(bytes.stored);
  const [held, exact] = await Promise.all([loadModel(file), loadModel(file, { exact: true })]);
  const logits = async (model: typeof held) =>
    (await model.createSession().forward([1, 2, 3, 4, 5], { logits: 'all' })).toFloat32Array();
  expect(relativeL2(await logits(held), await logits(exact))).toBeLessThan(1e-2);
  await Promise.all([held.dispose(), exact.dispose()]);
});

/** A Llama of one layer and 256 channels, whose channels differ by how much passes through them. */
async function wideLlama(folder: string, config: Record<string, unknown>): Promise<string> {
  const [d, ff, rows] = [256, 256, 64];
  const random = (scale: (column: number) => number, count: number, columns: number) =>
    Float32Array.from({ length: count }, (_, i) => Math.sin(i * 12.9898) * scale(i % columns));
  const shapes: Record<string, [number, number]> = {
    'model.embed_tokens.weight': [rows, d],
    'lm_head.weight': [rows, d],
    'model.layers.0.self_attn.q_proj.weight': [d, d],
    'model.layers.0.self_attn.k_proj.weight': [d / 2, d],
    'model.layers.0.self_attn.v_proj.weight': [d / 2, d],
    'model.layers.0.self_attn.o_proj.weight': [d, d],
    'model.layers.0.mlp.gate_proj.weight': [ff, d],
    'model.layers.0.mlp.up_proj.weight': [ff, d],
    'model.layers.0.mlp.down_proj.weight': [d, ff],
  };
  const norms = ['model.norm', 'model.layers.0.input_layernorm', 'model.layers.0.post_attention_layernorm'];
  await writeCheckpoint(
    folder,
    { ...config, vocab_size: rows, intermediate_size: ff, num_hidden_layers: 1, tie_word_embeddings: false },
    [
      ...Object.entries(shapes).map(([name, shape]) => ({
        name,
        shape,
        values: random(() => 0.06, shape[0] * shape[1], shape[1]),
      })),
      ...norms.map((name) => ({ name: `${name}.weight`, shape: [d], values: random((i) => 1 + (i % 7), d, d) })),
    ],
  );
  return folder;
}

test.each(['llama_gqa', 'rwkv6_orig', 'rwkv7_orig', 'bamba'])(
  'describeModel of a file tells sizes of the model that loading it gives: %s',
  async (name) => {
    const file = join(empty(), 'x.gguf');
    await quantize(golden(name), file, { type: 'bf16' });
    for (const path of [golden(name), file]) {
      for (const options of [{}, { dtype: 'bf16' }, { exact: true }, { dtype: 'q8_0', exact: true }] as const) {
        const [told, model] = await Promise.all([describeModel(path, options), loadModel(path, options)]);
        const { total, active } = model.parameters;
        expect(told.parameters, path).toEqual({ total, active });
        expect(told.sessionBytes(57), path).toEqual(model.sessionBytes(57));
        await model.dispose();
      }
    }
  },
);

test('describeModel tells what tensors are stored and held in, of a file and of a folder', async () => {
  const file = join(empty(), 'x.gguf');
  await quantize(golden('llama_gqa'), file, { type: 'q8_0' });
  const of = await describeModel(file);
  expect(of).toMatchObject({ modelType: 'llama' });
  const named = new Map(of.tensors.map((t) => [t.name, t]));
  expect(named.get('output_norm.weight')).toMatchObject({ stored: 'f32', held: 'f32' });
  expect(of.tensors.every((t) => t.held !== null)).toBe(true);
  const model = await loadModel(file);
  expect(of.sessionBytes(100)).toEqual(model.sessionBytes(100));
  await model.dispose();
  const folder = await describeModel(golden('llama_gqa'));
  expect(folder.parameters).toEqual(of.parameters);
  expect(folder.bytes.held).toBe(folder.bytes.stored);
});

// Texts of Llama 3.1 end at three tokens; a base model's may end at what is text as well.
test.each([
  ['a token that is text', [5, 7]],
  ['three tokens', [5, 7, 11]],
  ['five', [300, 301, 302, 303, 304]],
  ['one', 9],
  ['none', undefined],
])('the ids at which texts end go along: %s', async (_, eos) => {
  const folder = empty();
  cpSync(join(__dirname, '../../models/austen'), folder, { recursive: true });
  if (eos !== undefined) writeFileSync(join(folder, 'generation_config.json'), JSON.stringify({ eos_token_id: eos }));
  const [file, again, saved] = [join(folder, 'x.gguf'), join(folder, 'y.gguf'), join(folder, 'saved')];
  const wanted = [eos ?? []].flat();
  const { notes } = await quantize(folder, file, { type: 'q8_0' });
  expect(notes.some((note) => /may not end texts/.test(note))).toBe(wanted.length > 1);
  await quantize(file, again, { type: 'q4_0' });
  const model = await loadModel(again);
  await model.save(saved);
  const copy = await loadModel(saved);
  for (const { eosTokens } of [model, copy] as { eosTokens?: readonly number[] }[]) expect(eosTokens).toEqual(wanted);
  await Promise.all([model.dispose(), copy.dispose()]);
});
