// Every registered family names what is wrong with a config: unknown keys, missing ones, wrong kinds, contradictions,
// and features that would change results and are not there.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createModel, describeModel, loadModel, quantize, StatespaceError, supportedModels } from 'statespace';
import { describe, expect, test, vi } from 'vitest';
import { safetensorsOf, scratchFolders } from '../support/checkpoint-files.js';
import { configs, keysOf, wrapping } from '../support/family-configs.js';
import { goldenRoot } from '../support/golden.js';
import { refusal } from '../support/refusal.js';
import { long } from '../support/scale.js';
import { processorMs } from '../support/stalls.js';

const folders = scratchFolders();

type Config = Record<string, unknown>;

const absurd: readonly unknown[] = [2 ** 24, 'x', ...(long ? [2 ** 31 - 2, 2 ** 53 - 1, 1e300, 9999, 0, -1, [1]] : [])];

test('every family has a config here', () => {
  expect([...configs.keys()]).toEqual(expect.arrayContaining(supportedModels()));
});

/** Keys without which nothing can be built; all others have defaults. */
const required: Record<string, string[]> = {
  mamba_ssm: ['d_model', 'n_layer', 'vocab_size'],
  s4d_example: ['d_input'],
  hyena: ['d_model', 'n_layer', 'vocab_size'],
  hyena_operator: ['d_model'],
  rwkv6: ['n_embd', 'n_layer', 'vocab_size'],
  rwkv7: ['n_embd', 'n_layer', 'vocab_size'],
  retnet_torchscale: ['vocab_size'],
};

const llamaLike: [Config, RegExp][] = [
  [{ rms_norm_eps: -1e-6 }, /rms_norm_eps: expected a finite number from 0 on, received -0.000001/],
  [{ rms_norm_eps: Number.POSITIVE_INFINITY }, /rms_norm_eps: expected a finite number/],
  [{ rope_parameters: { rope_type: 'default', rope_theta: 0 } }, /rope_theta: expected a finite number above 0/],
  [{ rope_parameters: { rope_type: 'default', rope_theta: 1e300 } }, /rope_theta: expected a finite number above 0/],
  [{ hidden_act: 'quick_gelu' }, /hidden_act: "quick_gelu" is not supported/],
  [{ num_attention_heads: 4, num_key_value_heads: 3 }, /num_attention_heads 4 is no multiple of num_key_value_heads 3/],
  [{ rope_parameters: { rope_type: 'ntk', factor: 2 } }, /rope_parameters.*rope_type: "ntk" is not supported/],
  [{ rope_parameters: { rope_type: 'dynamic', factor: 0 } }, /rope_parameters\): factor: expected a number > 0/],
  [
    { rope_parameters: { rope_type: 'longrope', long_factor: [1], factor: 4 } },
    /rope_parameters\): short_factor: expected 4 numbers > 0/,
  ],
  [{ rope_parameters: { rope_type: 'yarn', factor: 2, surprise: 1 } }, /rope_parameters.*unknown key surprise/],
];

const INDEX = { indexer_n_heads: 4, indexer_head_dim: 128, indexer_budget: 64, indexer_compress_ratio: 16 };

/** Of mamba_ssm, with attention of heads of 8 channels. */
const attending = (of: Config): Config => ({
  ...{ model_type: 'mamba_ssm', d_model: 16, n_layer: 1, vocab_size: 8, attn_layer_idx: [0] },
  attn_cfg: { num_heads: 2, causal: true, ...of },
});

