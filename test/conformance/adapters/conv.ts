import type { KernelCase } from '../../support/golden.js';
import type { Adapters, Check } from '../check.js';
import { type Plain, permute, plain } from '../tensors.js';

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

export const convolutions: Adapters = {
  causal_conv1d: causalConv1d,
  causal_conv1d_update: causalConv1dUpdate,
  fft_long_conv: fftLongConv,
};
