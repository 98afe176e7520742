import { mismatch } from '../errors.js';
import type { Tensor, TensorLike } from '../tensor.js';
import { type Checked, check, flag, integer, number, optional, type Rules, type Sizes, tensor } from './check.js';
import { type Gradients, gradientCall, gradientCallSync, gradientPlan, orZeros } from './gradient.js';
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
  causal?: boolean | undefined;
  /** Of the scores; default 1/√P. */
  scale?: number | undefined;
  /** Sliding window: of those, the keys in (i − window, i], with i counted in keys. 0 or absent: all. */
  window?: number | undefined;
  /** Scores become softcap·tanh(score/softcap). 0 or absent: none. */
  softcap?: number | undefined;
  /** Packed sequences of queries and keys: B = 1, Lk = Lq, their starts and the total, (S+1). */
  cuSeqlens?: Int32Array | undefined;
  /** Whether the result has lse, which {@link attentionBackward} takes. Default false. */
  withLse?: boolean | undefined;
}

/** What {@link attention} gives. */
export interface AttentionResult {
  /** (B, Lq, H, P). A query that sees no key gives zeros. */
  y: Tensor;
  /** (B, Lq, H), if asked for: the logarithm of the sum of a row's e^score; 0 where it sees no key. */
  lse?: Tensor | undefined;
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
  withLse: flag(false),
} satisfies Rules<AttentionArgs>;

function inputs(a: Omit<Checked<typeof rules>, 'withLse'> & { sizes: Sizes }, packed: boolean) {
  const { op } = a.sizes;
  const [batch, Lq, Lk, H, Hkv, P] = a.sizes.all('B', 'L', 'Lk', 'H', 'Hkv', 'P');
  requireMultiple(op, 'H', H, 'Hkv', Hkv);
  if (packed && Lk !== Lq) throw mismatch('ERR_SHAPE', `${op}: k`, `Lk=Lq=${Lq} with cuSeqlens`, `Lk=${Lk}`);
  const same = a.k.dtype === a.v.dtype;
  return {
    tensors: {
      q: tokens(a.q),
      k: tokens(same ? a.k : asF32(a.k)),
      v: tokens(same ? a.v : asF32(a.v)),
      cuSeqlens: a.cuSeqlens,
      cuSeqlensK: Lk === Lq ? undefined : vector(equal(op, batch, Lk)),
    },
    attrs: { causal: a.causal, scale: a.scale ?? 1 / Math.sqrt(P), window: a.window, softcap: a.softcap },
  };
}

const isPacked = (args: Pick<AttentionArgs, 'cuSeqlens'>) => (args.cuSeqlens ?? undefined) !== undefined;

export function plan(args: AttentionArgs): Plan<AttentionResult> {
  const a = check('attention', args, rules);
  const { tensors, attrs } = inputs(a, isPacked(args));
  const y = output(a.sizes, 'y', a.q.shape);
  const lse = a.withLse ? output(a.sizes, 'lse', a.q.shape.slice(0, -1)) : undefined;
  return {
    op: 'attention',
    sizes: a.sizes,
    tensors: { ...tensors, y: tokens(y), lse: tokens(lse) },
    attrs,
    result: lse ? { y, lse } : { y },
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

/** Arguments of {@link attentionBackward}. */
export interface AttentionBackwardArgs extends Omit<AttentionArgs, 'withLse' | 'out'>, Out<AttentionGradients> {
  /** (B, Lq, H, P): the gradient of y; zero when absent. */
  dy?: TensorLike | undefined;
  /** What {@link attention} gave, both or neither: without them it is run again. */
  y?: TensorLike | undefined;
  /** (B, Lq, H), of attention's withLse. */
  lse?: TensorLike | undefined;
}
/** What {@link attentionBackward} gives: gradients in the shapes of q, k and v, in f32. */
export type AttentionGradients = Gradients<'q' | 'k' | 'v'>;

const { withLse: _, ...forwardRules } = rules;
const backwardRules = {
  ...forwardRules,
  dy: optional('B L H P'),
  y: optional('B L H P'),
  lse: optional('B L H'),
} satisfies Rules<AttentionBackwardArgs>;

export function backwardPlan(args: AttentionBackwardArgs): Plan<AttentionGradients> {
  const { dy, y, lse, ...a } = check('attentionBackward', args, backwardRules);
  const above = { dy: tokens(orZeros(dy, a.q.shape)), y: tokens(y), lse: tokens(lse) };
  return gradientPlan('attentionBackward', a, inputs(a, isPacked(args)), above, ['q', 'k', 'v']);
}

/**
 * The gradients of {@link attention}, tiled as the forward is (Dao et al. 2022): weights are computed again from the
 * scores and lse, and no (Lq, Lk) matrix exists. Gradients of keys and values are sums over their group's query heads.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export const attentionBackward = gradientCall(backwardPlan);

/** {@link attentionBackward} on the calling thread. */
export const attentionBackwardSync = gradientCallSync(backwardPlan);