/** Contradictions and unsupported features, by family: what is changed in the config, and what the error must say. */
const wrong: Record<string, [Config, RegExp][]> = {
  mamba: [
    [{ hidden_act: 'relu' }, /hidden_act: "relu" is not supported; supported: silu, swish/],
    [{ rms_norm: false }, /rms_norm: false is not supported/],
    [{ n_layer: 77 }, /n_layer 77 contradicts num_hidden_layers/],
    [{ d_inner: 5 }, /d_inner contradicts intermediate_size/],
    [{ time_step_rank: -1 }, /time_step_rank: expected a positive integer, received -1/],
  ],
  falcon_mamba: [[{ hidden_act: 'relu' }, /hidden_act: "relu"/]],
  mamba2: [
    [{ num_heads: 7 }, /num_heads 7 · head_dim/],
    [{ n_groups: 3 }, /is no multiple of n_groups 3/],
    [{ intermediate_size: 5 }, /intermediate_size contradicts expand/],
    [{ time_step_limit: [2, 1] }, /time_step_limit: expected \[low, high\]/],
  ],
  mamba_ssm: [
    [attending({ rotary_emb_dim: 3 }), /attn_cfg\): rotary_emb_dim: expected an even number from 0 to 8, received 3/],
    [attending({ rotary_emb_dim: 10 }), /rotary_emb_dim: expected an even number from 0 to 8, received 10/],
    [{ ssm_cfg: { layer: 'Mamba9' } }, /ssm_cfg.*layer: "Mamba9" is not supported; supported: Mamba1, Mamba2, Mamba3/],
    [{ ssm_cfg: { layer: 'Mamba3', rope_fraction: 0.3 } }, /rope_fraction: 0.3 is not supported; supported: 0.5, 1/],
    [{ ssm_cfg: { layer: 'Mamba1', headdim: 8 } }, /ssm_cfg.*unknown key headdim/],
    [{ attn_layer_idx: [99], attn_cfg: {} }, /attn_layer_idx: expected layer numbers/],
    [{ attn_layer_idx: [0], attn_cfg: null }, /attn_cfg is missing/],
  ],
  llama: [
    ...llamaLike,
    [{ sliding_window: 8 }, /unknown key sliding_window/],
    [
      { rope_parameters: { rope_type: 'linear', factor: 2, rope_theta: 1e4, partial_rotary_factor: 0.5 } },
      /partial_rotary_factor 0.5 with rope_type linear: .* expected 1/,
    ],
  ],
  mistral: llamaLike,
  mixtral: [
    ...llamaLike,
    [{ hidden_act: 'gelu' }, /hidden_act: "gelu" is not supported; supported: silu, swish/],
    [{ num_experts_per_tok: 9 }, /num_experts_per_tok 9 exceeds num_local_experts/],
  ],
  jamba: [
    [{ attn_layer_offset: 8, attn_layer_period: 8 }, /attn_layer_offset 8 must lie below attn_layer_period 8/],
    [{ num_experts: 2, num_experts_per_tok: 3 }, /num_experts_per_tok 3 exceeds num_experts 2/],
    [{ sliding_window: 16 }, /sliding_window: 16 is not supported/],
    [{ mamba_inner_layernorms: false }, /mamba_inner_layernorms: false is not supported/],
    [{ layers_block_type: ['attention'] }, /layers_block_type contradicts the periods and offsets/],
  ],
  nemotron_h: [
    [{ layers_block_type: undefined, hybrid_override_pattern: 'MX' }, /hybrid_override_pattern: "X" is not supported/],
    [{ sliding_window: 8 }, /sliding_window: 8 is not supported/],
    [{ n_routed_experts: 4096 }, /n_routed_experts: expected at most 2048, received 4096/],
    [{ n_routed_experts: 130, n_group: 65 }, /n_group: expected at most 64, received 65/],
    [{ n_routed_experts: 8, n_group: 4, topk_group: 1, num_experts_per_tok: 3 }, /num_experts_per_tok 3 exceeds/],
  ],
  zamba2: [[{ hybrid_layer_ids: [0] }, /hybrid_layer_ids.*contradicts the other keys/]],
  lfm2: [[{ layer_types: ['mamba', 'conv', 'conv'] }, /layer_types: "linear_attention" is not supported/]],
  falcon_h1: [[{ ssm_multipliers: [1, 2] }, /ssm_multipliers: expected 5 numbers/]],
  gemma2: [[{ use_bidirectional_attention: true }, /use_bidirectional_attention: true is not supported/]],
  minimax_text_01: [
    [{ postnorm: false }, /postnorm: false is not supported/],
    [{ postnorm: undefined }, /postnorm is missing/],
    [{ layernorm_mlp_alpha: 2, mlp_alpha_factor: 3 }, /mlp_alpha_factor 3 contradicts layernorm_mlp_alpha 2/],
  ],
  minimax: [[{ sliding_window: 8 }, /sliding_window: 8 is not supported/]],
  recurrent_gemma: [[{ block_types: ['mamba'] }, /block_types: "mamba" is not supported/]],
  qwen4_exp: [
    [
      { text_config: { model_type: 'qwen4_exp_text', ...INDEX, head_dim: 256 } },
      /indexer_head_dim 128 is less than the 256/,
    ],
    [
      { text_config: { model_type: 'qwen4_exp_text', ...INDEX, indexer_budget: 20 } },
      /a multiple of indexer_compress_ratio 16/,
    ],
  ],
  glm5_next_text: [
    [{ hc_mult: 65 }, /hc_mult: expected at most 64, received 65/],
    [{ hc_sinkhorn_iters: 10_001 }, /hc_sinkhorn_iters: expected at most 10000, received 10001/],
  ],
  zaya: [[{ num_experts_per_tok: 2 }, /num_experts_per_tok: 2 is not supported/]],
  gla: [[{ attn: { layers: [1] } }, /attn: .* is not supported/]],
  lfm2_moe: [[{ num_experts: 2049 }, /num_experts: expected at most 2048, received 2049/]],
  kimi_linear: [[{ rope_scaling: { type: 'yarn' } }, /rope_scaling: .* is not supported/]],
  rwkv7: [[{ head_size: 7 }, /no multiple of head_size 7/]],
  retnet_torchscale: [
    [{ moe_freq: 2 }, /moe_freq: 2 is not supported/],
    [{ deepnorm: true, subln: true }, /deepnorm: true contradicts subln: true/],
    [{ decoder_retention_heads: 5 }, /decoder_embed_dim 32 is no multiple/],
  ],
  s4d_example: [
    [{ d_state: 5 }, /d_state 5 is odd/],
    [{ transposed: false }, /transposed: false is not supported/],
  ],
  hyena: [
    [{ order: 1 }, /order: expected at least 2, received 1/],
    [{ hidden_size: 9 }, /hidden_size 9 contradicts d_model 8/],
    [{ attn_layer_idx: [0] }, /attn_layer_idx: attention layers are not supported/],
    [{ max_position_embeddings: 64 }, /max_position_embeddings: 64 is not supported/],
    [{ layer: { l_max: 8, order: 2, surprise: 1 } }, /layer.*unknown key surprise/],
    [{ layer: { d_model: 9 } }, /layer\.d_model contradicts d_model 8/],
  ],
  hyena_operator: [
    [{ emb_dim: 4 }, /emb_dim: expected an odd number/],
    [{ num_heads: 2 }, /num_heads: 2 is not supported/],
    [{ inner_factor: 2 }, /inner_factor: 2/],
    [{ outer_mixing: true }, /outer_mixing: true/],
    [{ post_order_ffn: true }, /post_order_ffn: true/],
    [{ activation: 'gelu' }, /activation: "gelu"/],
    [{ normalized: true }, /normalized: true/],
    [{ target: 0 }, /target: expected a positive finite number/],
    [{ fast_decay_pct: 0 }, /fast_decay_pct: expected a positive finite number/],
    [{ slow_decay_pct: -1 }, /slow_decay_pct: expected a positive finite number/],
    [{ num_inner_mlps: -1 }, /num_inner_mlps: expected an integer from 0 on/],
  ],
};

