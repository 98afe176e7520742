import { mismatch } from '../errors.js';
import type { Tensor, TensorLike } from '../tensor.js';
import { check, flag, integer, number, type Rules, tensor } from './check.js';
import type { Out } from './outs.js';
import { asF32, type CallOptions, output, type Plan, run, runSync, tokens } from './run.js';
import { equal, requireMultiple, sequences, vector } from './sequences.js';

/** Arguments of {@link attention}. */
export interface AttentionArgs extends Out<AttentionResult> {
  /** (B, Lq, H, P); f16 and bf16 are read as they are. */
  q: TensorLike;
  /**
   * (B, Lk, Hkv, P); H must be a multiple of Hkv (grouped queries). More than 4 queries (times H/Hkv) of bf16 keys and
   * values are rounded to bf16 where the processor multiplies pairs of it (AVX-512-BF16) and Lk is 256 or more, and so are
   * their weights; sums are f32.
   */
  k: TensorLike;
  /** As k. */
  v: TensorLike;
  /** Default true: query i sees keys up to i + Lk − Lq (the queries stand at the end). */
  causal?: boolean;
  /** Of the scores; default 1/√P. */
  scale?: number;
  /** Sliding window: of those, the keys in (i − window, i], with i counted in keys. 0 or absent: all. */
  window?: number;
  /** Scores become softcap·tanh(score/softcap). 0 or absent: none. */
  softcap?: number;
  /** Packed sequences of queries and keys: B = 1, Lk = Lq, their starts and the total, (S+1). */
  cuSeqlens?: Int32Array;
}

/** What {@link attention} gives. */
export interface AttentionResult {
  /** (B, Lq, H, P). A query that sees no key gives zeros. */
  y: Tensor;
}

const rules = {
  q: tensor('B L H P'),
  k: tensor('B Lk Hkv P'),
  v: tensor('B Lk Hkv P'),
  causal: flag(true),
  scale: number('a finite number', () => true),
  window: integer(0, 0),
  softcap: number('a number of at least 0', (n) => n >= 0, 0),
  cuSeqlens: sequences,
} satisfies Rules<AttentionArgs>;

export function plan(args: AttentionArgs): Plan<AttentionResult> {
  const { sizes, ...a } = check('attention', args, rules);
  const [batch, Lq, Lk, H, Hkv, P] = sizes.all('B', 'L', 'Lk', 'H', 'Hkv', 'P');
  requireMultiple('attention', 'H', H, 'Hkv', Hkv);
  if (args.cuSeqlens && Lk !== Lq)
    throw mismatch('ERR_SHAPE', 'attention: k', `Lk=Lq=${Lq} with cuSeqlens`, `Lk=${Lk}`);
  const bounds = Lk === Lq ? undefined : vector(equal('attention', batch, Lk));
  const same = a.k.dtype === a.v.dtype;
  const y = output(sizes, 'y', [batch, Lq, H, P]);
  return {
    op: 'attention',
    sizes,
    tensors: {
      q: tokens(a.q),
      k: tokens(same ? a.k : asF32(a.k)),
      v: tokens(same ? a.v : asF32(a.v)),
      cuSeqlens: a.cuSeqlens,
      cuSeqlensK: bounds,
      y: tokens(y),
    },
    attrs: { causal: a.causal, scale: a.scale ?? 1 / Math.sqrt(P), window: a.window, softcap: a.softcap },
    result: { y },
  };
}

/**
 * Softmax attention, tiled with an online softmax (Dao et al. 2022): the (Lq, Lk) matrix never exists, working memory
 * does not grow with it. Query head h reads key head h / (H/Hkv).
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function attention(args: AttentionArgs, options?: CallOptions): Promise<AttentionResult> {
  return run(() => plan(args), options);
}

/** {@link attention} on the calling thread. */
export function attentionSync(args: AttentionArgs): AttentionResult {
  return runSync(plan(args));
}
