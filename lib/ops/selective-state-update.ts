import type { Tensor, TensorLike } from '../tensor.js';
import { check, flag, optional, type Rules, tensor } from './check.js';
import type { Out } from './outs.js';
import { type CallOptions, output, type Plan, reshape, run, runSync, stateFrom } from './run.js';
import { repeatGroups } from './selective-scan.js';
import { equal, requireMultiple, vector } from './sequences.js';

/** Arguments of {@link selectiveStateUpdate}. */
export interface SelectiveStateUpdateArgs extends Out<SelectiveStateUpdateResult> {
  /** (B, D, N); with heads (B, H, P, N). */
  state: TensorLike;
  /** (B, D); with heads (B, H, P). */
  x: TensorLike;
  /** As x. */
  dt: TensorLike;
  /** (D, N); with heads (H, P, N). */
  A: TensorLike;
  /** (B, N), or (B, G, N): channel d (head h) reads group d / (D/G) (h / (H/G)). */
  B: TensorLike;
  /** As B. */
  C: TensorLike;
  /** (D); with heads (H, P). */
  D?: TensorLike | undefined;
  /** Gate, as x. */
  z?: TensorLike | undefined;
  /** As D. */
  dtBias?: TensorLike | undefined;
  /** Default false. */
  dtSoftplus?: boolean | undefined;
}

/** What {@link selectiveStateUpdate} gives. */
export interface SelectiveStateUpdateResult {
  /** As x. */
  y: Tensor;
  /** As the state that came in, which is left as it was. */
  state: Tensor;
}

// `channel` is D, or H P with heads.
const rules = (channel: string) =>
  ({
    state: tensor(`B ${channel} N`),
    x: tensor(`B ${channel}`),
    dt: tensor(`B ${channel}`),
    A: tensor(`${channel} N`),
    B: tensor('B N | B G N'),
    C: tensor('B N | B G N'),
    D: optional(channel),
    z: optional(`B ${channel}`),
    dtBias: optional(channel),
    dtSoftplus: flag(false),
  }) satisfies Rules<SelectiveStateUpdateArgs>;

function plan(args: SelectiveStateUpdateArgs): Plan<SelectiveStateUpdateResult> {
  const op = 'selectiveStateUpdate';
  const heads = args?.state?.shape?.length === 4;
  const { sizes, ...a } = check(op, args, rules(heads ? 'H P' : 'D'));
  const [batch, N] = sizes.all('B', 'N');
  const D = heads ? sizes.of('H') * sizes.of('P') : sizes.of('D');
  const groups = [a.B, a.C].find((b) => b.shape.length === 3)?.shape[1] ?? 1;
  requireMultiple(op, heads ? 'H' : 'D', heads ? sizes.of('H') : D, 'G', groups);
  const y = output(sizes, 'y', a.x.shape);
  const state = stateFrom(a.state, sizes, 'state', a.state.shape);
  const grouped = (b: typeof a.B) =>
    reshape(b.shape.length === 3 ? b : repeatGroups(b, batch, groups), batch, groups, N);
  return {
    op: 'selectiveScan',
    sizes,
    tensors: {
      u: reshape(a.x, batch, D),
      delta: reshape(a.dt, batch, D),
      A: reshape(a.A, D, N),
      B: grouped(a.B),
      C: grouped(a.C),
      D: reshape(a.D, D),
      z: reshape(a.z, batch, D),
      deltaBias: reshape(a.dtBias, D),
      cuSeqlens: vector(equal(op, batch, 1)),
      state: reshape(state, batch, D, N),
      y: reshape(y, batch, D),
    },
    attrs: { deltaSoftplus: a.dtSoftplus },
    result: { y, state },
  };
}

/**
 * One step of the selective scan for a batch of sequences, of Mamba (state (B, D, N)) or with heads (B, H, P, N):
 * with dt = softplus(dt + dtBias) (each optional), h ← exp(dt·A)·h + dt·B·x; y = C·h + D·x, times silu(z).
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function selectiveStateUpdate(
  args: SelectiveStateUpdateArgs,
  options?: CallOptions,
): Promise<SelectiveStateUpdateResult> {
  return run(() => plan(args), options);
}

/** {@link selectiveStateUpdate} on the calling thread. */
export function selectiveStateUpdateSync(args: SelectiveStateUpdateArgs): SelectiveStateUpdateResult {
  return runSync(plan(args));
}
