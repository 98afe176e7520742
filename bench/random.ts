import { library } from './library.js';

/** Repeatable inputs. Uniform, not normal: benchmarks fill hundreds of megabytes, and only the scale matters. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = (seed | 0) ^ 0x9e3779b9 || 1;
  }

  /** In [low, high); xorshift32. */
  next(low = 0, high = 1): number {
    let s = this.#state;
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    this.#state = s;
    return low + ((s >>> 0) / 2 ** 32) * (high - low);
  }

  /** Mean 0; variance scale² (a uniform on ±√3 has variance 1). */
  array(length: number, scale = 1): Float32Array {
    return this.uniform(length, -scale * Math.sqrt(3), scale * Math.sqrt(3));
  }

  /** In memory as the activations of a model and the results of ops are: large arrays in large pages. */
  uniform(length: number, low: number, high: number): Float32Array {
    const out = library().Tensor.zeros([length]).data as Float32Array;
    for (let i = 0; i < length; i++) out[i] = this.next(low, high);
    return out;
  }
}
