// What may reach which output: one NaN or infinity in one place of one input changes no output that does not depend on
// it. Not those of earlier tokens, of other sequences, heads or channels.
import { Tensor } from 'statespace';
import { describe, expect, it } from 'vitest';
import { onDevice, onEveryBackend } from './backends.js';
import { callSync, type OpName, type Outputs } from './check.js';
import { Random } from './random.js';
import type { Args } from './reference.js';
import { type Dims, samples } from './samples.js';

/**
 * Axes by letters. An input reaches outputs of the same B, D, H, N, P, R and so on; of its own and later L; T is L for
 * what only its own token reads; J a tap, read from L = J on; G stands for the heads H / G of it. Small letters are
 * summed over.
 */
interface Reach {
  inputs: Record<string, string | { axes: string; notTo: string[] }>;
  outputs: Record<string, string>;
  sizes?: (d: Dims) => Record<string, number>;
  /** Arguments in place of the sample's. */
  args?: Args;
}

const norm = {
  inputs: { x: 'B T G p', weight: 'G P', bias: 'G P', z: 'B T G p' },
  outputs: { y: 'B L G P' },
};
const head = { y: 'B L R N', lastState: 'B R P N' };
const deltaRule = {
  inputs: { q: 'B T G p', k: 'B L G p', v: 'B L H N', g: 'B L H', beta: 'B L H', initialState: 'B H p N' },
  outputs: { y: 'B L H N', lastState: 'B H P N' },
};
const linearAttention = { q: 'B T R p', k: 'B L R p', v: 'B L R N', initialState: 'B R p N' };

const everything = 'every result depends on every value';

