/** The ops that benchmarks use, in plain TypeScript: their logic is tested without the addon, and broken at will. */
import { Tensor, type TensorLike } from 'statespace';
import type { Ops } from '../../dist/bench/library.js';
import {
  attentionRow,
  convSilu,
  matmul,
  rmsNormRows,
  type Scan,
  scanChannel,
} from '../../dist/bench/scaling/reference.js';

function tensor(data: Float32Array, shape: readonly number[]): Tensor {
  return new Tensor(data, shape);
}

const f32 = (t: TensorLike) => t.data as Float32Array;

export const plainOps: Ops = {
  linearSync({ x, weight }) {
    const into = x.shape.at(-1)!;
    const y = matmul(f32(x), f32(weight), x.data.length / into, into);
    return { y: tensor(y, [...x.shape.slice(0, -1), weight.shape[0]!]) };
  },
  rmsNormSync({ x, weight, eps = 1e-6 }) {
    const rows = x.data.length / x.shape.at(-1)!;
    return { y: tensor(rmsNormRows(f32(x), f32(weight!), rows, eps), x.shape) };
  },
  attentionSync({ q, k, v }) {
    const [batch, length, heads, headDim] = q.shape as [number, number, number, number];
    const y = new Float32Array(q.data.length);
    const a = { q: f32(q), k: f32(k), v: f32(v), batch, length, heads, headDim };
    for (let b = 0; b < batch; b++) {
      for (let t = 0; t < length; t++) {
        for (let h = 0; h < heads; h++) y.set(attentionRow(a, b, t, h), ((b * length + t) * heads + h) * headDim);
      }
    }
    return { y: tensor(y, q.shape) };
  },
  causalConv1dSync({ x, weight, bias }) {
    const [batch, length, channels] = x.shape as [number, number, number];
    const y = new Float32Array(x.data.length);
    for (let b = 0; b < batch; b++) {
      const rows = f32(x).subarray(b * length * channels, (b + 1) * length * channels);
      y.set(convSilu(rows, f32(weight), f32(bias!), length), b * length * channels);
    }
    return { y: tensor(y, x.shape), finalState: tensor(new Float32Array(0), [0]) };
  },
  selectiveScanSync({ u, delta, z, A, B, C, D, deltaBias }) {
    const [batch, length, dInner] = u.shape as [number, number, number];
    const scan: Scan = {
      u: f32(u),
      delta: f32(delta),
      z: f32(z!),
      A: f32(A),
      B: f32(B),
      C: f32(C),
      D: f32(D!),
      deltaBias: f32(deltaBias!),
      batch,
      length,
      dInner,
      dState: A.shape[1]!,
    };
    const y = new Float32Array(u.data.length);
    for (let b = 0; b < batch; b++) {
      for (let channel = 0; channel < dInner; channel++) {
        scanChannel(scan, b, channel).forEach((value, t) => {
          y[(b * length + t) * dInner + channel] = value;
        });
      }
    }
    return { y: tensor(y, u.shape), lastState: tensor(new Float32Array(0), [0]) };
  },
};
