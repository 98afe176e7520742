// One small checkpoint of every family in the forms that tools save it in: beside tensors of types that are no
// parameters, tied with the head alone, without the first part of every name, with config.json as transformers 4 and 5
// write it and with every default of the base classes. All give the logits of the checkpoint as it lies there.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadModel, supportedModels } from 'statespace';
import { describe, expect, test, vi } from 'vitest';
import { openCheckpoint, readTensorF32 } from '../../dist/lib/checkpoint/open.js';
import { safetensors, scratchFolders } from '../support/checkpoint-files.js';
import { isBeside, modelFolder, modelNames } from '../support/golden.js';
import { needs } from '../support/needs.js';
import { long } from '../support/scale.js';

type Config = Record<string, unknown>;
type Named = Map<string, { data: Uint8Array; shape: readonly number[]; dtype: string }>;

const folders = scratchFolders();
const transformers = join(__dirname, 'transformers');
const EMBEDDING = /(^|\.)(embed_tokens|embeddings|embedding|emb|embed)\.weight$/;
const HEAD = /^(language_model\.)?(lm_head|head|output|output_projection)\.weight$/;

/** The smallest checkpoint of each model_type, here or beside the project. */
const cases = new Map<string, string>();
const beside = modelNames().sort((a, b) => Number(isBeside(a)) - Number(isBeside(b)));
const own = ['qwen2', 'qwen3', 'gemma2', 'gemma3_text', 'phi3', 'olmo2', 'lfm2_moe', 'minimax', 'qwen3_5_moe_text'];
const folderList = [
  ...beside.map((name) => modelFolder(name)),
  ...[...own, 'zaya', 'zamba', 'inkling_released'].map((name) => join(transformers, name)),
];
for (const folder of folderList) {
  let config: Config;
  try {
    config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8').replaceAll(/\bInfinity\b(?!")/g, '1e999'));
  } catch {
    continue; // weights without a config
  }
  const type = String(config.model_type ?? 'mamba_ssm');
  if (!cases.has(type) && !type.startsWith('s4d') && !type.startsWith('hyena')) cases.set(type, folder);
}

interface Saved {
  config: Config;
  tensors: Named;
}

async function saved(folder: string): Promise<Saved> {
  const { config, tensors } = await openCheckpoint(folder);
  const all: Named = new Map();
  for (const [name, t] of tensors) {
    const values = await readTensorF32(t);
    all.set(name, {
      data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
      shape: t.shape,
      dtype: 'F32',
    });
  }
  return { config: config!, tensors: all };
}

function put({ config, tensors }: Saved, metadata?: Record<string, string>): string {
  const header: Record<string, unknown> = metadata ? { __metadata__: metadata } : {};
  const parts: Uint8Array[] = [];
  let at = 0;
  for (const [name, { data, shape, dtype }] of tensors) {
    header[name] = { dtype, shape, data_offsets: [at, at + data.length] };
    parts.push(data);
    at += data.length;
  }
  // Infinity as Python writes it.
  const text = JSON.stringify(config, (_, v) => (v === Number.POSITIVE_INFINITY ? '\u0000inf' : v));
  return folders.put({
    'config.json': text.replaceAll('"\\u0000inf"', 'Infinity'),
    'model.safetensors': safetensors(header, Buffer.concat(parts)),
  });
}

/** Logits of a few tokens. */
async function logits(folder: string): Promise<Float32Array> {
  await using model = await loadModel(folder);
  return (await model.createSession().forward([1, 2, 3, 5, 4], { logits: 'all' })).toFloat32Array();
}

const FOREIGN: Record<string, number> = {
  U16: 2,
  U32: 4,
  U64: 8,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E8M0: 1,
  F4: 0.5,
  BOOL: 1,
  I64: 8,
  U8: 1,
  C64: 8,
};

/** The part of a config that speaks of the text. */
const textOf = (config: Config): Config => (config.text_config as Config | undefined) ?? config;
const withText = (config: Config, change: (text: Config) => Config): Config =>
  config.text_config ? { ...config, text_config: change(config.text_config as Config) } : change(config);

/** Words of transformers 5 for kinds of layers, and those of 4. */
const OLD_KINDS: Readonly<Record<string, string>> = { full_attention: 'attention', linear_attention: 'mamba' };
const OLD_WORDS = new Set(['granitemoehybrid', 'nemotron_h', 'zamba', 'zamba2', 'jamba', 'bamba']);

