// Valid calls of the recurrences over heads and of RWKV's mixers, with random shapes and values.
import * as linearAttention from './linear-attention-reference.js';
import type { Random } from './random.js';
import type { Args } from './reference.js';
import type { Dims, Sample } from './sample.js';

const delta: Omit<Sample, 'args'> = {
  formula: linearAttention.deltaRule,
  state: ['initialState', 'lastState'],
  modes: ['chunked', 'recurrent'],
};

/** Of the delta rules; decay makes g for (B, L, heads). */
const deltaArgs = (r: Random, { B, L, G, R, P, N }: Dims, decay?: (shape: number[]) => unknown): Args => ({
  q: r.unit([B, L, G, P]),
  k: r.unit([B, L, G, P]),
  v: r.tensor([B, L, G * R, N]),
  ...(decay && { g: decay([B, L, G * R]) }),
  beta: r.tensor([B, L, G * R], 0, 1),
  initialState: r.tensor([B, G * R, P, N]),
  mode: 'chunked',
});

export const headRecurrences = {
  wkv4: {
    args: (r, { B, L, P }) => ({
      k: r.tensor([B, L, P], -3, 3),
      v: r.tensor([B, L, P]),
      timeDecay: r.tensor([P], -3, 1),
      timeFirst: r.tensor([P]),
      initialState: r.tensor([B, 3, P], 0.1, 1),
    }),
    formula: linearAttention.wkv4,
    perToken: ['k', 'v'],
    state: ['initialState', 'lastState'],
  },
  wkv6: {
    args: (r, { B, L, R, P, N, K }) => ({
      r: r.tensor([B, L, R, P]),
      k: r.tensor([B, L, R, P]),
      v: r.tensor([B, L, R, N]),
      w: K % 2 ? r.tensor([B, L, R, P], -5, 0) : r.tensor([R, P], -2, 0),
      u: r.tensor([R, P]),
      initialState: r.tensor([B, R, P, N]),
      mode: 'chunked',
    }),
    formula: linearAttention.wkv6,
    perToken: ['r', 'k', 'v', 'w'],
    state: ['initialState', 'lastState'],
    modes: ['chunked', 'recurrent'],
  },
  wkv7: {
    args: (r, { B, L, R, P, N }) => {
      const k = r.unit([B, L, R, P]);
      return {
        r: r.tensor([B, L, R, P]),
        w: r.tensor([B, L, R, P], -0.6, 0),
        k,
        v: r.tensor([B, L, R, N]),
        a: { data: k.data.map((x) => -x), shape: k.shape },
        b: { data: k.data.map((x) => x * r.next()), shape: k.shape },
        initialState: r.tensor([B, R, N, P]),
        mode: 'chunked',
      };
    },
    formula: linearAttention.wkv7,
    perToken: ['r', 'w', 'k', 'v', 'a', 'b'],
    state: ['initialState', 'lastState'],
    modes: ['chunked', 'recurrent'],
  },
  retention: {
    args: (r, { B, L, R, P, N, K }) => ({
      q: r.tensor([B, L, R, P]),
      k: r.tensor([B, L, R, P]),
      v: r.tensor([B, L, R, N]),
      logDecay: r.tensor([R], -1, 0),
      initialState: r.tensor([B, R, P, N]),
      mode: 'chunkwise',
      chunkSize: 2 * K,
    }),
    formula: linearAttention.retention,
    perToken: ['q', 'k', 'v'],
    state: ['initialState', 'lastState'],
    modes: ['chunkwise', 'recurrent', 'parallel'],
  },
  gatedDeltaRule: {
    args: (r, d) => deltaArgs(r, d, (shape) => r.tensor(shape, -2, 0)),
    ...delta,
    perToken: ['q', 'k', 'v', 'g', 'beta'],
  },
  kda: {
    args: (r, d) => deltaArgs(r, d, (shape) => r.tensor([...shape, d.P], -2, 0)),
    ...delta,
    perToken: ['q', 'k', 'v', 'g', 'beta'],
  },
  deltaRule: { args: (r, d) => deltaArgs(r, d), ...delta, perToken: ['q', 'k', 'v', 'beta'] },
  gla: {
    args: (r, { B, L, R, P, N }) => ({
      q: r.tensor([B, L, R, P]),
      k: r.tensor([B, L, R, P]),
      v: r.tensor([B, L, R, N]),
      g: r.tensor([B, L, R, P], -5, 0),
      initialState: r.tensor([B, R, P, N]),
      mode: 'chunked',
    }),
    formula: linearAttention.linearAttention,
    perToken: ['q', 'k', 'v', 'g'],
    state: ['initialState', 'lastState'],
    modes: ['chunked', 'recurrent'],
  },
  lightningAttention: {
    args: (r, { B, L, R, P, N }) => ({
      q: r.tensor([B, L, R, P]),
      k: r.tensor([B, L, R, P]),
      v: r.tensor([B, L, R, N]),
      slope: r.tensor([R], 0, 1),
      initialState: r.tensor([B, R, P, N]),
      mode: 'chunked',
    }),
    formula: linearAttention.linearAttention,
    perToken: ['q', 'k', 'v'],
    state: ['initialState', 'lastState'],
    modes: ['chunked', 'recurrent'],
  },
} satisfies Record<string, Sample>;
