import type { KernelCase } from '../../support/golden.js';
import type { Adapters, Check } from '../check.js';
import { boundsOf, type Plain, permute, plain, reshape } from '../tensors.js';

/** B or C: constant (D, N), (B, N, L) or (B, G, N, L); complex ones hold re and im interleaved along L. */
function coefficients(c: KernelCase, name: string, length: number): Plain {
  const t = c.inputs[name]!;
  const pair = c.inputs.A!.shape.length === 3;
  if (t.shape.length === 2 || (pair && t.shape.length === 3 && t.shape[2] === 2 && t.shape[0] === c.inputs.A!.shape[0]))
    return plain(t);
  const grouped = t.shape.length === 4;
  if (!pair) return grouped ? permute(t, 0, 3, 1, 2) : permute(t, 0, 2, 1);
  const [batch, ...rest] = t.shape as [number, ...number[]];
  const inner = rest.slice(0, -1);
  const split = { data: t.data, shape: [batch, ...inner, length, 2] };
  return grouped ? permute(split, 0, 3, 1, 2, 4) : permute(split, 0, 2, 1, 3);
}

function selectiveScan(c: KernelCase): Check[] {
  const i = c.inputs;
  const length = i.u!.shape[2]!;
  const time = (name: string) => (i[name] ? permute(i[name], 0, 2, 1) : undefined);
  const vector = (name: string) => (i[name] ? plain(i[name]) : undefined);
  return [
    {
      op: 'selectiveScan',
      args: {
        u: time('u'),
        delta: time('delta'),
        A: plain(i.A!),
        B: coefficients(c, 'B', length),
        C: coefficients(c, 'C', length),
        D: vector('D'),
        z: time('z'),
        deltaBias: vector('delta_bias'),
        deltaSoftplus: c.flags.delta_softplus,
        initialState: vector('initial_state'),
        complex: i.A!.shape.length === 3,
      },
      expected: {
        y: { data: permute(c.outputs.y!, 0, 2, 1).data, tolerance: c.tolerance('y') },
        lastState: { data: c.outputs.last_state!.data, tolerance: c.tolerance('last_state') },
      },
    },
  ];
}

function selectiveStateUpdate(c: KernelCase): Check[] {
  const { dt_bias: dtBias, ...tensors } = Object.fromEntries(Object.entries(c.inputs).map(([k, t]) => [k, plain(t)]));
  return [
    {
      op: 'selectiveStateUpdate',
      args: { ...tensors, dtBias, dtSoftplus: c.flags.dt_softplus },
      expected: {
        y: { data: c.outputs.y!.data, tolerance: c.tolerance('y') },
        state: { data: c.outputs.state!.data, tolerance: c.tolerance('state') },
      },
    },
  ];
}

function ssd(c: KernelCase): Check[] {
  const { dt_bias, initial_states, seq_idx, cu_seqlens, ...rest } = c.inputs;
  const tensors = Object.fromEntries(Object.entries(rest).map(([k, t]) => [k, plain(t)]));
  const state = c.outputs.varlen_final_states ? 'varlen_final_states' : 'final_states';
  const modes = [
    { mode: 'recurrent' },
    { mode: 'quadratic' },
    { mode: 'chunked' },
    { mode: 'chunked', chunkSize: c.flags.chunk_size_used_by_references },
    { mode: 'chunked', chunkSize: 5 },
  ] as const;
  return modes.map((m) => {
    const form = m.mode === 'recurrent' ? 'sequential' : 'chunked';
    return {
      op: 'ssd',
      what: JSON.stringify(m),
      args: {
        ...tensors,
        ...m,
        dtBias: dt_bias && plain(dt_bias),
        initialState: initial_states && plain(initial_states),
        cuSeqlens: seq_idx && boundsOf(seq_idx),
        dtSoftplus: c.flags.dt_softplus,
        dtLimit: c.flags.dt_limit,
      },
      expected: {
        y: { data: c.outputs.y!.data, tolerance: c.tolerance('y', form) },
        lastState: { data: c.outputs[state]!.data, tolerance: c.tolerance(state, form) },
      },
    };
  });
}

const discretizations = { zoh: 'dB_exact', 'zoh-euler': 'dB_simplified', bilinear: 'bilinear_dB' };

/** One time step per channel: (B, L, D) is (1, 1, D). */
function zohDiag(c: KernelCase): Check[] {
  const { A, B, dt } = c.inputs;
  return Object.entries(discretizations).map(([method, dB]) => {
    const dA = method === 'bilinear' ? 'bilinear_dA' : 'dA';
    return {
      op: 'discretize',
      what: method,
      args: { delta: reshape(plain(dt!), 1, 1, dt!.shape[0]!), A: plain(A!), B: plain(B!), method },
      expected: {
        Abar: { data: c.outputs[dA]!.data, tolerance: c.tolerance(dA) },
        Bbar: { data: c.outputs[dB]!.data, tolerance: c.tolerance(dB) },
      },
    };
  });
}

function zohDense(c: KernelCase): Check[] {
  const { A, B, dt } = c.inputs;
  return (['zoh', 'bilinear'] as const).map((method) => {
    const [dA, dB] = method === 'bilinear' ? (['bilinear_dA', 'bilinear_dB'] as const) : (['dA', 'dB'] as const);
    return {
      op: 'discretizeDense',
      what: method,
      args: { delta: dt!.data[0], A: plain(A!), B: plain(B!), method },
      expected: {
        Abar: { data: c.outputs[dA]!.data, tolerance: c.tolerance(dA) },
        Bbar: { data: c.outputs[dB]!.data, tolerance: c.tolerance(dB) },
      },
    };
  });
}

function rgLru(c: KernelCase): Check[] {
  const { x, position_ids, recurrent_param, ...gates } = c.inputs;
  return [
    {
      op: 'rgLru',
      args: {
        x: plain(x!),
        positions: Int32Array.from(position_ids!.data),
        inputGateWeight: plain(gates.input_gate_weight!),
        inputGateBias: plain(gates.input_gate_bias!),
        recurrentGateWeight: plain(gates.recurrent_gate_weight!),
        recurrentGateBias: plain(gates.recurrent_gate_bias!),
        recurrentParam: plain(recurrent_param!),
      },
      expected: { y: { data: c.outputs.y!.data, tolerance: c.tolerance('y') } },
    },
  ];
}

export const scans: Adapters = {
  selective_scan: selectiveScan,
  selective_state_update: selectiveStateUpdate,
  ssd,
  rg_lru: rgLru,
  zoh_diag: zohDiag,
  zoh_dense: zohDense,
};