test('a Jamba of one expert keeps the default of two a token, which routes nothing', () => {
  const jamba = configs.get('jamba')!;
  expect(refusal({ ...jamba, layers_num_experts: undefined, num_experts: 1, num_experts_per_tok: 2 })).toBeUndefined();
});

describe.each(
  supportedModels()
    .filter((type) => !wrapping.has(type))
    .map((type) => [type, configs.get(type)!] as const),
)('%s', (type, config) => {
  test('its config is understood', () => {
    expect(refusal(config)).toBeUndefined();
  });

  test('a key that is null says nothing, whatever it is called', () => {
    expect(refusal({ ...config, surprise_factor: null })).toBeUndefined();
  });

  test('names keys that it does not know', async () => {
    expect(refusal({ ...config, surprise_factor: 2, other_surprise: 'x' })).toMatch(
      new RegExp(`config \\(${type}\\): unknown keys surprise_factor, other_surprise`),
    );
    expect(refusal({ ...config, quantization_config: { bits: 4 } })).toMatch(
      /quantization_config: weights quantised this way are not read/,
    );
    await expect(createModel({ ...config, surprise_factor: 2 })).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED_MODEL',
    });
  });

  test('names a key of the wrong kind or sign', () => {
    let named = 0;
    for (const [key, value] of Object.entries(config)) {
      if (typeof value !== 'number' && typeof value !== 'boolean') continue;
      const message = refusal({ ...config, [key]: 'a string' });
      if (message === undefined) continue; // one that says nothing about the computation
      expect(message).toContain(key);
      named++;
      if (typeof value === 'number' && Number.isInteger(value) && value >= 0)
        expect(refusal({ ...config, [key]: -3 })).toBeDefined();
    }
    expect(named).toBeGreaterThan(2);
  });

  test('a missing key has a default, or is named', () => {
    for (const key of Object.keys(config)) {
      if (key === 'model_type') continue;
      const { [key]: _, ...rest } = config;
      const message = refusal(rest);
      if (required[type]?.includes(key)) expect(message).toContain(`${key} is missing`);
      // A default may not fit the sizes that are there: then the message says what it is at odds with.
      else if (message !== undefined) expect(message).toMatch(new RegExp(`${key}|multiple|contradicts|exceeds|must`));
    }
  });

  test('any key of any size or kind is understood or refused, and never much work', () => {
    for (const [key, inside] of keysOf(config)) {
      for (const value of absurd) {
        const at = processorMs();
        try {
          describeModel(inside(value));
        } catch (error) {
          expect(error, `${key}: ${value}`).toBeInstanceOf(StatespaceError);
        }
        expect(processorMs() - at, `${key}: ${value}`).toBeLessThan(10_000);
      }
    }
  });

  test.each(wrong[type] ?? [])('refuses %j', (change, message) => {
    expect(refusal({ ...config, ...change })).toMatch(message);
  });
});

