/**
 * Keys whose numbers transformers' configuration classes take as Python's floats alone, and refuse without a fraction (5.18: its
 * dataclasses are strict), and those of rotations, where it warns.
 */
const FLOATS = new Set(
  (
    'attention_dropout attention_in_multiplier attention_out_multiplier attn_logit_softcapping embedding_multiplier ' +
    'final_logit_softcapping hc_eps initializer_range key_multiplier layer_norm_epsilon linear_a_log_max linear_a_log_min ' +
    'linear_dt_init_floor linear_dt_max linear_dt_min linear_lower_bound lm_head_multiplier log_scaling_alpha ' +
    'logits_mup_width_multiplier logits_soft_cap mixer_rms_eps mlp_multipliers norm_eps rms_norm_eps rms_norm_eps_moe_gate ' +
    'route_scale routed_scaling_factor router_aux_loss_coef router_jitter_noise ssm_in_multiplier ssm_multipliers ' +
    'ssm_out_multiplier swiglu_limit time_step_floor time_step_limit time_step_max time_step_min time_step_scale ' +
    'w_init_variance_scale z_loss_coefficient ' +
    'attention_factor beta_fast beta_slow factor high_freq_factor long_factor low_freq_factor partial_rotary_factor rope_theta short_factor'
  ).split(' '),
);

/** JSON of a config as transformers writes it: what is no number is an object that names it, and a float has its fraction. */
export const configJson = (config: object): string => `${written(config, false, '\n')}\n`;

function written(value: unknown, float: boolean, line: string): string {
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) return written({ __float__: String(value) }, false, line);
    const text = String(value);
    return float && /^-?\d+$/.test(text) ? `${text}.0` : text;
  }
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  const inner = `${line}  `;
  const items = Array.isArray(value)
    ? value.map((v: unknown) => written(v ?? null, float, inner))
    : Object.entries(value).flatMap(([key, v]) =>
        v === undefined ? [] : [`${JSON.stringify(key)}: ${written(v, FLOATS.has(key), inner)}`],
      );
  const [open, close] = Array.isArray(value) ? '[]' : '{}';
  return items.length === 0 ? `${open}${close}` : `${open}${inner}${items.join(`,${inner}`)}${line}${close}`;
}
