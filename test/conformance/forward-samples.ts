// Valid calls of every public op that is no gradient with random shapes and values, all optional arguments among them.
import type { OpName } from './check.js';
import { headRecurrences } from './recurrence-samples.js';
import * as reference from './reference.js';
import type { Sample } from './sample.js';

const deltas = { low: -2, high: 1 };

export const forwards: Record<Exclude<OpName, `${string}Backward`>, Sample> = {
  ...headRecurrences,
  selectiveScan: {
    args: (r, { B, L, G, R, N, P }) => {
      const D = G * R;
      return {
        u: r.tensor([B, L, D]),
        delta: r.tensor([B, L, D], deltas.low, deltas.high),
        A: r.tensor([D, N], -4, 0),
        B: [r.tensor([B, L, N]), r.tensor([B, L, G, N]), r.tensor([D, N])][P % 3],
        C: r.tensor([B, L, G, N]),
        D: r.tensor([D]),
        z: r.tensor([B, L, D], -3, 3),
        deltaBias: r.tensor([D]),
        deltaSoftplus: true,
        initialState: r.tensor([B, D, N]),
      };
    },
    formula: reference.selectiveScan,
    perToken: ['u', 'delta', 'B', 'C', 'z'],
    state: ['initialState', 'lastState'],
  },
  selectiveStateUpdate: {
    args: (r, { B, G, R, P, N }) => {
      const H = G * R;
      return {
        state: r.tensor([B, H, P, N]),
        x: r.tensor([B, H, P]),
        dt: r.tensor([B, H, P], deltas.low, deltas.high),
        A: r.tensor([H, P, N], -4, 0),
        B: r.tensor([B, G, N]),
        C: r.tensor([B, G, N]),
        D: r.tensor([H, P]),
        z: r.tensor([B, H, P]),
        dtBias: r.tensor([H, P]),
        dtSoftplus: true,
      };
    },
    formula: (a) => {
      const [B, H, P] = a.x.shape;
      const [D, N, G] = [H * P, a.A.shape[2], a.B.shape[1]];
      const as = (t: { data: Float32Array }, ...shape: number[]) => ({ data: t.data, shape });
      const { y, lastState } = reference.selectiveScan({
        u: as(a.x, B, 1, D),
        delta: as(a.dt, B, 1, D),
        A: as(a.A, D, N),
        B: as(a.B, B, 1, G, N),
        C: as(a.C, B, 1, G, N),
        D: as(a.D, D),
        z: as(a.z, B, 1, D),
        deltaBias: as(a.dtBias, D),
        deltaSoftplus: a.dtSoftplus,
        initialState: as(a.state, B, D, N),
      });
      return { y: y!, state: lastState! };
    },
  },
  ssd: {
    args: (r, { B, L, G, R, P, N, K }) => {
      const H = G * R;
      return {
        x: r.tensor([B, L, H, P]),
        dt: r.tensor([B, L, H], deltas.low, deltas.high),
        A: r.tensor([H], -3, -0.1),
        B: r.tensor([B, L, G, N]),
        C: r.tensor([B, L, G, N]),
        D: P % 2 ? r.tensor([H]) : r.tensor([H, P]),
        z: r.tensor([B, L, H, P], -3, 3),
        dtBias: r.tensor([H]),
        dtSoftplus: true,
        dtLimit: [0.01, 1.5],
        initialState: r.tensor([B, H, P, N]),
        chunkSize: 3 * K,
        mode: 'chunked',
      };
    },
    formula: reference.ssd,
    perToken: ['x', 'dt', 'B', 'C', 'z'],
    state: ['initialState', 'lastState'],
    modes: ['chunked', 'recurrent', 'quadratic'],
  },
  causalConv1d: {
    args: (r, { B, L, P, K }) => ({
      x: r.tensor([B, L, P]),
      weight: r.tensor([P, K]),
      bias: r.tensor([P]),
      activation: 'silu',
      initialState: r.tensor([B, P, K - 1]),
    }),
    formula: reference.causalConv1d,
    perToken: ['x'],
    state: ['initialState', 'finalState'],
  },
  mamba3: {
    args: (r, { B, L, G, R, P, N, K }) => {
      const [H, states, angles] = [G * R, 2 * N, Math.ceil(N / 2)];
      const ranks = K % 3 === 0 ? [] : [K % 3];
      const mimo = ranks.length > 0;
      return {
        x: r.tensor([B, L, H, P]),
        B: r.tensor([B, L, ...ranks, G, states]),
        C: r.tensor([B, L, ...ranks, G, states]),
        dt: r.tensor([B, L, H], 0.01, 0.5),
        adt: r.tensor([B, L, H], -2, 0),
        trap: r.tensor([B, L, H], -3, 3),
        angles: N % 2 ? r.tensor([B, L, H, angles]) : r.tensor([B, L, angles]),
        BBias: r.tensor([H, ...ranks, states]),
        CBias: r.tensor([H, ...ranks, states]),
        D: r.tensor([H]),
        z: r.tensor([B, L, H, P], -3, 3),
        ...(mimo && {
          mimoX: r.tensor([H, ...ranks, P]),
          mimoZ: r.tensor([H, ...ranks, P]),
          mimoO: r.tensor([H, ...ranks, P]),
        }),
        ...(P % 2 && { normWeight: r.tensor([H, P], 0.5, 1.5), normEps: 0.01 }),
        initialState: {
          angle: r.tensor([B, H, angles], 0, 6),
          ssm: r.tensor([B, H, P, states]),
          k: r.tensor([B, ...ranks, H, states]),
          v: r.tensor([B, H, P]),
        },
        mode: 'chunked',
        chunkSize: 4 * K,
      };
    },
    formula: reference.mamba3,
    perToken: ['x', 'B', 'C', 'dt', 'adt', 'trap', 'angles', 'z'],
    state: ['initialState', 'lastState'],
    stateParts: ['angle', 'ssm', 'k', 'v'],
    modes: ['chunked', 'recurrent'],
  },
  shortConv: {
    args: (r, { B, L, P, K }) => ({
      b: r.tensor([B, L, P]),
      c: r.tensor([B, L, P]),
      x: r.tensor([B, L, P]),
      weight: r.tensor([P, K]),
      bias: r.tensor([P]),
      initialState: r.tensor([B, P, K - 1]),
    }),
    formula: reference.shortConv,
    perToken: ['b', 'c', 'x'],
    state: ['initialState', 'lastState'],
  },
  rgLru: {
    args: (r, { B, L, R, P }) => ({
      x: r.tensor([B, L, R * P]),
      inputGateWeight: r.tensor([R, P, P]),
      inputGateBias: r.tensor([R, P]),
      recurrentGateWeight: r.tensor([R, P, P]),
      recurrentGateBias: r.tensor([R, P], -3, 3),
      recurrentParam: r.tensor([R * P], -8, 1),
      initialState: r.tensor([B, R * P]),
    }),
    formula: reference.rgLru,
    perToken: ['x'],
    state: ['initialState', 'lastState'],
  },
  attention: {
    args: (r, { B, L, G, R, P, K }) => ({
      q: r.tensor([B, L, G * R, P], -2, 2),
      k: r.tensor([B, L, G, P], -2, 2),
      v: r.tensor([B, L, G, P]),
      causal: K % 2 === 0,
      scale: 0.7,
      window: P % 3 === 0 ? 0 : 4,
      softcap: P % 2 ? 0 : 3,
    }),
    formula: reference.attention,
    perToken: ['q', 'k', 'v'],
  },
  rope: {
    args: (r, { B, L, R, P, K }) => ({
      x: r.tensor([B, L, R, 2 * P + K]),
      positions: Int32Array.from({ length: B * L }, (_, t) => t * 977),
      theta: 500000,
      rotaryDim: 2 * P,
      interleaved: K % 2 === 0,
    }),
    formula: reference.rope,
  },
  rmsNorm: {
    args: (r, { B, L, G, P, K }) => ({
      x: r.tensor([B, L, G * P], -3, 3),
      weight: r.tensor([G * P]),
      bias: r.tensor([G * P]),
      eps: 1e-6,
      z: r.tensor([B, L, G * P], -3, 3),
      normBeforeGate: K % 2 === 0,
      groupSize: P,
      unitOffset: K % 3 === 0,
    }),
    formula: reference.rmsNorm,
  },
  layerNorm: {
    args: (r, { B, L, G, P }) => ({
      x: r.tensor([B, L, G * (P + 1)], -3, 3),
      weight: r.tensor([G * (P + 1)]),
      bias: r.tensor([G * (P + 1)]),
      eps: 1e-3,
      groupSize: P + 1,
    }),
    formula: reference.layerNorm,
  },
  linear: {
    args: (r, { B, L, P, N }) => ({ x: r.tensor([B, L, P]), weight: r.tensor([N, P]), bias: r.tensor([N]) }),
    formula: reference.linear,
  },
  discretize: {
    args: (r, { B, L, P, N, K }) => ({
      delta: r.tensor([B, L, P], 0.001, 0.5),
      A: r.tensor([P, N], -4, 0.5),
      B: K % 2 ? r.tensor([B, L, N]) : r.tensor([P, N]),
      method: (['zoh', 'zoh-euler', 'bilinear'] as const)[K % 3],
    }),
    formula: reference.discretize,
  },
  discretizeDense: {
    args: (r, { N, G }) => ({ delta: 0.1, A: r.tensor([N, N]), B: r.tensor([N, G]), method: 'bilinear' }),
  },
  moe: {
    args: (r, { B, L, G, R, P, N }) => ({
      x: r.tensor([B, L, P]),
      router: r.tensor([G * R, P]),
      gateUp: r.tensor([G * R, 2 * N, P]),
      down: r.tensor([G * R, P, N]),
      topK: R,
      renormalize: G % 2 === 0,
    }),
    formula: reference.moe,
  },
  fftConv: {
    args: (r, { B, L, P, N }) => ({ x: r.tensor([B, L, P]), kernel: r.tensor([P, L + N]), D: r.tensor([P]) }),
    formula: reference.fftConv,
    perToken: ['x'],
  },
  embedding: {
    args: (r, { B, L, P, N }) => ({ ids: r.integers([B, L], N), weight: r.tensor([N, P]) }),
    formula: reference.embedding,
  },
  crossEntropy: {
    args: (r, { B, L, P, K }) => ({
      logits: r.tensor([B, L, P + 1], -3, 3),
      targets: r.integers([B, L], P + 1, 3),
      ignoreIndex: 3,
      labelSmoothing: K % 2 ? 0 : 0.1,
    }),
    formula: reference.crossEntropy,
  },
  linearCrossEntropy: {
    args: (r, { B, L, P, N, K }) => ({
      x: r.tensor([B, L, P], -3, 3),
      weight: r.tensor([N + 1, P]),
      bias: r.tensor([N + 1]),
      targets: r.integers([B, L], N + 1, 3),
      ignoreIndex: 3,
      labelSmoothing: K % 2 ? 0 : 0.1,
      scale: 1.5,
      gradients: true,
    }),
    formula: reference.linearCrossEntropy,
  },
  hippo: { args: (_, { N }) => ({ N, measure: 'legs' }) },
  s4dInit: { args: (_, { N }) => ({ N: 2 * N, init: 'legs' }) },
  s4Kernel: {
    args: (r, { L, P, N }) => ({
      A: r.tensor([P, N, 2], -2, -0.1),
      B: r.tensor([P, N, 2]),
      C: r.tensor([P, N, 2]),
      P: r.tensor([P, N, 2]),
      logDt: r.tensor([P], -4, -1),
      method: 'bilinear',
      real: false,
      L: Math.max(1, L),
    }),
  },
  s4Recurrent: {
    args: (r, { B, L, P, N }) => ({
      x: r.tensor([B, L, P]),
      A: r.tensor([P, N, 2], -2, -0.1),
      B: r.tensor([P, N, 2]),
      C: r.tensor([P, N, 2]),
      P: r.tensor([P, N, 2]),
      D: r.tensor([P]),
      logDt: r.tensor([P], -4, -1),
      method: 'bilinear',
      real: false,
      initialState: r.tensor([B, P, N, 2]),
    }),
    perToken: ['x'],
    state: ['initialState', 'lastState'],
  },
};