/** A config as transformers 4 wrote it. */
function asWritten4(config: Config): Config {
  const { rope_parameters: rope, dtype, ...rest } = config as { rope_parameters?: Config; dtype?: unknown } & Config;
  const old: Config = { ...rest, torch_dtype: dtype ?? 'float32', transformers_version: '4.57.1' };
  const nested = rope && Object.values(rope).some((v) => typeof v === 'object' && v !== null && !Array.isArray(v));
  if (rope && nested) old.rope_parameters = rope;
  else if (rope) {
    const { rope_theta, partial_rotary_factor, rope_type, type, ...scaling } = rope;
    if (rope_theta !== undefined) old.rope_theta = rope_theta;
    if (partial_rotary_factor !== undefined) old.partial_rotary_factor = partial_rotary_factor;
    const kind = rope_type ?? type ?? 'default';
    old.rope_scaling = kind === 'default' ? null : { type: kind, ...scaling };
  }
  if (OLD_WORDS.has(String(config.model_type)))
    for (const key of ['layer_types', 'layers_block_type'])
      if (Array.isArray(old[key])) old[key] = old[key].map((kind) => OLD_KINDS[kind] ?? kind);
  return old;
}

/** A config as transformers 5 writes it. */
function asWritten5(config: Config): Config {
  const { rope_theta, rope_scaling, torch_dtype, ...rest } = config as { rope_scaling?: Config | null } & Config;
  const now: Config = { ...rest, dtype: config.dtype ?? torch_dtype ?? 'float32', transformers_version: '5.18.0' };
  if ((rope_theta !== undefined || rope_scaling) && !config.rope_parameters) {
    const { type, rope_type, ...scaling } = rope_scaling ?? {};
    const partial = config.partial_rotary_factor;
    now.rope_parameters = {
      rope_type: rope_type ?? type ?? 'default',
      ...(rope_theta !== undefined && { rope_theta }),
      ...(partial !== undefined && partial !== null && { partial_rotary_factor: partial }),
      ...scaling,
    };
  }
  return Object.fromEntries(Object.entries(now).map(([key, value]) => [key, asObjects(value)]));
}

function asObjects(value: unknown): unknown {
  if (value === Number.POSITIVE_INFINITY) return { __float__: 'Infinity' };
  return Array.isArray(value) ? value.map(asObjects) : value;
}

const base = JSON.parse(readFileSync(join(transformers, 'base-config.json'), 'utf8')) as Config;

/** Written only inside of others, or read as rows of numbers and not as ids. */
const APART = [
  'hyena',
  'hyena_operator',
  's4d_example',
  'gemma3',
  'glm5_next_text',
  'minimax_m1',
  'minimax_text_01',
  'qwen3_5',
  'qwen3_5_moe',
  'qwen4_exp',
];

test('a checkpoint of every family is here', () => {
  const beside = isBeside('qwen4_exp') ? [] : ['qwen4_exp_text'];
  const missing = supportedModels().filter((type) => !cases.has(type) && ![...APART, ...beside].includes(type));
  if (existsSync(modelFolder('qwen4_exp'))) expect(missing).toEqual([]);
  else expect(missing.length).toBeLessThan(12); // the others lie beside the project
});

/** Beside tensors of types that are no parameters, under names of a layer's own and of nobody's. */
function besideOthers(tensors: Named): Named {
  const [first] = tensors.keys();
  const scope = first!.replace(/\.\w+$/, '');
  const foreign = Object.entries(FOREIGN).flatMap(([dtype, bytes]) => {
    const t = { data: new Uint8Array(6 * bytes).fill(1), shape: [2, 3], dtype };
    return [[`extra.${dtype}`, t] as const, [`${scope}.tracked_${dtype}`, t] as const];
  });
  return new Map([...tensors, ...foreign]);
}

const renamed = (tensors: Named, name: (n: string) => string): Named =>
  new Map([...tensors].map(([n, t]) => [name(n), t]));

/** Without the first part of every name but the head's; undefined where there is none. */
function withoutBase(tensors: Named): Named | undefined {
  const parts = new Set([...tensors.keys()].filter((n) => !HEAD.test(n)).map((n) => n.split('.')[0]!));
  const [part] = parts;
  const bare = renamed(tensors, (n) => (HEAD.test(n) ? n : n.slice(part!.length + 1)));
  return parts.size === 1 && bare.size === tensors.size ? bare : undefined;
}

