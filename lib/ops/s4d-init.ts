import { mismatch } from '../errors.js';
import { Tensor } from '../tensor.js';
import { check, choice, integer, type Rules, required } from './check.js';
import { allocated } from './run.js';
import { skewSpectrum } from './skew-spectrum.js';

/** Arguments of {@link s4dInit}. */
export interface S4dInitArgs {
  /** State size in real numbers, even: N/2 complex values are kept. */
  N: number;
  init: 'lin' | 'inv' | 'legs' | 'real';
}

/** What {@link s4dInit} gives. */
export interface S4dInitResult {
  /** (N/2, 2) as [re, im]. */
  A: Tensor;
  /** (N/2, 2) as [re, im]. */
  B: Tensor;
}

const rules = {
  N: required(integer(2)),
  init: choice('lin', 'inv', 'legs', 'real'),
} satisfies Rules<S4dInitArgs>;

type Complex = readonly [re: number, im: number];

/**
 * Initialisations of S4D (Gu et al. 2022), the kept half of conjugate pairs with Im A ≤ 0: lin −½ − iπn;
 * inv −½ − i(N/π)(N/(2n+1) − 1); real −(n+1); legs: the eigenvalues of the normal part of HiPPO-LegS by descending |Im|,
 * with B in its eigenbasis (the sign is free), Im B limited to ±2 as in the s4 repository. B is 1 otherwise.
 *
 * @throws StatespaceError ERR_ARGUMENT, naming the argument.
 */
export async function s4dInit(args: S4dInitArgs): Promise<S4dInitResult> {
  return s4dInitSync(args);
}

/** {@link s4dInit} on the calling thread. */
export function s4dInitSync(args: S4dInitArgs): S4dInitResult {
  const { N, init } = check('s4dInit', args, rules);
  if (N % 2 !== 0) throw mismatch('ERR_ARGUMENT', 's4dInit: N', 'an even number', String(N));
  const values =
    init === 'legs' ? legs(N) : Array.from({ length: N / 2 }, (_, n) => ({ a: closed(init, n, N), b: one }));
  const pairs = (of: 'a' | 'b') => new Tensor(Float32Array.from(values.flatMap((v) => v[of])), [N / 2, 2]);
  return { A: pairs('a'), B: pairs('b') };
}

const one: Complex = [1, 0];

function closed(init: 'lin' | 'inv' | 'real', n: number, N: number): Complex {
  if (init === 'real') return [-(n + 1), 0];
  return [-0.5, init === 'lin' ? -Math.PI * n : -(N / Math.PI) * (N / (2 * n + 1) - 1)];
}

// The largest |Im B|: fast modes would otherwise start far louder than slow ones.
const loudest = 2;

/** LegS = −½ + K − p·pᵀ with p = √(n + ½) and K[n, k] = ∓½√((2n+1)(2k+1)) skew: −½ + K is the normal part. */
function legs(N: number): { a: Complex; b: Complex }[] {
  const K = allocated('s4dInit', () => new Float64Array(N * N));
  const B = Float64Array.from({ length: N }, (_, n) => Math.sqrt(2 * n + 1));
  for (let n = 0; n < N; n++) for (let k = 0; k < N; k++) K[n * N + k] = (Math.sign(k - n) * B[n]! * B[k]!) / 2;
  return skewSpectrum(K, N, B)
    .slice(0, N / 2)
    .map(({ value, coordinate: [re, im] }) => ({
      a: [-0.5, value],
      b: [re, Math.max(-loudest, Math.min(loudest, im))],
    }));
}
