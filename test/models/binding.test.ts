// Which tensors of a checkpoint a model reads: what is missing, what is left over, what goes by another name.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createModel, loadModel } from 'statespace';
import { expect, test, vi } from 'vitest';
import { safetensors, scratchFolders } from '../support/checkpoint-files.js';
import { modelCase, readGolden } from '../support/golden.js';

const folders = scratchFolders();
type Named = Record<string, { data: ArrayLike<number>; shape: readonly number[]; dtype?: string }>;

function weights(name: string): { config: Record<string, unknown>; tensors: Named } {
  const { folder } = modelCase(name);
  const text = readFileSync(join(folder, 'config.json'), 'utf8');
  const config = JSON.parse(text.replaceAll(/(?<!")Infinity/g, '{"__float__":"Infinity"}'));
  return { config, tensors: { ...readGolden(join(folder, 'model.safetensors')).tensors } };
}

function put(config: Record<string, unknown>, tensors: Named, metadata?: Record<string, string>): string {
  const header: Record<string, unknown> = metadata ? { __metadata__: metadata } : {};
  const parts: Buffer[] = [];
  let at = 0;
  for (const [name, { data, shape, dtype = 'F32' }] of Object.entries(tensors)) {
    const part = dtype === 'F32' ? Buffer.from(Float32Array.from(data).buffer) : Buffer.from(Uint8Array.from(data));
    header[name] = { dtype, shape, data_offsets: [at, at + part.length] };
    parts.push(part);
    at += part.length;
  }
  return folders.put({
    'config.json': JSON.stringify(config),
    'model.safetensors': safetensors(header, Buffer.concat(parts)),
  });
}

/** Logits of a few tokens. */
async function logits(folder: string): Promise<Float32Array> {
  await using model = await loadModel(folder);
  return (await model.createSession().forward([1, 2, 3])).toFloat32Array();
}

const TIED = 'mamba_hf';
const TABLE = 'backbone.embeddings.weight';

function renamed(tensors: Named, from: RegExp, to: string): Named {
  return Object.fromEntries(Object.entries(tensors).map(([name, t]) => [name.replace(from, to), t]));
}

test('tied weights may be stored as the head alone, with or without the alias in the metadata', async () => {
  const { config, tensors } = weights(TIED);
  expect(config.tie_word_embeddings).toBe(true);
  const want = await logits(put(config, tensors));
  const { [TABLE]: table, 'lm_head.weight': _, ...rest } = tensors;
  const headOnly = { ...rest, 'lm_head.weight': table! };
  expect(await logits(put(config, headOnly))).toEqual(want);
  expect(await logits(put(config, headOnly, { [TABLE]: 'lm_head.weight' }))).toEqual(want);
  expect(await logits(put(config, { ...tensors, 'lm_head.weight': table! }))).toEqual(want);
});

test.each([
  ['mamba_hf', /^backbone\./],
  ['llama_mha_tied_bias_rope3', /^model\./],
])('%s saved without its head: names lack the first part', async (name, base) => {
  const { config, tensors } = weights(name);
  expect(await logits(put(config, renamed(tensors, base, '')))).toEqual(await logits(put(config, tensors)));
});

test('a tensor that no layer asks for is an error that names it, or a warning where asked', async () => {
  const { config, tensors } = weights('llama_gqa');
  const bias = { data: new Float32Array(4).fill(1), shape: [4] };
  const folder = put(config, { ...tensors, 'model.layers.0.self_attn.q_proj.bias': bias });
  await expect(loadModel(folder)).rejects.toMatchObject({
    code: 'ERR_CHECKPOINT',
    message: expect.stringMatching(/asks for 1 of its tensors: model\.layers\.0\.self_attn\.q_proj\.bias/),
  });
  const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
  await (await loadModel(folder, { strict: false })).dispose();
  expect(warn.mock.calls.map(([text]) => String(text))).toEqual([expect.stringContaining('q_proj.bias')]);
  warn.mockRestore();
});

test('buffers, and tensors of types that are no parameters, are nothing to speak of', async () => {
  const { config, tensors } = weights('llama_gqa');
  const folder = put(config, {
    ...tensors,
    'model.layers.0.self_attn.rotary_emb.inv_freq': { data: [1, 1], shape: [2] },
    counter: { data: [1, 0, 0, 0, 0, 0, 0, 0], shape: [1], dtype: 'U64' },
    scales: { data: [1, 2], shape: [2], dtype: 'F8_E4M3' },
    packed: { data: [1, 2], shape: [4], dtype: 'F4' },
    small: { data: [1, 2], shape: [1], dtype: 'U16' },
    mask: { data: [1], shape: [1], dtype: 'BOOL' },
  });
  expect(await logits(folder)).toEqual(await logits(put(config, tensors)));
});

test('a tensor that a layer asks for, in a type that is not read, is named with it', async () => {
  const { config, tensors } = weights('llama_gqa');
  const norm = tensors['model.norm.weight']!;
  const folder = put(config, {
    ...tensors,
    'model.norm.weight': { data: new Uint8Array(norm.data.length), shape: norm.shape, dtype: 'F8_E4M3' },
  });
  await expect(loadModel(folder)).rejects.toThrow(/model\.norm\.weight.*f8_e4m3/);
});

test('strict is true or false', async () => {
  await expect(createModel({ model_type: 'mamba' }, { strict: 'no' as never })).rejects.toThrow(
    /strict: expected true/,
  );
});

/** A checkpoint's tensors as the state dict of transformers 5 has them: experts, and convolutions of kimi, in one tensor. */
function asDict(tensors: Named, type: string): Named {
  const names = Object.keys(tensors);
  const pieces = new Map<string, string[]>();
  const together = (name: string, part: string) => pieces.set(name, [...(pieces.get(name) ?? []), part]);
  const experts = names.filter((n) => /\.experts\.\d+\./.test(n));
  const numbers = [...new Set(experts.map((n) => Number(/\.experts\.(\d+)\./.exec(n)![1])))].sort((a, b) => a - b);
  for (const scope of new Set(experts.map((n) => n.slice(0, n.indexOf('.experts.') + 8))))
    for (const i of numbers)
      for (const [gate, up, down] of [
        ['gate_proj', 'up_proj', 'down_proj'],
        ['w1', 'w3', 'w2'],
      ]) {
        const of = (part: string) => `${scope}.${i}.${part}.weight`;
        const first = tensors[of(gate!)] ? [gate!, up!] : tensors[of(up!)] ? [up!] : [];
        for (const part of first) together(`${scope}.${first.length > 1 ? 'gate_up_proj' : 'up_proj'}`, of(part));
        if (tensors[of(down!)]) together(`${scope}.down_proj`, of(down!));
      }
  for (const name of names) {
    const [, scope, of] = /^(.*\.)([qkv])_conv1d\.weight$/.exec(name) ?? [];
    if (type === 'kimi_linear' && of === 'q')
      for (const one of 'qkv') together(`${scope}conv1d.weight`, `${scope}${one}_conv1d.weight`);
  }
  const joined = new Set([...pieces.values()].flat());
  const dict: Named = Object.fromEntries(Object.entries(tensors).filter(([name]) => !joined.has(name)));
  for (const [name, parts] of pieces) {
    const [rows, ...others] = tensors[parts[0]!]!.shape;
    const perExpert = name.endsWith('.gate_up_proj') ? 2 : 1;
    const isConvolution = name.endsWith('conv1d.weight');
    dict[name] = {
      data: parts.flatMap((part) => Array.from(tensors[part]!.data)),
      shape: isConvolution ? [3 * rows!, ...others] : [parts.length / perExpert, perExpert * rows!, ...others],
    };
  }
  const named = (name: string) =>
    name
      .replace(/^backbone\./, 'model.')
      .replace('.router.layer.weight', '.router.weight')
      .replace('.input_linear.weight', '.experts.gate_up_proj')
      .replace('.output_linear.weight', '.experts.down_proj')
      .replace(type === 'granitemoehybrid' ? '' : '.block_sparse_moe.', type === 'granitemoehybrid' ? '' : '.mlp.')
      .replace(/\.self_attn\.(f_[ab]_proj\.|dt_bias$|A_log$)/, '.self_attn.forget_gate.$1');
  return Object.fromEntries(Object.entries(dict).map(([name, t]) => [named(name), t]));
}

test.each([
  'jamba_p4_o3_moe',
  'mixtral',
  'qwen3_next',
  'granitemoehybrid_moe',
  'nemotron_h_moe_latent',
  'kimi_linear_groups_qlora',
])('%s: a state dict of transformers 5, saved itself', async (name) => {
  const { config, tensors } = weights(name);
  const dict = asDict(tensors, String(config.model_type));
  expect(Object.keys(dict)).not.toEqual(Object.keys(tensors));
  expect(await logits(put(config, dict))).toEqual(await logits(put(config, tensors)));
});
