import type { GoldenTensor, KernelCase } from '../../support/golden.js';
import type { Adapters, Check } from '../check.js';
import { type Plain, permute, plain, reshape, slice } from '../tensors.js';

function causalConv1d(c: KernelCase): Check[] {
  const { x, weight, bias, initial_states, cu_seqlens } = c.inputs;
  const state = c.outputs.varlen_final_states ? 'varlen_final_states' : 'final_states';
  const expected: Check['expected'] = {
    y: { data: permute(c.outputs.y!, 0, 2, 1).data, tolerance: c.tolerance('y') },
  };
  if (c.outputs[state]) expected.finalState = { data: c.outputs[state].data, tolerance: c.tolerance(state) };
  return [
    {
      op: 'causalConv1d',
      args: {
        x: permute(x!, 0, 2, 1),
        weight: plain(weight!),
        bias: bias && plain(bias),
        activation: c.flags.activation ?? 'none',
        initialState: initial_states && plain(initial_states),
        cuSeqlens: cu_seqlens && Int32Array.from(cu_seqlens.data),
      },
      expected,
    },
  ];
}

/** The last K-1 inputs of a state (B, D, state_len) that ends at `end` of each sequence, modulo its length. */
function lastInputs(state: Plain, count: number, end: (b: number) => number): Plain {
  const [batch, channels, length] = state.shape as [number, number, number];
  const data = new Float32Array(batch * channels * count);
  for (let b = 0; b < batch; b++)
    for (let d = 0; d < channels; d++)
      for (let j = 0; j < count; j++) {
        const at = (end(b) - count + j + 2 * length) % length;
        data[(b * channels + d) * count + j] = state.data[(b * channels + d) * length + at]!;
      }
  return { data, shape: [batch, channels, count] };
}

/** One or a few more inputs on a state that may be longer than K-1, or circular. */
function causalConv1dUpdate(c: KernelCase): Check[] {
  const { x, weight, bias, conv_state, cache_seqlens } = c.inputs;
  const width = weight!.shape[1]!;
  const steps = x!.shape[2] ?? 1;
  const length = conv_state!.shape[2]!;
  const before = (b: number) => (cache_seqlens ? cache_seqlens.data[b]! % length : length);
  const after = (b: number) => (cache_seqlens ? (cache_seqlens.data[b]! + steps) % length : length);
  const time = (t: Plain) => permute({ data: t.data, shape: [t.shape[0]!, t.shape[1]!, steps] }, 0, 2, 1);
  return [
    {
      op: 'causalConv1d',
      args: {
        x: time(plain(x!)),
        weight: plain(weight!),
        bias: bias && plain(bias),
        activation: c.flags.activation ?? 'none',
        initialState: lastInputs(plain(conv_state!), width - 1, before),
      },
      expected: {
        y: { data: time(plain(c.outputs.y!)).data, tolerance: c.tolerance('y') },
        finalState: {
          data: lastInputs(plain(c.outputs.conv_state!), width - 1, after).data,
          tolerance: c.tolerance('conv_state'),
        },
      },
    },
  ];
}

function fftLongConv(c: KernelCase): Check[] {
  const { u, k, D } = c.inputs;
  return [
    {
      op: 'fftConv',
      args: { x: permute(u!, 0, 2, 1), kernel: plain(k!), D: plain(D!) },
      expected: { y: { data: permute(c.outputs.y!, 0, 2, 1).data, tolerance: c.tolerance('y') } },
    },
  ];
}

/** x·Wᵀ + bias in f64, rows of (…, in) by a weight (out, in). */
function project(x: ArrayLike<number>, weight: GoldenTensor, bias: GoldenTensor | undefined): Float64Array {
  const [out, inner] = weight.shape as [number, number];
  return Float64Array.from({ length: (x.length / inner) * out }, (_, at) => {
    const [row, o] = [Math.floor(at / out), at % out];
    let sum = bias?.data[o] ?? 0;
    for (let i = 0; i < inner; i++) sum += x[row * inner + i]! * weight.data[o * inner + i]!;
    return sum;
  });
}

/** The files hold the layer with its projections: they are made here, around the op. */
function shortConv(c: KernelCase): Check[] {
  const { x, in_proj__weight, in_proj__bias, conv__weight, conv__bias, out_proj__weight, out_proj__bias } = c.inputs;
  const [B, L, D] = x!.shape as [number, number, number];
  const rows = { data: Float32Array.from(project(x!.data, in_proj__weight!, in_proj__bias)), shape: [B, L, 3 * D] };
  const part = (i: number) => slice(rows, 2, i * D, (i + 1) * D);
  return [
    {
      op: 'shortConv',
      args: {
        b: part(0),
        c: part(1),
        x: part(2),
        weight: reshape(plain(conv__weight!), D, conv__weight!.shape[2]!),
        bias: conv__bias && plain(conv__bias),
      },
      expected: {
        y: {
          data: c.outputs.y!.data,
          tolerance: c.tolerance('y'),
          view: (y) => project(y, out_proj__weight!, out_proj__bias),
        },
      },
    },
  ];
}

export const convolutions: Adapters = {
  causal_conv1d: causalConv1d,
  causal_conv1d_update: causalConv1dUpdate,
  fft_long_conv: fftLongConv,
  short_conv: shortConv,
};
