// What is written is what the converter writes, and what is read back is the model: every architecture, both ways.
import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { loadModel, quantize } from 'statespace';
import { describe, expect, test } from 'vitest';
import { readGguf } from '../../dist/lib/checkpoint/gguf/container.js';
import { openCheckpoint, readTensorF32 } from '../../dist/lib/checkpoint/open.js';
import { scratchFolders } from '../support/checkpoint-files.js';
import { corpusFiles, corpusFolder, wholeCorpus } from '../support/gguf.js';
import { expectClose, modelCase, modelNames, modelType, relativeL2 } from '../support/golden.js';
import { writeCheckpoint } from '../support/hf-folder.js';

const folders = scratchFolders();
if (!wholeCorpus) console.log('../shared/golden is not here: three models of twenty-five');

/** Model types of the golden checkpoints that GGUF has an architecture for. */
const written = [
  ...['mamba', 'falcon_mamba', 'mamba2', 'llama', 'mistral', 'mixtral', 'jamba', 'granitemoehybrid', 'bamba'],
  ...['falcon_h1', 'lfm2', 'lfm2_moe', 'nemotron_h', 'qwen3_next'],
];
/** RWKV's own checkpoints record no type; of mixtures in latent widths GGUF knows nothing. */
const isWritten = (name: string) =>
  (written.includes(modelType(name)) && !name.includes('latent')) || /^(rwkv[67]_orig|fla_rwkv7$)/.test(name);

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

describe('RWKV in the layouts of other libraries', () => {
  const logits = async (path: string, ids: Int32Array) => {
    const model = await loadModel(path, { exact: true });
    const rows = await model.createSession().forward(ids, { logits: 'all' });
    await model.dispose();
    return rows.toFloat32Array();
  };

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
    expectClose(await logits(folder, ids), wanted, tolerance, 'folder');
    const file = join(folder, 'x.gguf');
    await quantize(folder, file, { type: 'f32' });
    expectClose(await logits(file, ids), wanted, tolerance, 'file');
  });
});
