import { withBuffer } from '../memory.js';
import type { TensorLike } from '../tensor.js';
import { check, type Input, type Rules, tensor } from './check.js';
import { type HeadRecurrenceArgs, type HeadRecurrenceResult, headPlan, headRecurrence } from './head-recurrence.js';
import type { Out } from './outs.js';
import { asF32, type CallOptions, type Plan, run, runSync } from './run.js';

/** Arguments of {@link lightningAttention}. */
export interface LightningAttentionArgs extends HeadRecurrenceArgs, Out<LightningAttentionResult> {
  /** (B, L, H, K); not scaled. */
  q: TensorLike;
  /** (B, L, H, K). */
  k: TensorLike;
  /** (B, L, H, V). */
  v: TensorLike;
  /** Decay rates, (H): S shrinks by e^(−slope) a token. */
  slope: TensorLike;
}

/** What {@link lightningAttention} gives. */
export interface LightningAttentionResult extends HeadRecurrenceResult {}

const rules = {
  q: tensor('B L H K'),
  k: tensor('B L H K'),
  v: tensor('B L H V'),
  slope: tensor('H'),
  ...headRecurrence,
} satisfies Rules<LightningAttentionArgs>;

export function plan(args: LightningAttentionArgs): Plan<LightningAttentionResult> {
  const name = 'lightningAttention';
  const { sizes, mode, slope, ...a } = check(name, args, rules);
  const rates = asF32(slope);
  const logDecay: Input = { ...rates, data: withBuffer(Float32Array.from(rates.data as Float32Array, (s) => -s)) };
  const attrs = { mode: mode === 'chunked' ? 'chunkwise' : mode, scale: 1 };
  return headPlan({ sizes, op: 'retention', K: sizes.of('K') }, a, { q: a.q, k: a.k, v: a.v }, attrs, { logDecay });
}

/**
 * Lightning attention (MiniMax-01, 2025), linear attention with a fixed decay, per head: S ← e^(−slope)·S + k·vᵀ;
 * y = Sᵀq. In graphs it is `retention` with a scale of 1.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function lightningAttention(
  args: LightningAttentionArgs,
  options?: CallOptions,
): Promise<LightningAttentionResult> {
  return run(() => plan(args), options);
}

/** {@link lightningAttention} on the calling thread. */
export function lightningAttentionSync(args: LightningAttentionArgs): LightningAttentionResult {
  return runSync(plan(args));
}
