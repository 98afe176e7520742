// Qwen4's tables of n-grams: 64-bit integers, of which f32 holds no large ones, in a new model, as values and in files.
import { join } from 'node:path';
import { createModel, loadModel, type Model } from 'statespace';
import { expect, test } from 'vitest';
import { openCheckpoint } from '../../dist/lib/checkpoint/open.js';
import { readWords } from '../../dist/lib/checkpoint/read.js';
import { scratchFolders } from '../support/checkpoint-files.js';

const folders = scratchFolders();
const config = {
  ...{ model_type: 'qwen4_exp_text', vocab_size: 72, hidden_size: 16, num_hidden_layers: 3, eos_token_id: 7 },
  layer_types: ['linear_attention', 'linear_attention', 'indexed_attention'],
  ...{ num_attention_heads: 2, num_key_value_heads: 1, head_dim: 8, hc_count: 2, hc_lowrank: 6 },
  ...{ linear_conv_kernel_dim: 2, linear_key_head_dim: 4, linear_value_head_dim: 6, linear_num_key_heads: 1 },
  ...{ linear_num_value_heads: 2, num_experts: 4, num_experts_per_tok: 2, moe_intermediate_size: 8 },
  ...{ shared_expert_intermediate_size: 10, indexer_n_heads: 24, indexer_kv_heads: 1, indexer_head_dim: 8 },
  ...{
    indexer_budget: 6,
    indexer_compress_ratio: 3,
    ple_layer_ids: [1, 2],
    ple_embed_dim: 12,
    ple_conv_kernel_size: 3,
  },
  ...{ ngram_size: 2, heads_per_ngram: 2, ngram_vocab_size_base: 40, make_ngram_vocab_size_divisible_by: 16 },
  ...{ split_ngram_parts: 1, seed: 1234 },
};
/** What transformers 5.18 makes of this config. */
const wanted: Record<string, bigint[]> = {
  'layers.0.ple.ple_embedding.layer_multipliers': [96368751271558349n, 27448217319671001n],
  'layers.0.ple.ple_embedding.ngram_heads_vocab_sizes': [41n, 43n],
  'layers.0.ple.ple_embedding.ngram_heads_offsets': [0n, 41n],
  'layers.1.ple.ple_embedding.layer_multipliers': [45260143347836451n, 58664564084613803n],
  'layers.1.ple.ple_embedding.ngram_heads_vocab_sizes': [47n, 53n],
  'layers.1.ple.ple_embedding.ngram_heads_offsets': [0n, 47n],
};
const ids = [3, 1, 4, 1, 5, 9, 2, 6];

const logits = async (model: Model) => (await model.createSession().forward(ids, { logits: 'all' })).toFloat32Array();
const joined = (words: ArrayLike<number>): bigint[] => [...new BigInt64Array(Uint16Array.from(words).buffer)];

test('a new model looks n-grams up as transformers does; its integers are four words each', async () => {
  await using model = await createModel(config, { seed: 1 });
  for (const [name, integers] of Object.entries(wanted)) {
    const { data, shape } = await model.getParameter(`model.${name}`);
    expect(shape).toEqual([2, 4]);
    expect(joined(data), name).toEqual(integers);
  }
});

test('they are saved as they are, and values of one model make another', async () => {
  await using model = await createModel(config, { seed: 1 });
  const before = await logits(model);
  const folder = join(folders.put({}), 'model');
  await model.save(folder);
  const { tensors } = await openCheckpoint(folder);
  for (const [name, integers] of Object.entries(wanted)) {
    const stored = tensors.get(`model.${name}`)!;
    expect([stored.dtype, stored.shape]).toEqual(['i64', [2]]);
    expect(joined(await readWords(stored)), name).toEqual(integers);
  }
  await using again = await loadModel(folder);
  expect(await logits(again)).toEqual(before);

  await using other = await createModel({ ...config, seed: 5 }, { seed: 2 });
  expect(await logits(other)).not.toEqual(before);
  await other.setParameters(await model.parameters());
  expect(await logits(other)).toEqual(before);
  await using made = await loadModel(await model.parameters(), { config });
  expect(await logits(made)).toEqual(before);
});
