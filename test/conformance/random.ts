// Deterministic random tensors.
import type { Plain } from './tensors.js';

export class Random {
  constructor(private state: number) {}

  /** Uniform in [0, 1): mulberry32. */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }
  /** Uniform values in [low, high). */
  tensor(shape: readonly number[], low = -1, high = 1): Plain {
    const size = shape.reduce((n, s) => n * s, 1);
    return { data: Float32Array.from({ length: size }, () => low + (high - low) * this.next()), shape };
  }
  /** Whole numbers from 0 to below `count`, and here and there `other`. */
  integers(shape: readonly number[], count: number, other?: number): { data: Int32Array; shape: readonly number[] } {
    const size = shape.reduce((n, s) => n * s, 1);
    const one = () => (other !== undefined && this.next() < 0.2 ? other : Math.floor(this.next() * count));
    return { data: Int32Array.from({ length: size }, one), shape };
  }
  /** Rows of unit length over the last axis. */
  unit(shape: readonly number[]): Plain {
    const t = this.tensor(shape);
    const width = shape.at(-1)!;
    for (let i = 0; i < t.data.length; i += width) {
      const row = t.data.subarray(i, i + width);
      const norm = Math.hypot(...row);
      for (const [j, x] of row.entries()) row[j] = x / norm;
    }
    return t;
  }
}