describe('sizes are bounded before they are work', () => {
  test.each([
    ['layers', { model_type: 'llama', num_hidden_layers: 1_000_000_000 }, /num_hidden_layers: expected at most 2000/],
    ['a pattern', { model_type: 'nemotron_h', hybrid_override_pattern: 'M'.repeat(1e6) }, /at most 2000 layers/],
    ['experts', { model_type: 'jamba', num_experts: 1_000_000_000 }, /num_experts: expected at most 10000/],
    ['channels', { model_type: 'llama', head_dim: 2_147_483_646 }, /head_dim: expected at most 16777216/],
    [
      'heads',
      { model_type: 'qwen3_next', num_attention_heads: 2 ** 24 },
      /num_attention_heads: expected at most 65536/,
    ],
    [
      'heads of all layers',
      { model_type: 'qwen3_next', num_hidden_layers: 1900, num_attention_heads: 65_536, num_key_value_heads: 2 },
      /more than 300000 parts/,
    ],
    ['channels to rotate', { model_type: 'llama', head_dim: 2 ** 24 }, /at most 65536 channels to rotate/],
    [
      'their product',
      { model_type: 'mixtral', num_hidden_layers: 1900, num_local_experts: 9000 },
      /more than 300000 tensors/,
    ],
    ['states', { model_type: 'mamba', state_size: 2_000_000_000 }, /state_size: expected at most/],
  ])('%s', (_, config, message) => {
    const at = processorMs();
    expect(refusal(config)).toMatch(message);
    expect(processorMs() - at).toBeLessThan(20_000);
  });

  test('a config that asks for more than the file holds', async () => {
    const tensors = { a: { data: [1], shape: [1] } };
    const folder = folders.put({
      'config.json': JSON.stringify({ model_type: 'mixtral', num_hidden_layers: 1900, num_local_experts: 9000 }),
      'model.safetensors': safetensorsOf(tensors),
    });
    const message = `${join(folder, 'config.json')}: config: asks for more than 1001 tensors`;
    await expect(loadModel(folder)).rejects.toThrow(message);
    await expect(loadModel(folder)).rejects.toThrow(/the checkpoint holds 1$/);
  });
});

