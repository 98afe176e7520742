/** What the scaling benchmark compares: contenders that do the same job over sequences of growing length. */

export interface Contender {
  id: string;
  label: string;
  family: 'attention' | 'scan';
  /** Modes of one mixer: a quadratic one is compared with the others of its group, not with all. */
  group?: string;
  /** Power of the length that its time should follow: predicts the next length's cost from the last one's. */
  order: 1 | 2;
  /** Bytes at this length, by formula. */
  memory(length: number): { working: number; kept: number };
  /** What the two formulas count, for people. */
  counted: { working: string; kept: string };
  /** Bytes that must be free for a run, where that is more than small change. */
  needs?(length: number): number;
}

export interface Check {
  name: string;
  /** Relative L2 distance, and what is allowed. */
  error: number;
  bound: number;
}

export interface Prepared {
  /** One computation by contender id; the output is what the checks look at. */
  run: Record<string, () => Promise<Float32Array>>;
  /** The public call of a contender whose run is on memory that is kept. */
  call?: Record<string, () => Promise<unknown>>;
  /** Outputs of the contenders that ran, against each other and against plain TypeScript. */
  check(outputs: ReadonlyMap<string, Float32Array>): Check[];
}

export interface Preset {
  name: string;
  title: string;
  shape: Shape;
  contenders: Contender[];
  prepare(length: number): Prepared;
}

export interface Shape {
  dModel: number;
  heads: number;
  dState: number;
  batch: number;
}

/** Channels of the scan: Mamba widens the model twice. */
export const EXPAND = 2;
export const F32_BYTES = 4;

/** ‖a − b‖ / ‖b‖; NaN where anything is not finite, which no bound accepts. */
export function relativeError(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Number.NaN;
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < b.length; i++) {
    difference += (a[i]! - b[i]!) ** 2;
    norm += b[i]! ** 2;
  }
  return norm === 0 ? (difference === 0 ? 0 : Number.POSITIVE_INFINITY) : Math.sqrt(difference / norm);
}
