import type { Tensor, TensorLike } from '../tensor.js';
import { check, flag, type Input, optional, type Rules, tensor } from './check.js';
import { type Plan, reshape, run, runSync, stateFrom, tokens, zeros } from './run.js';
import { requireMultiple, sequences } from './sequences.js';

export interface SelectiveScanArgs {
  /** Input, (B, L, D). */
  u: TensorLike;
  /** Time step Δ, (B, L, D), before `deltaBias` and softplus. */
  delta: TensorLike;
  /** (D, N); usually negative. */
  A: TensorLike;
  /** (B, L, N), (B, L, G, N) with channel d in group d / (D/G), or constant (D, N). */
  B: TensorLike;
  /** As B. */
  C: TensorLike;
  /** Skip weight, (D). */
  D?: TensorLike;
  /** Gate, (B, L, D): y is multiplied by silu(z), after D. */
  z?: TensorLike;
  /** (D), added to delta before softplus. */
  deltaBias?: TensorLike;
  /** Default false. */
  deltaSoftplus?: boolean;
  /** Packed sequences: B = 1, their starts and the total, (S+1). */
  cuSeqlens?: Int32Array;
  /** (B, D, N), packed (S, D, N); zeros by default. */
  initialState?: TensorLike;
  /** A, B, C and states with a last axis [re, im]; y = 2·Re(C·h). Default false. */
  complex?: boolean;
}

export interface SelectiveScanResult {
  /** (B, L, D). */
  y: Tensor;
  /** (B, D, N), packed (S, D, N). */
  lastState: Tensor;
}

const rules = (pair: '' | ' 2') =>
  ({
    u: tensor('B L D'),
    delta: tensor('B L D'),
    A: tensor(`D N${pair}`),
    B: tensor(`B L N${pair} | B L G N${pair} | D N${pair}`),
    C: tensor(`B L N${pair} | B L G N${pair} | D N${pair}`),
    D: optional('D'),
    z: optional('B L D'),
    deltaBias: optional('D'),
    deltaSoftplus: flag(false),
    cuSeqlens: sequences,
    initialState: optional(`S D N${pair}`),
    complex: flag(false),
  }) satisfies Rules<SelectiveScanArgs>;

function plan(args: SelectiveScanArgs): Plan<SelectiveScanResult> {
  const pair = args?.complex === true ? [2] : [];
  const a = check('selectiveScan', args, rules(pair.length ? ' 2' : ''));
  const [batch, length, D, N, S] = a.sizes.all('B', 'L', 'D', 'N', 'S');
  const T = batch * length;
  const perToken = (name: string, b: Input) => {
    if (b.shape.length === 2 + pair.length) return b;
    const groups = b.shape.length === 4 + pair.length ? b.shape[2]! : 1;
    requireMultiple('selectiveScan', 'D', D, `G of ${name}`, groups);
    return reshape(b, T, groups, N, ...pair);
  };
  const y = zeros('selectiveScan', [batch, length, D]);
  const lastState = stateFrom(a.initialState, 'selectiveScan', [S, D, N, ...pair]);
  return {
    op: 'selectiveScan',
    tensors: {
      u: tokens(a.u),
      delta: tokens(a.delta),
      A: a.A,
      B: perToken('B', a.B),
      C: perToken('C', a.C),
      D: a.D,
      z: tokens(a.z),
      deltaBias: a.deltaBias,
      cuSeqlens: a.cuSeqlens,
      state: lastState,
      y: tokens(y),
    },
    attrs: { deltaSoftplus: a.deltaSoftplus },
    result: { y, lastState },
  };
}

/**
 * Mamba's selective scan (Gu & Dao 2023), fused: per channel and state, with Δ = softplus(delta + deltaBias) (each
 * optional), h ← exp(Δ·A)·h + Δ·B·u; y = C·h + D·u, times silu(z). Time O(L), working memory O(1) in L.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function selectiveScan(args: SelectiveScanArgs): Promise<SelectiveScanResult> {
  return run(() => plan(args));
}

/** {@link selectiveScan} on the calling thread. */
export function selectiveScanSync(args: SelectiveScanArgs): SelectiveScanResult {
  return runSync(plan(args));
}