const reach: Record<OpName, Reach | string> = {
  selectiveScan: {
    inputs: {
      u: 'B L D',
      delta: 'B L D',
      A: 'D n',
      B: 'B L G n',
      C: 'B T G n',
      D: 'D',
      z: 'B T D',
      deltaBias: 'D',
      initialState: 'B D n',
    },
    outputs: { y: 'B L D', lastState: 'B D N' },
    sizes: ({ G, R }) => ({ D: G * R }),
  },
  selectiveStateUpdate: {
    inputs: {
      state: 'B H P n',
      x: 'B H P',
      dt: 'B H P',
      A: 'H P n',
      B: 'B G n',
      C: 'B G n',
      D: 'H P',
      z: 'B H P',
      dtBias: 'H P',
    },
    outputs: { y: 'B H P', state: 'B H P N' },
  },
  ssd: {
    inputs: {
      x: 'B L H P',
      dt: 'B L H',
      A: 'H',
      B: 'B L G n',
      C: 'B T G n',
      D: 'H',
      z: 'B T H P',
      dtBias: 'H',
      initialState: 'B H P n',
    },
    outputs: { y: 'B L H P', lastState: 'B H P N' },
    args: { chunkSize: 64 },
  },
  causalConv1d: {
    inputs: { x: 'B L P', weight: 'P k', bias: 'P', initialState: 'B P c' },
    outputs: { y: 'B L P', finalState: 'B P c' },
    sizes: ({ K }) => ({ C: K - 1 }),
  },
  mamba3: {
    inputs: {
      x: 'B L H p',
      B: 'B L m G n',
      C: 'B T m G n',
      dt: 'B L H',
      adt: 'B L H',
      trap: 'B L H',
      angles: 'B L s',
      BBias: 'H m n',
      CBias: 'H m n',
      D: 'H',
      z: 'B T H p',
      mimoX: 'H m p',
      mimoZ: 'H m p',
      mimoO: 'H m p',
      normWeight: 'H p',
    },
    outputs: { y: 'B L H P', 'lastState.ssm': 'B H P N' },
    sizes: ({ N, K }) => ({ N: 2 * N, M: K % 3 || 1, S: Math.ceil(N / 2) }),
    args: { chunkSize: 64 },
  },
  shortConv: {
    inputs: { b: 'B L P', c: 'B T P', x: 'B L P', weight: 'P k', bias: 'P', initialState: 'B P c' },
    outputs: { y: 'B L P', lastState: 'B P c' },
    sizes: ({ K }) => ({ C: K - 1 }),
  },
  rgLru: {
    inputs: {
      x: 'B L R p',
      inputGateWeight: 'R p P',
      inputGateBias: 'R P',
      recurrentGateWeight: 'R p P',
      recurrentGateBias: 'R P',
      recurrentParam: 'R P',
      initialState: 'B R P',
    },
    outputs: { y: 'B L R P', lastState: 'B R P' },
  },
  attention: {
    inputs: { q: 'B T H p', k: 'B L G p', v: 'B L G P' },
    outputs: { y: 'B L H P' },
    args: { causal: true },
  },
  rope: { inputs: { x: 'B T R p' }, outputs: { y: 'B L R P' }, sizes: ({ P, K }) => ({ P: 2 * P + K }) },
  rmsNorm: norm,
  layerNorm: { ...norm, sizes: ({ P }) => ({ P: P + 1 }) },
  linear: { inputs: { x: 'B T p', weight: 'N p', bias: 'N' }, outputs: { y: 'B L N' } },
  discretize: {
    inputs: { delta: 'B T P', A: 'P N', B: { axes: 'B T N', notTo: ['Abar'] } },
    outputs: { Abar: 'B L P N', Bbar: 'B L P N' },
  },
  discretizeDense: {
    inputs: { B: { axes: 'n G', notTo: ['Abar'] } },
    outputs: { Abar: 'N N', Bbar: 'N G' },
    args: { method: 'zoh' },
  },
  moe: { inputs: { x: 'B T p' }, outputs: { y: 'B L P' } },
  fftConv: {
    inputs: { x: 'B L P', kernel: 'P J', D: 'P' },
    outputs: { y: 'B L P' },
    sizes: ({ L, N }) => ({ J: L + N }),
  },
  embedding: everything,
  crossEntropy: everything,
  linearCrossEntropy: everything,
  hippo: 'it has no tensors',
  s4dInit: 'it has no tensors',
  s4Kernel: { inputs: { A: 'P n', B: 'P n', C: 'P n', P: 'P n', logDt: 'P' }, outputs: { K: 'P L' }, sizes: pairs },
  s4Recurrent: {
    inputs: { x: 'B L P', A: 'P n', B: 'P n', C: 'P n', P: 'P n', D: 'P', logDt: 'P', initialState: 'B P n' },
    outputs: { y: 'B L P', lastState: 'B P N' },
    sizes: pairs,
  },
  wkv4: {
    inputs: { k: 'B L P', v: 'B L P', timeDecay: 'P', timeFirst: 'P', initialState: 'B i P' },
    outputs: { y: 'B L P', lastState: 'B i P' },
    sizes: () => ({ I: 3 }),
  },
  wkv6: {
    inputs: { r: 'B T R p', k: 'B L R p', v: 'B L R N', w: 'B L R p', u: 'R p', initialState: 'B R p N' },
    outputs: head,
  },
  wkv7: {
    inputs: {
      r: 'B T R p',
      w: 'B L R p',
      k: 'B L R p',
      v: 'B L R N',
      a: 'B L R p',
      b: 'B L R p',
      initialState: 'B R N p',
    },
    outputs: { y: 'B L R N', lastState: 'B R N P' },
  },
  retention: { inputs: { ...linearAttention, logDecay: 'R' }, outputs: head, args: { chunkSize: 64 } },
  gla: { inputs: { ...linearAttention, g: 'B L R p' }, outputs: head },
  lightningAttention: { inputs: { ...linearAttention, slope: 'R' }, outputs: head },
  gatedDeltaRule: deltaRule,
  kda: { ...deltaRule, inputs: { ...deltaRule.inputs, g: 'B L H p' } },
  deltaRule,
  rmsNormBackward: { inputs: { x: 'B T G p', dy: 'B T G p', weight: 'G p' }, outputs: { dx: 'B L G P' } },
  layerNormBackward: {
    inputs: { x: 'B T G p', dy: 'B T G p', weight: 'G p' },
    outputs: { dx: 'B L G P' },
    sizes: ({ P }) => ({ P: P + 1 }),
  },
  ropeBackward: { inputs: { dy: 'B T R p' }, outputs: { dx: 'B L R P' }, sizes: ({ P, K }) => ({ P: 2 * P + K }) },
  linearBackward: { inputs: { x: 'b t P', dy: 'B T n' }, outputs: { dx: 'B L P' } },
  embeddingBackward: everything,
  crossEntropyBackward: everything,
  attentionBackward: everything,
  causalConv1dBackward: everything,
  fftConvBackward: everything,
  glaBackward: everything,
  rgLruBackward: everything,
  gatedDeltaRuleBackward: everything,
  mamba3Backward: everything,
  moeBackward: everything,
  retentionBackward: everything,
  selectiveScanBackward: everything,
  ssdBackward: everything,
  wkv4Backward: everything,
  wkv6Backward: everything,
  wkv7Backward: everything,
};

function pairs({ N }: Dims) {
  return { N: 2 * N };
}

/** The place of a value along each of its axes. */
function placeOf(index: number, axes: string[], sizes: Record<string, number>): Record<string, number> {
  const place: Record<string, number> = {};
  for (const axis of [...axes].reverse()) {
    const size = sizes[axis.toUpperCase()]!;
    place[axis] = index % size;
    index = Math.floor(index / size);
  }
  return place;
}

