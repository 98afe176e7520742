import type { Graph, Value } from '../graph/graph.js';
import type { Part, Weights } from '../graph/weights.js';
import { filled } from './initial.js';
import { checkKinds, type Kinds, needed, size, value } from './kinds.js';
import { linear, linearBy } from './linear.js';
import { conv1d, dtBiasInit } from './mamba.js';
import { type LtiMode, mode } from './s4d.js';

/** Of {@link simpleSSM}. */
export interface SimpleSsmOptions {
  /** N. */
  dState: number;
  /**
   * Default 'recurrent'. The convolution has a kernel for every pair of an input and an output, so it costs d_model
   * times as much; it is there because it is the same function.
   */
  mode?: LtiMode | undefined;
  residual?: Value | undefined;
}

const SIMPLE_SSM: Kinds<SimpleSsmOptions> = { dState: needed(size), mode, residual: value };

/**
 * A dense linear state space without input dependence, x (tokens, d_model) to (tokens, d_model), plus `residual`:
 * Ā = e^{ΔA}, B̄ = ΔB, h ← Āh + B̄x, y = Ch; or y as the convolution of x with K_j = C·Āʲ·B̄, the same numbers.
 *
 * Weights: `A` (N, N), `B` (N, D), `C` (D, N), `delta` (1).
 */
export function simpleSSM(g: Graph, x: Value, w: Weights, o: SimpleSsmOptions): Value {
  checkKinds('layers.simpleSSM', o, SIMPLE_SSM);
  const width = x.dims[1] as number;
  const { dState, mode = 'recurrent' } = o;
  // A new layer forgets at rates of 1 to N a unit of time.
  const decay = {
    values: () => Float32Array.from({ length: dState ** 2 }, (_, i) => (i % (dState + 1) ? 0 : -1 - i / (dState + 1))),
  };
  const delta: Part = { name: 'delta', shape: [1], init: filled(1, 0.1) };
  const times = (name: string, columns: number, init?: Part['init']) => ({
    parts: [{ name, shape: [dState, columns], init }, delta],
    shape: [dState, columns],
    terms: (i: number) => [{ values: [i, dState * columns] }],
  });
  const inputs = times('B', width);
  // e^{ΔA} in f64 inside; what the op does of B is no more than ΔB.
  const A = w.made(
    'discretizeDense',
    { A: times('A', dState, decay), B: inputs },
    {
      output: 'Abar',
      outputs: { Abar: [dState, dState], Bbar: [dState, width] },
      attrs: { delta: 1, method: 'zoh-euler' },
    },
  );
  const B = w.combined(inputs.parts, inputs.shape, { terms: inputs.terms, matrix: false });
  const C = w.tensor('C', [width, dState], { matrix: false });
  const y = g.buffer('tokens', width);
  const whole = () => g.op('denseConv', { x, A, B, C }, {}, y);
  const stream = () => {
    const h = g.op('denseScan', { v: linearBy(g, x, B), A, state: g.state([dState]) }); // (tokens, d_state)
    g.op('linear', { x: h, weight: C }, {}, y);
  };
  if (mode === 'convolution') whole();
  else if (mode === 'recurrent') stream();
  else {
    g.when('whole', whole);
    g.when('stream', stream);
  }
  return o.residual ? g.op('add', { a: o.residual, b: y }) : y;
}

/** Of {@link selectiveSSM}. */
export interface SelectiveSsmOptions {
  /** N. */
  dState: number;
  /** K. Default 4. */
  dConv?: number | undefined;
  residual?: Value | undefined;
}

const SELECTIVE_SSM: Kinds<SelectiveSsmOptions> = { dState: needed(size), dConv: size, residual: value };

/**
 * Mamba's layer in its plainest form, x (tokens, d_model) to (tokens, d_model), plus `residual`: [u, z] = in_proj x;
 * u ← silu(conv u); Δ = softplus(delta_proj u), B = B_proj u, C = C_proj u; Ā = e^{ΔA} with A = −e^{A_log} shared by all
 * channels, B̄ = ΔB; h ← Āh + B̄u, y = C·h; out_proj(y · silu(z)). No low-rank dt, no expansion, no skip term.
 *
 * Weights, all with bias: `in_proj` (2D, D), `conv1d` (D, 1, K), `B_proj` and `C_proj` (N, D), `delta_proj` (D, D),
 * `out_proj` (D, D); and `A_log` (N).
 */
export function selectiveSSM(g: Graph, x: Value, w: Weights, o: SelectiveSsmOptions): Value {
  checkKinds('layers.selectiveSSM', o, SELECTIVE_SSM);
  const d = x.dims[1] as number;
  const { dState } = o;
  const [u, z] = g.split(linear(g, x, w, 'in_proj', 2 * d, { bias: true }), 2); // (tokens, d_model) each
  const h = conv1d(g, u!, w, { dConv: o.dConv ?? 4 });
  const y = g.op(
    'selectiveScan',
    {
      u: h,
      delta: linearBy(g, h, w.tensor('delta_proj.weight', [d, d])), // its bias joins inside the scan
      A: w.combined(
        [
          {
            name: 'A_log',
            shape: [dState],
            init: { values: () => Float32Array.from({ length: dState }, (_, n) => Math.log(1 + n)) },
          },
        ],
        [d, dState],
        { terms: (i) => [{ factor: -1, exp: i % dState }] },
      ),
      B: g.reshape(linear(g, h, w, 'B_proj', dState, { bias: true }), 1, dState),
      C: g.reshape(linear(g, h, w, 'C_proj', dState, { bias: true }), 1, dState),
      z,
      deltaBias: w.tensor('delta_proj.bias', [d], { init: dtBiasInit(d) }),
      state: g.state([d, dState]),
    },
    { deltaSoftplus: true },
  );
  return linear(g, y, w, 'out_proj', d, { bias: true, residual: o.residual });
}
