// Of rotations, where transformers warns of an int.
const ROPE_KEYS = [
  ...['attention_factor', 'beta_fast', 'beta_slow', 'factor', 'high_freq_factor', 'long_factor', 'low_freq_factor'],
  ...['partial_rotary_factor', 'rope_theta', 'short_factor'],
];

/**
 * Keys at which the config classes of transformers 5.18 take a float and refuse an int: 1.0 is not 1 there. In JavaScript it
 * is, so that what was read as 1.0 would be written as 1. A list under such a key is one of floats.
 */
export const FLOAT_KEYS: ReadonlySet<string> = new Set([
  ...['attention_dropout', 'attention_in_multiplier', 'attention_out_multiplier'],
  ...['attn_logit_softcapping', 'embedding_multiplier', 'final_logit_softcapping', 'hc_eps', 'initializer_range'],
  ...['key_multiplier', 'layer_norm_epsilon', 'linear_a_log_max', 'linear_a_log_min', 'linear_dt_init_floor'],
  ...['linear_dt_max', 'linear_dt_min', 'linear_lower_bound', 'lm_head_multiplier', 'log_scaling_alpha'],
  ...['logits_mup_width_multiplier', 'logits_soft_cap', 'mixer_rms_eps', 'mlp_multipliers', 'norm_eps', 'rms_norm_eps'],
  ...['rms_norm_eps_moe_gate', 'route_scale', 'routed_scaling_factor', 'router_aux_loss_coef', 'router_jitter_noise'],
  ...['ssm_in_multiplier', 'ssm_multipliers', 'ssm_out_multiplier', 'swiglu_limit', 'time_step_floor'],
  ...['time_step_limit', 'time_step_max', 'time_step_min', 'time_step_scale', 'w_init_variance_scale'],
  ...['z_loss_coefficient', ...ROPE_KEYS],
]);

/** JSON as transformers writes and reads it: floats stay floats, and what is no number is an object that names it. */
export const configJson = (config: object): string => `${written(config, false, '')}\n`;

function written(value: unknown, isFloat: boolean, indent: string): string {
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) return written({ __float__: String(value) }, false, indent);
    const digits = JSON.stringify(value);
    return isFloat && /^-?\d+$/.test(digits) ? `${digits}.0` : digits;
  }
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  const inner = `${indent}  `;
  const [open, close, parts] = Array.isArray(value)
    ? (['[', ']', value.map((v) => written(v ?? null, isFloat, inner))] as const)
    : (['{', '}', members(value, inner)] as const);
  return parts.length === 0 ? open + close : `${open}\n${inner}${parts.join(`,\n${inner}`)}\n${indent}${close}`;
}

const members = (value: object, indent: string): string[] =>
  Object.entries(value)
    .filter(([, v]) => v !== undefined)
    .map(([key, v]) => `${JSON.stringify(key)}: ${written(v, FLOAT_KEYS.has(key), indent)}`);
