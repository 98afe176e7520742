import type { Init } from '../graph/weight-spec.js';

/** Values of a normal distribution with this deviation, by the method of Box and Muller. */
export const normal = (count: number, deviation = 1): Init => ({
  values: (random) =>
    Float32Array.from(
      { length: count },
      () => deviation * Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random()),
    ),
});

/** The same value everywhere. */
export const filled = (count: number, value: number): Init => ({ values: () => new Float32Array(count).fill(value) });

/** Logarithms of steps dt that are log-uniform in [0.001, 0.1]. */
export const logDtInit = (count: number): Init => ({
  values: (random) => Float32Array.from({ length: count }, () => Math.log(0.001) + random() * Math.log(100)),
});
