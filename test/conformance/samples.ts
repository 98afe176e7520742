// Valid calls of every public op: the forwards, and their gradients from what stands above.
import type { OpName } from './check.js';
import { forwards } from './forward-samples.js';
import type { Args } from './reference.js';
import * as reference from './reference.js';
import type { Sample } from './sample.js';

export type { Dims, Sample } from './sample.js';

/** A backward op's sample: the forward's, and gradients from above of these shapes. */
export const gradientOf = (forward: Sample, above: (a: Args) => Record<string, readonly number[]>): Sample => ({
  args: (r, d) => {
    const a = forward.args(r, d);
    const gradients = Object.entries(above(a)).map(([name, shape]) => [name, r.tensor(shape)]);
    return { ...a, ...Object.fromEntries(gradients) };
  },
});

const aboveState = (a: Args) => ({ dlastState: a.initialState.shape });
export const aboveHeads = (a: Args) => ({ dy: a.v.shape, ...aboveState(a) });

/** No dt so near a limit that a small step crosses it. */
const awayFromLimits: Sample = {
  ...forwards.ssd,
  args: (r, d) => {
    const a = forwards.ssd.args(r, d);
    const near = (v: number, i: number) => {
      const dt = reference.softplus(v + a.dtBias.data[i % a.dtBias.data.length]!);
      return (a.dtLimit as number[]).some((limit) => Math.abs(dt - limit) < 0.01);
    };
    a.dt.data = (a.dt.data as Float32Array).map((v, i) => (near(v, i) ? v + 0.1 : v));
    return a;
  },
};

/** No token whose choice of experts a small step changes. */
const clearChoice: Sample = {
  ...forwards.moe,
  args: (r, d) => {
    const a = forwards.moe.args(r, d);
    const [E, width] = a.router.shape;
    const margin = (x: Float32Array) => {
      const score = (e: number) => x.reduce((sum, v, i) => sum + v * a.router.data[e * width + i]!, 0);
      const scores = Array.from({ length: E }, (_, e) => score(e)).sort((p, q) => q - p);
      return a.topK === E ? 1 : scores[a.topK - 1]! - scores[a.topK]!;
    };
    for (let t = 0; t < a.x.data.length; t += width)
      for (let tries = 0; tries < 100 && margin(a.x.data.subarray(t, t + width)) < 0.01; tries++)
        a.x.data.set(r.tensor([width], -2, 2).data, t);
    return a;
  },
};

export const samples: Record<OpName, Sample> = {
  ...forwards,
  rmsNormBackward: gradientOf(forwards.rmsNorm, (a) => ({ dy: a.x.shape })),
  layerNormBackward: gradientOf(forwards.layerNorm, (a) => ({ dy: a.x.shape })),
  ropeBackward: gradientOf(forwards.rope, (a) => ({ dy: a.x.shape })),
  linearBackward: gradientOf(forwards.linear, (a) => ({ dy: [...a.x.shape.slice(0, -1), a.weight.shape[0]] })),
  embeddingBackward: gradientOf(forwards.embedding, (a) => ({ dy: [...a.ids.shape, a.weight.shape[1]] })),
  crossEntropyBackward: gradientOf(forwards.crossEntropy, () => ({ dloss: [1] })),
  attentionBackward: gradientOf(forwards.attention, (a) => ({ dy: a.q.shape })),
  selectiveScanBackward: gradientOf(forwards.selectiveScan, (a) => ({ dy: a.u.shape, ...aboveState(a) })),
  causalConv1dBackward: gradientOf(forwards.causalConv1d, (a) => ({
    dy: a.x.shape,
    dfinalState: a.initialState.shape,
  })),
  ssdBackward: gradientOf(awayFromLimits, (a) => ({ dy: a.x.shape, ...aboveState(a) })),
  moeBackward: gradientOf(clearChoice, (a) => ({ dy: a.x.shape })),
  gatedDeltaRuleBackward: gradientOf(forwards.gatedDeltaRule, aboveHeads),
  retentionBackward: gradientOf(forwards.retention, aboveHeads),
  glaBackward: gradientOf(forwards.gla, aboveHeads),
  rgLruBackward: gradientOf(forwards.rgLru, (a) => ({ dy: a.x.shape, ...aboveState(a) })),
  mamba3Backward: {
    args: (r, d) => {
      const { mode: _, chunkSize: __, ...a } = forwards.mamba3.args(r, d);
      const { ssm, k, v } = a.initialState;
      const last = Object.entries({ ssm, k, v }).map(([part, t]) => [part, r.tensor(t.shape)]);
      return { ...a, dy: r.tensor(a.x.shape), dlastState: Object.fromEntries(last) };
    },
  },
  wkv6Backward: gradientOf(forwards.wkv6, aboveHeads),
  wkv7Backward: gradientOf(forwards.wkv7, aboveHeads),
  wkv4Backward: gradientOf(forwards.wkv4, (a) => ({ dy: a.k.shape })),
  fftConvBackward: gradientOf(forwards.fftConv, (a) => ({ dy: a.x.shape })),
};