const { model_type: _, tie_word_embeddings: __, architectures: ___, ...defaults } = base;

/** The same model, each in one way; all of them, or in short what can be had in one folder. */
function formsOf({ config, tensors }: Saved): Record<string, Saved> {
  const bare = withoutBase(tensors);
  const full = { ...defaults, ...config };
  if (!long) {
    const now = { config: withText(full, asWritten5), tensors: bare ?? renamed(tensors, (n) => `module.${n}`) };
    return { 'all at once': { ...now, tensors: besideOthers(now.tensors) } };
  }
  const wrappers = ['module', '_orig_mod'];
  const parts = config.text_config ? wrappers : [...wrappers, 'model', 'backbone', 'base_model.model'];
  return {
    'beside other types': { config, tensors: besideOthers(tensors) },
    ...(bare && { 'without its base': { config, tensors: bare } }),
    ...Object.fromEntries(
      parts.map((p) => [`below ${p}`, { config, tensors: renamed(tensors, (n) => `${p}.${n}`) }] as const),
    ),
    'config of 4': { config: withText(config, asWritten4), tensors },
    'config of 5': { config: withText(config, asWritten5), tensors },
    'config with all defaults': { config: full, tensors },
  };
}

/** Families whose head is never the embedding. */
const UNTIED = ['inkling_text', 'inkling_mm_model', 'rwkv4', 'rwkv5', 'rwkv6'];
const isTied = (config: Config) => config.tie_word_embeddings === true || textOf(config).tie_word_embeddings === true;

/** One of each kind of names and configs; the others in npm run check:full. */
const FEW = `mamba mamba_ssm llama jamba rwkv7 retnet_torchscale nemotron_h qwen3_5_moe_text gemma3_text zamba2
  inkling_mm_model`.split(/\s+/);
const tried = [...cases].filter(([type]) => long || FEW.includes(type));
if (!long) console.log(`left to npm run check:full: ${cases.size - tried.length} families`);

describe.each(tried)('%s', (type, folder) => {
  const same = async (want: Float32Array, forms: Record<string, string>) => {
    for (const [form, path] of Object.entries(forms)) {
      const got = await logits(path).catch((error) => expect.fail(`${form}: ${error.message}`));
      expect(got, form).toEqual(want);
    }
  };

  test('in every form', async () => {
    const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
    const given = await saved(folder);
    const forms = Object.entries(formsOf(given)).map(([form, like]) => [form, put(like)]);
    await same(await logits(put(given)), Object.fromEntries(forms));
    expect(warn.mock.calls.map(([text]) => String(text)).filter((text) => /unknown/.test(text))).toEqual([]);
    warn.mockRestore();
  });

  test.runIf(needs(!UNTIED.includes(type), `a family that ties its embeddings, which ${type} is not`))(
    'tied, with the head alone',
    async () => {
      const { config, tensors } = await saved(folder);
      if (!long && !isTied(config)) return; // of those that were written so
      const table = [...tensors.keys()].find((n) => EMBEDDING.test(n))!;
      const head = [...tensors.keys()].find((n) => HEAD.test(n)) ?? 'lm_head.weight';
      const flags = tiedBy(type);
      const tied = { ...withText(config, (text) => ({ ...text, ...flags })), ...flags };
      const rest = new Map([...tensors].filter(([n]) => n !== table && n !== head));
      const values = tensors.get(table)!;
      const once = { config: tied, tensors: new Map([...rest, [table, values]]) };
      const alone = { config: tied, tensors: new Map([...rest, [head, values]]) };
      await same(await logits(put(once)), {
        'with an alias': put(alone, { [table]: head, format: 'pt' }),
        ...(long && {
          'the head alone': put(alone),
          both: put({ config: tied, tensors: new Map([...alone.tensors, [table, values]]) }),
          'alias of the head': put(once, { [head]: table }),
        }),
      });
    },
  );
});

function tiedBy(type: string): Config {
  if (type === 'mamba_ssm') return { tie_embeddings: true };
  if (type === 'retnet_torchscale') return { share_decoder_input_output_embed: true };
  return { tie_word_embeddings: true };
}
