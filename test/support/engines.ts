// Small models for tests of the engine, and what they say alone.
import { createModel, type GenerateOptions, loadModel, type Model } from 'statespace';
import { modelCase, modelNames, oneOfEachFamily } from './golden.js';

const COMMON = { hidden_size: 32, vocab_size: 96, tie_word_embeddings: true };

/** A Mamba: all of it state. */
export const mambaConfig = {
  ...{ ...COMMON, model_type: 'mamba', num_hidden_layers: 2, state_size: 8, conv_kernel: 4, expand: 2 },
  ...{ time_step_rank: 4, use_bias: false, use_conv_bias: true, layer_norm_epsilon: 1e-5 },
};

/** A Llama: all of it keys and values. */
export const llamaConfig = {
  ...{ ...COMMON, model_type: 'llama', num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2 },
  ...{ intermediate_size: 48, rms_norm_eps: 1e-5, rope_theta: 10000, hidden_act: 'silu' },
};

export const mamba = (seed = 1): Promise<Model> => createModel(mambaConfig, { seed });
export const llama = (seed = 1): Promise<Model> => createModel(llamaConfig, { seed });

/** One golden model of each family that the package loads and that reads tokens. */
export async function oneModelOfEachFamily(): Promise<{ name: string; model: Model }[]> {
  const models = [];
  for (const name of oneOfEachFamily(modelNames())) {
    const model = await loadModel(modelCase(name).folder).catch(() => undefined);
    if (model && model.inputWidth === 1 && model.vocabSize > 0) models.push({ name, model });
    else await model?.dispose();
  }
  return models;
}

/** What a session by itself generates. */
export async function alone(model: Model, options: GenerateOptions): Promise<number[]> {
  await using session = model.createSession();
  const tokens: number[] = [];
  for await (const { token } of session.generate(options)) tokens.push(token);
  return tokens;
}

/** And its text, as it follows the prompt's. */
export async function textAlone(model: Model, options: GenerateOptions): Promise<string> {
  await using session = model.createSession();
  let said = '';
  for await (const { text } of session.generate(options)) said += text;
  return said;
}

/** A small generator: the same numbers for the same seed. */
export function numbers(seed: number): (below: number) => number {
  let s = seed >>> 0;
  return (below) => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    return Math.floor((s / 2 ** 32) * below);
  };
}

export const ids = (next: (below: number) => number, length: number, vocab = 96): Int32Array =>
  Int32Array.from({ length }, () => next(vocab));
