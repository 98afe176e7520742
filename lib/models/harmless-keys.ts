// Keys of config.json that say nothing about the network, and what to do about a key that nobody knows.

const words = (text: string): string[] => text.split(/\s+/).filter(Boolean);

/** The configuration base class of transformers 4.40 to 5.18, and what tools write beside it. */
const PROVENANCE = words(`
  architectures auto_map model_type name_or_path transformers_version torch_dtype dtype tokenizer_class
  return_dict output_attentions output_hidden_states torchscript pruned_heads use_bfloat16 tf_legacy_loss
  is_decoder is_encoder_decoder add_cross_attention cross_attention_hidden_size tie_encoder_decoder
  chunk_size_feed_forward problem_type id2label label2id num_labels finetuning_task task_specific_params prefix
  bos_token_id eos_token_id pad_token_id sep_token_id cls_token_id mask_token_id unk_token_id decoder_start_token_id
  attn_implementation experts_implementation use_cache unsloth_version unsloth_fixed quantization_config_comment
  is_llama_config add_bos_token add_eos_token`);

/** Generation defaults, which older releases wrote into config.json (4.40) and newer ones keep apart (5.18). */
const GENERATION = words(`
  assistant_confidence_threshold assistant_early_exit assistant_ensemble_weight assistant_lookbehind bad_words_ids
  begin_suppress_tokens cache_config cache_implementation compile_config constraints continuous_batching_config
  disable_compile diversity_penalty do_sample dola_layers early_stopping encoder_no_repeat_ngram_size
  encoder_repetition_penalty epsilon_cutoff eta_cutoff exponential_decay_length_penalty force_words_ids
  forced_bos_token_id forced_eos_token_id forced_decoder_ids generation_kwargs guidance_scale is_assistant
  length_penalty low_memory max_cache_len max_length max_matching_ngram_size max_new_tokens max_time min_length min_new_tokens
  min_p no_repeat_ngram_size num_assistant_tokens num_assistant_tokens_schedule num_beam_groups num_beams
  num_return_sequences output_logits output_scores penalty_alpha prefill_chunk_size prompt_lookup_num_tokens
  remove_invalid_values renormalize_logits repetition_penalty return_dict_in_generate return_legacy_cache
  sequence_bias speculation_type stop_strings suppress_tokens target_lookbehind temperature token_healing top_h top_k
  top_p typical_p use_mtp watermarking_config num_logits_to_keep calc_logits_for_entire_prompt`);

/** Training and initialisation, choices between kernels of one result, lengths that bound nothing here. */
const TRAINING = words(`
  initializer_range initializer_factor init_method rescale_prenorm_residual residual_in_fp32 fused_add_norm
  attention_dropout hidden_dropout residual_dropout dropout hidden_dropout_prob attention_probs_dropout_prob embd_pdrop
  resid_pdrop attn_pdrop classifier_dropout pretraining_tp rescale_layer time_step_min time_step_max time_step_floor
  time_step_init_scheme time_step_scale use_mamba_kernels use_mambapy use_associative_scan use_fast_kernels
  mamba_chunk_size chunk_size output_router_logits router_aux_loss_coef router_jitter_noise router_z_loss_coef
  gradient_checkpointing use_flash_attention use_flash_attn use_flash_attention_2 flash_attn model_max_length
  max_window_layers max_position_embeddings max_sequence_length
  n_ctx n_positions layer_norm_eps_training`);

const HARMLESS = new Set([...PROVENANCE, ...GENERATION, ...TRAINING]);
/** Names that only training reads, whoever writes them. */
const OF_TRAINING =
  /(^|_)(dropout|pdrop|drop_rate|loss|loss_coef|aux_loss|init|initializer|init_std|jitter|lr|seed)(_|$)/;

/** Whether a key is known to say nothing about the network; private ones (`_name_or_path`) and a runtime's own never do. */
export function isHarmless(key: string): boolean {
  return HARMLESS.has(key) || key.startsWith('_') || key.startsWith('transformers.js');
}

/**
 * Whether an unknown key cannot change results by any reading: it turns something off (false, or nothing at all), or
 * its name is one of training's.
 */
export function isIdle(key: string, value: unknown): boolean {
  if (OF_TRAINING.test(key)) return true;
  if (value === null || value === false || value === '') return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}

const warned = new Set<string>();

/** Names an unknown key of a family once a process. */
export function warnOfKeys(where: string, modelType: string, keys: readonly string[]): void {
  const news = keys.filter((key) => !warned.has(`${modelType} ${key}`));
  for (const key of news) warned.add(`${modelType} ${key}`);
  if (news.length === 0) return;
  const what = `unknown ${news.length > 1 ? 'keys' : 'key'} ${news.join(', ')}`;
  process.emitWarning(`${where} (${modelType}): ${what}; ignored, as it turns nothing on`, {
    code: 'STATESPACE_CONFIG',
  });
}
