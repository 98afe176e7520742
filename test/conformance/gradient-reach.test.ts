// What may reach which gradient in time: one NaN or infinity in one token of one input changes no gradient of tokens and
// sequences that do not depend on it.
import { describe, expect, it } from 'vitest';
import { onDevice, onEveryBackend } from './backends.js';
import { callSync, type OpName } from './check.js';
import { Random } from './random.js';
import type { Args } from './reference.js';
import { type Dims, samples } from './samples.js';

const dims: Dims[] = [
  { B: 2, L: 70, G: 2, R: 2, P: 5, N: 6, K: 5 },
  { B: 1, L: 37, G: 1, R: 2, P: 17, N: 20, K: 3 },
  { B: 2, L: 300, G: 2, R: 2, P: 5, N: 6, K: 5 },
];

/**
 * Gradients in time: what reads (dy, queries, gates) reaches those of its own and earlier tokens, what is written those of
 * its own and later ones.
 */
type Pairs = [from: string[], to: string[]];
const inTime: Partial<Record<OpName, { back: Pairs; on: Pairs; alsoBack?: Pairs }>> = {
  selectiveScanBackward: {
    back: [
      ['dy', 'C', 'z'],
      ['du', 'ddelta', 'dB'],
    ],
    on: [
      ['u', 'B'],
      ['dC', 'dz'],
    ],
  },
  ssdBackward: {
    back: [
      ['dy', 'C', 'z'],
      ['dx', 'ddt', 'dB'],
    ],
    on: [
      ['x', 'B'],
      ['dC', 'dz'],
    ],
  },
  retentionBackward: {
    back: [
      ['dy', 'q'],
      ['dk', 'dv'],
    ],
    on: [['k', 'v'], ['dq']],
  },
  gatedDeltaRuleBackward: {
    back: [
      ['dy', 'q'],
      ['dk', 'dv', 'dg', 'dbeta'],
    ],
    on: [['k', 'v', 'beta', 'g'], ['dq']],
    alsoBack: [['k', 'beta', 'g'], ['dv']],
  },
  glaBackward: {
    back: [
      ['dy', 'q'],
      ['dk', 'dv', 'dg'],
    ],
    on: [['k', 'v'], ['dq']],
  },
  mamba3Backward: {
    back: [
      ['dy', 'C', 'z'],
      ['dx', 'dB', 'dadt'],
    ],
    on: [
      ['x', 'B'],
      ['dC', 'dz'],
    ],
  },
  rgLruBackward: { back: [['dy'], ['dx']], on: [[], []] },
  wkv4Backward: { back: [['dy'], ['dk', 'dv']], on: [[], []] },
  wkv6Backward: {
    back: [
      ['dy', 'r'],
      ['dk', 'dv', 'dw'],
    ],
    on: [['k', 'v'], ['dr']],
  },
  wkv7Backward: {
    back: [
      ['dy', 'r'],
      ['dw', 'dk', 'dv', 'da', 'db'],
    ],
    on: [['w', 'k', 'v', 'a', 'b'], ['dr']],
  },
  attentionBackward: {
    back: [
      ['dy', 'q'],
      ['dk', 'dv'],
    ],
    on: [['k', 'v'], ['dq']],
  },
  causalConv1dBackward: { back: [['dy'], ['dx']], on: [[], []] },
  fftConvBackward: { back: [['dy'], ['dx']], on: [[], []] },
};

function gradientSuite(op: OpName, d: Dims): void {
  const r = new Random(23);
  const a: Args = { ...samples[op].args(r, d), ...(op === 'attentionBackward' && { causal: true, window: 0 }) };
  const tokens = d.B * d.L;
  const perToken = (t: { shape: readonly number[] }) => t.shape[0] === d.B && t.shape[1] === d.L;
  const clean = callSync(op, a);
  const found: string[] = [];
  // Anywhere, and at the first token, which a chunk's last rows may stand beside in memory.
  for (const [way, [inputs, outputs]] of Object.entries(inTime[op]!))
    for (const name of inputs)
      for (const [value, share] of [
        [Number.NaN, r.next()],
        [Number.POSITIVE_INFINITY, r.next()],
        [Number.NaN, 0],
      ] as const) {
        if (!a[name] || !perToken(a[name])) continue;
        const data = Float32Array.from(a[name].data as Float32Array);
        const at = Math.floor(share * data.length);
        data[at] = value;
        const token = Math.floor(at / (data.length / tokens));
        const spoilt = callSync(op, { ...a, [name]: { data, shape: a[name].shape } });
        for (const output of outputs) {
          if (!clean[output] || !perToken(clean[output])) continue;
          const [before, after] = [clean, spoilt].map((o) => o[output]!.data as Float32Array);
          const most = before!.reduce((m, x) => Math.max(m, Math.abs(x)), 1);
          for (const [i, x] of before!.entries()) {
            const to = Math.floor(i / (before!.length / tokens));
            const reached =
              Math.floor(to / d.L) === Math.floor(token / d.L) && (way === 'on' ? to >= token : to <= token);
            if (reached || Math.abs(after![i]! - x) <= 1e-4 * most) continue;
            found.push(`${name} of token ${token} → ${output} of ${to}`);
            break;
          }
        }
      }
  expect(found).toEqual([]);
}

onEveryBackend(() => {
  describe('gradients of other tokens are kept apart, as the values are', () => {
    for (const op of Object.keys(inTime) as OpName[])
      for (const d of dims)
        it(`${op} L=${d.L}`, ({ skip }) => {
          skip(onDevice, 'of the CPU: the devices have few gradients');
          gradientSuite(op, d);
        });
  });
});