test('a key that nobody knows: an error where it could change results, else a warning once', () => {
  const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
  const config = { model_type: 'mamba', hidden_size: 8, num_hidden_layers: 1, vocab_size: 8 };
  for (const idle of [{ use_surprise: false }, { surprises: [] }, { surprise_dropout: 0.1 }, { surprise_config: {} }]) {
    describeModel({ ...config, ...idle });
    describeModel({ ...config, ...idle });
  }
  expect(warn.mock.calls.map(([text]) => String(text))).toEqual([
    expect.stringContaining('unknown key use_surprise;'),
    expect.stringContaining('unknown key surprises;'),
    expect.stringContaining('unknown key surprise_dropout;'),
    expect.stringContaining('unknown key surprise_config;'),
  ]);
  warn.mockRestore();
  expect(refusal({ ...config, use_surprise: true })).toMatch(/unknown key use_surprise/);
});

test('whatever is said of a config names its file, at loading, at describing and at quantising', async () => {
  const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
  const config = { model_type: 'kimi_linear', of_no_use: false, linear_attn_config: { head_dim: 'a' } };
  const configs = [config, { ...config, linear_attn_config: 5 }, { model_type: 'no' }, {}, { rope_theta: 1 }];
  for (const wrong of [...configs, { model_type: 'qwen3_5', text_config: 1 }, { a: { __float__: 'b' } }]) {
    const tensors = safetensorsOf({ a: { data: [1], shape: [1] } });
    const folder = folders.put({ 'config.json': JSON.stringify(wrong), 'model.safetensors': tensors });
    const begins = { message: expect.stringMatching(new RegExp(`^${join(folder, 'config.json')}: `)) };
    await expect(loadModel(folder)).rejects.toMatchObject(begins);
    await expect(describeModel(folder)).rejects.toMatchObject(begins);
    await expect(quantize(folder, join(folder, 'model.gguf'), { type: 'f16' })).rejects.toMatchObject(begins);
  }
  const llama = { model_type: 'llama', hidden_size: 8, num_attention_heads: 1, num_hidden_layers: 1, vocab_size: 8 };
  const idle = JSON.stringify({ ...llama, intermediate_size: 8, of_no_use: false });
  const folder = folders.put({ 'config.json': idle, 'model.safetensors': safetensorsOf({}) });
  await expect(loadModel(folder)).rejects.toThrow('model.embed_tokens.weight');
  expect(warn.mock.calls.map(([text]) => String(text))).toContainEqual(
    `${join(folder, 'config.json')}: config (llama): unknown key of_no_use; ignored, as it turns nothing on`,
  );
  warn.mockRestore();
});

test("every default of transformers' base classes of versions 4 and 5 says nothing about the network", () => {
  const base = JSON.parse(readFileSync(join(goldenRoot, '../models/transformers/base-config.json'), 'utf8')) as Record<
    string,
    unknown
  >;
  const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
  describeModel({ ...base, model_type: 'mamba', hidden_size: 8, num_hidden_layers: 1, vocab_size: 8 });
  expect(warn).not.toHaveBeenCalled();
  warn.mockRestore();
});

interface Written {
  generation: Config;
  configs: Record<string, Config>;
}
const written: Written = JSON.parse(readFileSync(join(__dirname, '../configs/transformers.json'), 'utf8'));
/** Keys without a default that works: transformers makes no model of these either. */
const needed: Record<string, Config> = {
  qwen4_exp_text: {
    ...{ indexer_n_heads: 4, indexer_kv_heads: 1, indexer_head_dim: 256, indexer_budget: 2048 },
    indexer_compress_ratio: 16,
  },
};
/** Graphs of thousands of experts take half a second. */
const quick = Object.entries(written.configs).filter(([type]) => long || !/glm5_next|moe$|inkling_mm/.test(type));

test.each(quick)("every default of transformers 5.18's class for %s is understood", (type, config) => {
  const text = config.text_config as Config | undefined;
  const inner = text && { text_config: { ...text, ...needed[`${type}_text`] } };
  const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
  // What older releases wrote beside: generation defaults in config.json; keys of the family count.
  expect(refusal({ ...written.generation, ...config, ...needed[type], ...inner })).toBeUndefined();
  expect(warn).not.toHaveBeenCalled();
  warn.mockRestore();
});
