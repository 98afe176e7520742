/** Kernels with a state per head beside their recurrence in f64. */
import { compare, type Prepared, spread } from './kernel.js';

const HEADS = 2;

/** One token of one head: changes the state S (rows × columns, row-major) and gives y's row. */
type Step = (S: Float64Array, row: (x: Float32Array, width: number) => Float32Array) => ArrayLike<number>;

/** The values of y of sampled heads, and the same by the recurrence in f64. `V`: width of y's rows. */
export function checkHeads(
  { L, H, V, states }: { L: number; H: number; V: number; states: number },
  step: (t: number, h: number) => Step,
): Prepared['check'] {
  return (y) =>
    compare(
      spread(H, HEADS).flatMap((h) => {
        const S = new Float64Array(states);
        return Array.from({ length: L }, (_, t) => {
          const row = (x: Float32Array, width: number) => x.subarray((t * H + h) * width, (t * H + h + 1) * width);
          return [row(y, V), step(t, h)(S, row)] as const;
        });
      }),
    );
}
