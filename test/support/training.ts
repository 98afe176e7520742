/** Small models, something to learn, and places for what was learnt. */
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Tensor, TrainingBatch } from 'statespace';

export const CONFIG = {
  model_type: 'llama',
  vocab_size: 40,
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  tie_word_embeddings: true,
};
export const HYBRID = {
  model_type: 'mamba2',
  vocab_size: 40,
  hidden_size: 32,
  num_heads: 4,
  head_dim: 16,
  state_size: 8,
  n_groups: 1,
  num_hidden_layers: 2,
};

/** Rows of ids that repeat themselves: something to learn. */
export function batchOf(rows: number, length: number, first = 0): TrainingBatch {
  const data = Int32Array.from({ length: rows * length }, (_, i) => {
    const [row, t] = [Math.floor(i / length) + first, i % length];
    return (7 * row + 3 * (t % 5) + row * (t % 3)) % 40;
  });
  return { ids: { data, shape: [rows, length] } };
}

export const bits = (t: Tensor | undefined) => Buffer.from((t!.data as Float32Array).slice().buffer).toString('hex');
export const temporary = () => mkdtemp(join(tmpdir(), 'statespace-training-'));
