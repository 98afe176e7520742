import { call, type NativeBinding } from '../native.js';
import type { Tensor } from '../tensor.js';
import { type CallOptions, cancellable } from './run.js';

/** A system that native code computes: which, of what size, and where to. */
export interface InitialSystem<R extends { A: Tensor; B: Tensor }> {
  kind: Parameters<NativeBinding['initialSystem']>[0];
  N: number;
  result: R;
}

/** Off the event loop; what `make` finds wrong with its arguments rejects. */
export async function runInitial<R extends { A: Tensor; B: Tensor }>(
  op: string,
  make: () => InitialSystem<R>,
  options?: CallOptions,
): Promise<R> {
  const { kind, N, result } = make();
  await cancellable(op, options, (flag) => call((n) => n.initialSystem(kind, N, result.A, result.B, false, flag)));
  return result;
}

/** On the calling thread. */
export function runInitialSync<R extends { A: Tensor; B: Tensor }>({ kind, N, result }: InitialSystem<R>): R {
  call((n) => n.initialSystem(kind, N, result.A, result.B, true));
  return result;
}
