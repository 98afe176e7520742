import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { filled, logDtInit, normal } from './initial.js';
import { checkKinds, even, type Kinds, oneOf, value } from './kinds.js';
import { linearBy } from './linear.js';

/**
 * How a linear time-invariant layer is computed. recurrent: step by step, with a state. convolution: whole sequences by
 * FFT; a session then takes its sequence in one call. auto: Model.run by convolution, sessions by recurrence. All give
 * the same numbers.
 */
export type LtiMode = 'auto' | 'recurrent' | 'convolution';

/** Of {@link s4d}. */
export interface S4dOptions {
  /** State size N in real numbers, even: N/2 complex values are kept. Default 64. */
  dState?: number | undefined;
  /** Default 'auto'. */
  mode?: LtiMode | undefined;
  residual?: Value | undefined;
}

export const mode = oneOf('auto', 'recurrent', 'convolution');

const S4D: Kinds<S4dOptions> = { dState: even, mode, residual: value };

/** The state space of S4D by itself (Gu et al. 2022, "S4D", equations 1 to 4): x to y, (tokens, channels) each. */
function s4dSystem(g: Graph, x: Value, w: Weights, o: S4dOptions): Value {
  const channels = x.dims[1] as number;
  const pairs = (o.dState ?? 64) / 2;
  const kernel = w.scope('kernel');
  const perPair = (values: (n: number) => number) => ({
    values: () => Float32Array.from({ length: channels * pairs }, (_, i) => values(i % pairs)),
  });
  const system = {
    x,
    A: kernel.combined(
      [
        { name: 'log_A_real', shape: [channels, pairs], init: filled(channels * pairs, Math.log(0.5)) },
        { name: 'A_imag', shape: [channels, pairs], init: perPair((n) => Math.PI * n) },
      ],
      [channels, pairs, 2],
      // -e^{log_A_real} + i·A_imag as [re, im].
      { terms: (i) => [i % 2 ? { values: [channels * pairs + (i >> 1)] } : { factor: -1, exp: i >> 1 }] },
    ),
    B: kernel.constant(
      () => Float32Array.from({ length: 2 * channels * pairs }, (_, i) => 1 - (i % 2)),
      [channels, pairs, 2],
    ),
    C: kernel.tensor('C', [channels, pairs, 2], { matrix: false, init: normal(2 * channels * pairs, Math.SQRT1_2) }),
    D: w.tensor('D', [channels], { init: normal(channels) }),
    logDt: kernel.tensor('log_dt', [channels], { init: logDtInit(channels) }),
  };
  const state = () => g.state([channels, pairs, 2]);
  const mode = o.mode ?? 'auto';
  if (mode === 'convolution') return g.op('s4Conv', system);
  if (mode === 'recurrent') return g.op('s4Recurrent', { ...system, state: state() });
  const y = g.buffer('tokens', channels);
  g.when('whole', () => g.op('s4Conv', system, {}, y));
  g.when('stream', () => g.op('s4Recurrent', { ...system, state: state() }, {}, y));
  return y;
}

/**
 * The S4D layer (Gu et al. 2022) as models/s4/s4d.py of the s4 repository has it: a diagonal state space of N/2 complex
 * pairs per channel, zero-order hold, B = 1, skip D; then GELU, a product to twice the width and a gated linear unit
 * (first half · sigmoid(second half)). x (tokens, d_model) to (tokens, d_model), plus `residual`.
 *
 * Weights: `D` (H), `kernel.log_dt` (H), `kernel.log_A_real` and `kernel.A_imag` (H, N/2), `kernel.C` (H, N/2, 2),
 * `output_linear.0.weight` (2H, H, 1) and `.bias` (2H).
 */
export function s4d(g: Graph, x: Value, w: Weights, o: S4dOptions = {}): Value {
  checkKinds('layers.s4d', o, S4D);
  const h = x.dims[1] as number;
  const y = g.op('activate', { x: s4dSystem(g, x, w, o) }, { activation: 'gelu' });
  const both = linearBy(
    g,
    y,
    w.tensor('output_linear.0.weight', [2 * h, h], { stored: [2 * h, h, 1], init: { uniform: 1 / Math.sqrt(h) } }),
    w.tensor('output_linear.0.bias', [2 * h], { init: 'zeros' }),
  ); // (tokens, 2 d_model)
  const [value, gate] = g.split(both, 2);
  const out = g.op('gate', { x: value, gate }, { activation: 'sigmoid' });
  return o.residual ? g.op('add', { a: o.residual, b: out }) : out;
}
