/**
 * Statistics of repeated timings and of how they grow with length. Timings are skewed to the right by whatever else
 * the machine does, so the centre is the median and the spread an interval of order statistics, never a deviation.
 */

export interface Sample {
  median: number;
  /** The middle half (quartiles) from five samples on, below that everything from smallest to largest. */
  spread: { kind: 'quartiles' | 'range'; low: number; high: number };
  samples: number[];
}

/** Quantile by linear interpolation between order statistics (type 7, as R and NumPy have it). */
export function quantile(values: readonly number[], p: number): number {
  if (values.length === 0) throw new RangeError('quantile of no values');
  const sorted = [...values].sort((a, b) => a - b);
  const at = p * (sorted.length - 1);
  const low = Math.floor(at);
  const below = sorted[low]!;
  const above = sorted[Math.min(low + 1, sorted.length - 1)]!;
  return below + (at - low) * (above - below);
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

export function summarise(samples: readonly number[]): Sample {
  const quartiles = samples.length >= 5;
  return {
    median: median(samples),
    spread: {
      kind: quartiles ? 'quartiles' : 'range',
      low: quartiles ? quantile(samples, 0.25) : Math.min(...samples),
      high: quartiles ? quantile(samples, 0.75) : Math.max(...samples),
    },
    samples: [...samples],
  };
}

export interface PowerFit {
  /** b of y = a·x^b. */
  exponent: number;
  factor: number;
  /** 95 % confidence interval of the exponent; null where two points leave no freedom. */
  interval: { low: number; high: number } | null;
  points: number;
}

// t quantiles at 97.5 % for 1 … 10 degrees of freedom; the expansion below is within 2e-4 of the truth beyond.
const T_975 = [12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.306, 2.2622, 2.2281];

/** Two-sided 95 % quantile of Student's t; Cornish-Fisher expansion (Abramowitz and Stegun 26.7.5) for larger df. */
export function studentT975(df: number): number {
  if (!Number.isInteger(df) || df < 1) throw new RangeError(`degrees of freedom must be a positive integer, got ${df}`);
  const tabled = T_975[df - 1];
  if (tabled !== undefined) return tabled;
  const z = 1.959963984540054;
  const g1 = (z ** 3 + z) / 4;
  const g2 = (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96;
  const g3 = (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / 384;
  return z + g1 / df + g2 / df ** 2 + g3 / df ** 3;
}

/** Least squares of log y over log x. null for fewer than two different x, or where a value is not positive. */
export function fitPower(x: readonly number[], y: readonly number[]): PowerFit | null {
  if (x.length !== y.length) throw new RangeError(`fitPower: ${x.length} x but ${y.length} y`);
  if (![...x, ...y].every((value) => value > 0 && Number.isFinite(value))) return null;
  if (new Set(x).size < 2) return null;
  const logX = x.map(Math.log);
  const logY = y.map(Math.log);
  const n = x.length;
  const meanX = sum(logX) / n;
  const meanY = sum(logY) / n;
  const varianceX = sum(logX.map((value) => (value - meanX) ** 2));
  const exponent = sum(logX.map((value, i) => (value - meanX) * (logY[i]! - meanY))) / varianceX;
  const intercept = meanY - exponent * meanX;
  const residual = sum(logX.map((value, i) => (logY[i]! - intercept - exponent * value) ** 2));
  const half = n > 2 ? studentT975(n - 2) * Math.sqrt(residual / (n - 2) / varianceX) : Number.NaN;
  return {
    exponent,
    factor: Math.exp(intercept),
    interval: n > 2 ? { low: exponent - half, high: exponent + half } : null,
    points: n,
  };
}

// A length that lies farther from the others' line than this was disturbed, or is of another regime.
const FAR = 0.25;

/**
 * fitPower() without the lengths that lie far from the line of the others, which are named: the line that tells them is
 * through the median of the slopes of all pairs (Theil and Sen), as one bad point in six would pull least squares along.
 */
export function fitRobustly(x: readonly number[], y: readonly number[]): { fit: PowerFit | null; outliers: number[] } {
  const all = fitPower(x, y);
  if (all === null || x.length < 5) return { fit: all, outliers: [] };
  const points = x.map((value, i) => ({ x: Math.log(value), y: Math.log(y[i]!) }));
  const slopes = points.flatMap((a, i) =>
    points.slice(i + 1).flatMap((b) => (a.x === b.x ? [] : [(b.y - a.y) / (b.x - a.x)])),
  );
  const slope = median(slopes);
  const intercept = median(points.map((p) => p.y - slope * p.x));
  const kept = x.map((_, i) => Math.abs(points[i]!.y - intercept - slope * points[i]!.x) <= FAR);
  if (kept.filter(Boolean).length < 4) return { fit: all, outliers: [] };
  const of = (values: readonly number[]) => values.filter((_, i) => kept[i]);
  return { fit: fitPower(of(x), of(y)), outliers: x.filter((_, i) => !kept[i]) };
}

export type Crossover =
  /** Between two measured lengths the costs change places. */
  | { kind: 'measured'; length: number; between: [number, number] }
  /** Outside of the measured lengths, by continuing the straight line (log-log) through the two nearest. */
  | { kind: 'extrapolated'; length: number; beyond: number }
  | { kind: 'none'; always: 'costlier' | 'cheaper' | 'equal' };

// A line continued farther than this from the measured lengths says nothing.
const FARTHEST = 64;

/**
 * The length from which `costs` exceeds `other` for good, log cost linear in log length between neighbours. Where they
 * cross several times it is the last one.
 */
export function crossover(lengths: readonly number[], costs: readonly number[], other: readonly number[]): Crossover {
  const points = lengths.map((length, i) => ({ x: Math.log(length), gap: Math.log(costs[i]! / other[i]!), length }));
  points.sort((a, b) => a.x - b.x);
  const last = points.at(-1);
  if (last === undefined) throw new RangeError('crossover of no lengths');
  for (let i = points.length - 1; i > 0; i--) {
    const [a, b] = [points[i - 1]!, points[i]!];
    if (a.gap <= 0 && b.gap > 0) {
      return { kind: 'measured', length: Math.exp(root(a, b)), between: [a.length, b.length] };
    }
    if (b.gap <= 0) break;
  }
  const first = points[0]!;
  const [a, b] = last.gap > 0 ? [first, points[1]] : [points.at(-2), last];
  if (a !== undefined && b !== undefined && b.gap > a.gap) {
    const length = Math.exp(root(a, b));
    const beyond = last.gap > 0 ? first.length : last.length;
    if (Math.max(length / beyond, beyond / length) <= FARTHEST) return { kind: 'extrapolated', length, beyond };
  }
  const always = last.gap > 0 ? 'costlier' : points.every((point) => point.gap === 0) ? 'equal' : 'cheaper';
  return { kind: 'none', always };
}

function root(a: { x: number; gap: number }, b: { x: number; gap: number }): number {
  return a.x - (a.gap * (b.x - a.x)) / (b.gap - a.gap);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
