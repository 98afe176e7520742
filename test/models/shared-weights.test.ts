// One copy of a model's weights serves every load of the same folder, in whatever thread.
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { loadModel, type Model } from 'statespace';
import { expect, test } from 'vitest';
import { safetensors, scratchFolders } from '../support/checkpoint-files.js';

const folders = scratchFolders();
const [d, ff, layers, vocab] = [512, 2048, 3, 64];
const config = {
  ...{ model_type: 'llama', vocab_size: vocab, hidden_size: d, intermediate_size: ff, num_hidden_layers: layers },
  ...{
    num_attention_heads: 8,
    num_key_value_heads: 8,
    rms_norm_eps: 1e-5,
    tie_word_embeddings: true,
    hidden_act: 'silu',
  },
};

function shapes(): Record<string, number[]> {
  const all: Record<string, number[]> = { 'model.embed_tokens.weight': [vocab, d], 'model.norm.weight': [d] };
  for (let i = 0; i < layers; i++) {
    const at = `model.layers.${i}`;
    for (const name of ['q', 'k', 'v', 'o']) all[`${at}.self_attn.${name}_proj.weight`] = [d, d];
    Object.assign(all, { [`${at}.mlp.gate_proj.weight`]: [ff, d], [`${at}.mlp.up_proj.weight`]: [ff, d] });
    Object.assign(all, { [`${at}.mlp.down_proj.weight`]: [d, ff], [`${at}.input_layernorm.weight`]: [d] });
    all[`${at}.post_attention_layernorm.weight`] = [d];
  }
  return all;
}

/** A Llama of 50 MB: more than what a thread and its heap come to. */
function writeModel(folder: string, value: number): void {
  const header: Record<string, object> = {};
  let end = 0;
  for (const [name, shape] of Object.entries(shapes())) {
    const from = end;
    end += 4 * shape.reduce((a, b) => a * b);
    header[name] = { dtype: 'F32', shape, data_offsets: [from, end] };
  }
  const some = Float32Array.from({ length: 4096 }, (_, i) => value * Math.sin(i));
  const data = Buffer.alloc(end, new Uint8Array(some.buffer));
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  writeFileSync(join(folder, 'model.safetensors'), safetensors(header, data));
}

const logits = async (model: Model) => {
  await using session = model.createSession();
  return (await session.forward([1, 2, 3])).toFloat32Array();
};

test('resident memory does not grow by them: not with a second load, not with one of another thread', async () => {
  const folder = folders.put({});
  writeModel(folder, 0.02);
  const library = resolve(__dirname, '../../dist/lib/index.js');
  const script = `
    const { loadModel } = require(${JSON.stringify(library)});
    const { Worker, isMainThread, parentPort } = require('node:worker_threads');
    const folder = ${JSON.stringify(folder)};
    const first = async (model) => (await model.createSession().forward([1, 2, 3])).toFloat32Array()[5];
    const here = async () => { const model = await loadModel(folder); return { model, value: await first(model) }; };
    if (!isMainThread) here().then(({ value }) => { parentPort.postMessage(value); setInterval(() => {}, 1000); });
    else (async () => {
      const { model, value } = await here();
      const before = process.memoryUsage().rss;
      const again = await here();
      const worker = new Worker(__filename);
      const there = await new Promise((done, fail) => worker.on('message', done).on('error', fail));
      const grown = process.memoryUsage().rss - before;
      await model.dispose(); // the others go on
      const after = await first(again.model);
      console.log(JSON.stringify({ grown, values: [value, again.value, there, after] }));
      process.exit();
    })();`;
  const file = join(folder, 'loads.cjs');
  writeFileSync(file, script);
  const { stdout } = await promisify(execFile)(process.execPath, [file]);
  const { grown, values } = JSON.parse(stdout);
  expect(new Set(values).size).toBe(1);
  const weights = 4 * Object.values(shapes()).reduce((n, shape) => n + shape.reduce((a, b) => a * b), 0);
  expect(grown).toBeLessThan(weights * 0.8); // two more copies would be twice as much
});

test('another file, and another type, are other weights; a file that was written anew is read anew', async () => {
  const folder = folders.put({});
  writeModel(folder, 0.02);
  const [a, half] = [await loadModel(folder), await loadModel(folder, { dtype: 'f16' })];
  const before = await logits(a);
  expect(await logits(half)).not.toEqual(before);
  writeModel(folder, 0.03);
  const b = await loadModel(folder);
  expect(await logits(b)).not.toEqual(before);
  expect(await logits(a)).toEqual(before);
  // What one of them changes is its own; a later load reads the file.
  const c = await loadModel(folder);
  const own = await logits(b);
  const name = 'model.norm.weight';
  const norm = await c.getParameter(name);
  (norm.data as Float32Array).fill(2);
  await c.setParameters(new Map([[name, norm]]));
  const changed = await logits(c);
  expect(changed).not.toEqual(own);
  expect(await logits(b)).toEqual(own);
  const d = await loadModel(folder);
  expect(await logits(d)).toEqual(own);
  for (const model of [a, half, b, c, d]) await model.dispose();
  await expect(logits(a)).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
});
