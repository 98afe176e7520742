import { StatespaceError } from '../errors.js';
import type { TensorLike } from '../tensor.js';
import { choice, flag, optional, tensor } from './check.js';

/** The state space system that s4Kernel and s4Recurrent share. */
export interface S4System {
  /** Diagonal, (D, N, 2) as [re, im] for the kept half of conjugate pairs; (D, N) with `real`. */
  A: TensorLike;
  /** As A. */
  B: TensorLike;
  /** As A. */
  C: TensorLike;
  /** Low-rank part, (D, N, 2): A = diag(A) − P·P* (S4). */
  P?: TensorLike | undefined;
  /** Log of the time step, (D). */
  logDt: TensorLike;
  /** Default 'zoh'; with P 'bilinear', the only one then. */
  method?: 'zoh' | 'bilinear' | undefined;
  /** A, B, C without the last axis; the factor 2 stays. Default false. */
  real?: boolean | undefined;
}

/** Rules of the system's arguments for a call with these. */
export function systemRules(args: S4System) {
  const pair = args?.real === true ? '' : ' 2';
  return {
    A: tensor(`D N${pair}`),
    B: tensor(`D N${pair}`),
    C: tensor(`D N${pair}`),
    P: optional('D N 2'),
    logDt: tensor('D'),
    method: choice(...(args?.P ? (['bilinear', 'zoh'] as const) : (['zoh', 'bilinear'] as const))),
    real: flag(false),
  };
}

/** P needs complex values and the bilinear transform. */
export function checkSystem(op: string, a: { P?: unknown; method: string; real: boolean }): void {
  if (a.P && a.real) throw new StatespaceError('ERR_ARGUMENT', `${op}: P: a low-rank part needs complex values`);
  if (a.P && a.method === 'zoh')
    throw new StatespaceError(
      'ERR_ARGUMENT',
      `${op}: method: expected 'bilinear', the only one with P, received 'zoh'`,
    );
}
