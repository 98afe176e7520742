import { StatespaceError, show } from '../errors.js';

/** Keys that say nothing about the computation: provenance, training, tokenizer and generation defaults. */
const HARMLESS = new Set(
  `architectures transformers_version torch_dtype dtype model_type auto_map name_or_path bos_token_id eos_token_id
  pad_token_id sep_token_id decoder_start_token_id use_cache initializer_range initializer_factor output_attentions
  output_hidden_states return_dict torchscript pruned_heads is_decoder is_encoder_decoder add_cross_attention
  cross_attention_hidden_size tie_encoder_decoder id2label label2id num_labels problem_type task_specific_params
  finetuning_task prefix chunk_size_feed_forward max_length min_length do_sample temperature top_k top_p num_beams
  repetition_penalty max_position_embeddings attention_dropout hidden_dropout residual_dropout dropout
  hidden_dropout_prob attention_probs_dropout_prob pretraining_tp residual_in_fp32 rescale_prenorm_residual
  rescale_layer fused_add_norm time_step_min time_step_max time_step_floor time_step_init_scheme time_step_scale
  use_mamba_kernels use_mambapy use_associative_scan mamba_chunk_size chunk_size output_router_logits
  router_aux_loss_coef router_jitter_noise max_window_layers num_logits_to_keep layer_norm_eps_training
  max_sequence_length n_ctx calc_logits_for_entire_prompt quantization_config_comment is_llama_config tokenizer_class use_fast_kernels attn_implementation
  experts_implementation`
    .split(/\s+/)
    .filter(Boolean),
);

type Kind = 'integer' | 'number' | 'boolean' | 'string';

/**
 * Reads a config key by key and remembers which were asked for, so that at the end a key that nobody understood is
 * named and not ignored.
 */
export class ConfigReader {
  private readonly seen = new Set<string>();

  constructor(
    /** The config itself. */
    readonly raw: Readonly<Record<string, unknown>>,
    /** What errors call it. */
    readonly modelType: string,
  ) {}

  /** What to throw about a key: ERR_UNSUPPORTED_MODEL with the model's name. */
  error(message: string): StatespaceError {
    return new StatespaceError('ERR_UNSUPPORTED_MODEL', `config (${this.modelType}): ${message}`);
  }

  /** Whether the key is there and not null. */
  has(key: string): boolean {
    this.seen.add(key);
    return this.raw[key] !== undefined && this.raw[key] !== null;
  }

  /** A value as it stands. */
  any(key: string): unknown {
    this.seen.add(key);
    return this.raw[key] ?? undefined;
  }

  private read(key: string, kind: Kind, fallback: unknown): unknown {
    this.seen.add(key);
    const value = this.raw[key];
    if (value === undefined || value === null) {
      if (fallback === undefined)
        throw this.error(`${key} is missing; expected ${kind === 'integer' ? 'an integer' : `a ${kind}`}`);
      return fallback;
    }
    const fits = kind === 'integer' ? Number.isSafeInteger(value) : typeof value === kind && !Number.isNaN(value);
    if (!fits)
      throw this.error(`${key}: expected ${kind === 'integer' ? 'an integer' : `a ${kind}`}, received ${show(value)}`);
    return value;
  }

  /** A positive integer. */
  size(key: string, fallback?: number): number {
    const n = this.read(key, 'integer', fallback) as number;
    if (n <= 0 || n > 2 ** 31 - 1) throw this.error(`${key}: expected a positive integer, received ${n}`);
    return n;
  }
  /** An integer from 0 on. */
  count(key: string, fallback?: number): number {
    const n = this.read(key, 'integer', fallback) as number;
    if (n < 0 || n > 2 ** 31 - 1) throw this.error(`${key}: expected an integer from 0 on, received ${n}`);
    return n;
  }
  /** `times` as often as this positive number says, rounded down: at least 1. */
  multiple(key: string, times: number, fallback?: number): number {
    const n = Math.floor((this.read(key, 'number', fallback) as number) * times);
    if (!(n >= 1 && n <= 2 ** 31 - 1))
      throw this.error(`${key}: expected a positive number, received ${this.raw[key]}`);
    return n;
  }
  /** Any whole number. */
  integer(key: string, fallback?: number): number {
    return this.read(key, 'integer', fallback) as number;
  }
  /** Any number. */
  number(key: string, fallback?: number): number {
    return this.read(key, 'number', fallback) as number;
  }
  /** true or false. */
  boolean(key: string, fallback?: boolean): boolean {
    return this.read(key, 'boolean', fallback) as boolean;
  }
  /** A text. */
  string(key: string, fallback?: string): string {
    return this.read(key, 'string', fallback) as string;
  }
  /** One of these texts; another one is not supported. */
  oneOf<T extends string>(key: string, allowed: readonly T[], fallback?: T): T {
    const value = this.string(key, fallback) as T;
    if (!allowed.includes(value))
      throw this.error(`${key}: ${show(value)} is not supported; supported: ${allowed.join(', ')}`);
    return value;
  }

  /** Of several names for one thing, the one that is given; the first where none is. They must not contradict. */
  either(...names: string[]): string {
    const given = names.filter((name) => this.has(name));
    const [first = names[0]!, ...others] = given;
    const other = others.find((name) => JSON.stringify(this.raw[name]) !== JSON.stringify(this.raw[first]));
    if (other) throw this.error(`${other} ${show(this.raw[other])} contradicts ${first} ${show(this.raw[first])}`);
    return first;
  }

  /** A nested object, read with the same care; its errors name `key.inner`. */
  nested(key: string): ConfigReader | undefined {
    const value = this.any(key);
    if (value === undefined) return undefined;
    if (typeof value !== 'object' || Array.isArray(value))
      throw this.error(`${key}: expected an object, received ${show(value)}`);
    return new ConfigReader(value as Record<string, unknown>, `${this.modelType}: ${key}`);
  }

  /** A key whose only supported value is this one: anything else would change results. */
  only(key: string, supported: unknown): void {
    const value = this.any(key);
    if (value !== undefined && value !== supported) {
      throw this.error(`${key}: ${show(value)} is not supported; expected ${show(supported)}`);
    }
  }

  /** Keys that are understood and do not matter for this family. */
  ignore(...keys: string[]): void {
    for (const key of keys) this.seen.add(key);
  }

  /** Call last: names the keys that nothing has read; one that is null says nothing. */
  done(): void {
    const unknown = Object.keys(this.raw).filter(
      (k) => !this.seen.has(k) && !HARMLESS.has(k) && !k.startsWith('_') && this.raw[k] !== null,
    );
    if (unknown.length > 0) throw this.error(`unknown ${unknown.length > 1 ? 'keys' : 'key'} ${unknown.join(', ')}`);
  }
}