/** Whether the input at one place may change the output at another. */
function reaches(from: Record<string, number>, to: Record<string, number>, sizes: Record<string, number>): boolean {
  return Object.entries(from).every(([axis, i]) => {
    if (axis !== axis.toUpperCase()) return true;
    if (axis === 'T') return to.L === i;
    if (axis === 'L' || axis === 'J') return to.L === undefined || to.L >= i;
    if (axis !== 'G') return to[axis] === undefined || to[axis] === i;
    const [by, count] = to.H === undefined ? [to.D, sizes.D] : [to.H, sizes.H];
    return by === undefined ? to.G === undefined || to.G === i : Math.floor(by / (count! / sizes.G!)) === i;
  });
}

const size = (axes: string[], sizes: Record<string, number>) =>
  axes.reduce((n, axis) => n * sizes[axis.toUpperCase()]!, 1);

/** Names of outputs that changed though nothing could have reached them, with where. */
function strayed(
  { spec, sizes, tolerance }: { spec: Reach; sizes: Record<string, number>; tolerance: number },
  clean: Outputs,
  spoilt: Outputs,
  name: string,
  at: number,
): string[] {
  const given = spec.inputs[name]!;
  const { axes, notTo } = typeof given === 'string' ? { axes: given, notTo: [] as string[] } : given;
  const from = placeOf(at, axes.split(' '), sizes);
  const found: string[] = [];
  for (const [output, letters] of Object.entries(spec.outputs)) {
    const to = letters.split(' ');
    const [before, after] = [clean[output]!.data as Float32Array, spoilt[output]!.data as Float32Array];
    expect(before.length, output).toBe(size(to, sizes));
    const most = before.reduce((m, x) => Math.max(m, Math.abs(x)), 1);
    for (const [i, x] of before.entries()) {
      if (Math.abs(after[i]! - x) <= tolerance * most) continue;
      const place = placeOf(i, to, sizes);
      const own = !('T' in from) || 'L' in place;
      if (notTo.includes(output) || !own || !reaches(from, place, sizes))
        found.push(`${name}${JSON.stringify(from)} → ${output}${JSON.stringify(place)}`);
    }
  }
  return found;
}

/** Some arguments in bf16, whose products some machines sum in pairs or tiles. */
function cut(a: Args, halves: string[] = []): Args {
  return { ...a, ...Object.fromEntries(halves.map((n) => [n, new Tensor(a[n].data, a[n].shape).to('bf16')])) };
}

interface Case {
  op: OpName;
  dims: Dims;
  halves?: string[];
}
const dims: Dims[] = [
  { B: 2, L: 70, G: 2, R: 2, P: 5, N: 6, K: 5 },
  { B: 1, L: 37, G: 1, R: 2, P: 17, N: 20, K: 3 },
];
const cases: Case[] = Object.keys(samples).flatMap((name) => dims.map((d) => ({ op: name as OpName, dims: d })));
cases.push(
  { op: 'ssd', dims: { ...dims[0]!, P: 17 }, halves: ['x', 'B', 'C'] },
  { op: 'attention', dims: { ...dims[0]!, L: 300, P: 16 }, halves: ['q', 'k', 'v'] },
  { op: 'attention', dims: { ...dims[0]!, L: 300, P: 16 } },
);

/** A few places of every input, NaN and infinity in turn. */
function suite({ op, dims: d, halves }: Case): void {
  const spec = reach[op];
  if (typeof spec === 'string') return;
  const r = new Random(17);
  const a: Args = { ...samples[op].args(r, d), ...spec.args };
  const sizes = { ...d, T: d.L, H: d.G * d.R, M: 1, ...spec.sizes?.(d) } as Record<string, number>;
  // Where a value is not finite another form may sum, which rounds otherwise.
  const tolerance = halves ? 2e-2 : 1e-4;
  for (const mode of samples[op].modes ?? [undefined]) {
    const run = (args: Args) => callSync(op, mode ? { ...args, mode } : args);
    const clean = run(cut(a, halves));
    const found: string[] = [];
    for (const [name, given] of Object.entries(spec.inputs)) {
      if (!a[name]) continue;
      const axes = (typeof given === 'string' ? given : given.axes).split(' ');
      if (size(axes, sizes) !== a[name].data.length) continue; // another form of the argument than the one told
      for (const value of [Number.NaN, Number.POSITIVE_INFINITY]) {
        const data = Float32Array.from(a[name].data as Float32Array);
        const at = Math.floor(r.next() * data.length);
        data[at] = value;
        const out = run(cut({ ...a, [name]: { data, shape: a[name].shape } }, halves));
        found.push(...strayed({ spec, sizes, tolerance }, clean, out, name, at).slice(0, 3));
      }
    }
    expect(found, mode).toEqual([]);
  }
}

onEveryBackend(() => {
  describe('one value that is not finite reaches nothing that does not depend on it', () => {
    // Gradients have no CUDA kernels.
    for (const c of cases.filter(({ op }, i) => !onDevice || (i % 2 === 0 && !op.endsWith('Backward'))))
      it(`${c.op} ${c.halves ? 'bf16 ' : ''}L=${c.dims.L}`, () => suite(c));
  });
});
