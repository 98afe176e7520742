// A config of every family, and its keys one by one.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isBeside, kernelCase, modelCase, modelNames } from './golden.js';

export type Config = Record<string, unknown>;

/** A config of every family: of the corpus where it has one. */
export const configs = new Map<string, Config>();
for (const name of modelNames().sort((a, b) => Number(isBeside(a)) - Number(isBeside(b)))) {
  let config: Config;
  try {
    config = JSON.parse(readFileSync(join(modelCase(name).folder, 'config.json'), 'utf8'));
  } catch {
    continue; // weights without a config
  }
  const type = String(config.model_type ?? 'mamba_ssm');
  if (!configs.has(type)) configs.set(type, config);
}
for (const name of ['qwen2', 'qwen3', 'gemma2', 'gemma3_text', 'phi3', 'olmo2'])
  configs.set(name, JSON.parse(readFileSync(join(__dirname, '../models/transformers', name, 'config.json'), 'utf8')));
configs.set('hyena_operator', { model_type: 'hyena_operator', ...kernelCase('hyena_operator__order2').flags });
configs.set('hyena', { model_type: 'hyena', d_model: 8, n_layer: 1, vocab_size: 11, l_max: 16, filter_order: 4 });
const mambaSsm = configs.get('mamba_ssm');
if (mambaSsm) configs.set('mamba_ssm', { model_type: 'mamba_ssm', ...mambaSsm });

// Saved only as the text part of a multimodal one.
const glm = configs.get('glm5_next')?.text_config as Config | undefined;
if (glm) configs.set('glm5_next_text', { ...glm, model_type: 'glm5_next_text' });

/** As first released. */
const minimax = configs.get('minimax');
for (const type of ['minimax_text_01', 'minimax_m1'])
  if (minimax) configs.set(type, { ...minimax, model_type: type, postnorm: true });

/** Multimodal types, whose text part is one of the others. */
export const wrapping = new Set<string>();
for (const [outer, inner] of Object.entries({
  qwen3_5: 'qwen3_5_text',
  qwen3_5_moe: 'qwen3_5_moe_text',
  gemma3: 'gemma3_text',
  qwen4_exp: 'qwen4_exp_text',
  glm5_next: 'glm5_next_text',
  inkling_mm_model: 'inkling_text',
})) {
  const text = configs.get(inner);
  if (!text) continue;
  configs.set(outer, { model_type: outer, text_config: text, vision_config: { depth: 2 } });
  wrapping.add(outer);
}

/** Every key of a config, inner ones as well: its name, and the config with another value there. */
export function keysOf(config: Config): [string, (value: unknown) => Config, unknown][] {
  return Object.entries(config).flatMap(([key, held]) => {
    const own: [string, (value: unknown) => Config, unknown] = [key, (value) => ({ ...config, [key]: value }), held];
    if (typeof held !== 'object' || held === null || Array.isArray(held)) return [own];
    const inner = keysOf(held as Config).map(([name, inside, inmost]): typeof own => [
      `${key}.${name}`,
      (value) => ({ ...config, [key]: inside(value) }),
      inmost,
    ]);
    return [own, ...inner];
  });
}
