import type { GoldenTensor, KernelCase } from '../../support/golden.js';
import type { Adapters, Check, Expected } from '../check.js';
import { type Plain, permute, plain, reshape, slice } from '../tensors.js';

const pairs = (data: ArrayLike<number>) =>
  Array.from({ length: data.length / 2 }, (_, i) => [data[2 * i]!, data[2 * i + 1]!] as const);
const magnitudes = (data: ArrayLike<number>) => pairs(data).map(([re, im]) => Math.hypot(re, im));

/** A = -exp(A_real) - i·A_imag, as the checkpoints hold it. */
function diagonal({ A_real, A_imag }: Readonly<Record<string, GoldenTensor>>): Plain {
  const re = Array.from(A_real!.data, (x) => -Math.exp(x));
  if (!A_imag) return { data: Float32Array.from(re), shape: A_real!.shape };
  const data = Float32Array.from(re.flatMap((x, i) => [x, -A_imag.data[i]!]));
  return { data, shape: [...A_real!.shape, 2] };
}

/** The kernel, the convolution with it, and the recurrence that equals it. */
function s4(c: KernelCase): Check[] {
  const { B, C, P, D, inv_dt, x } = c.inputs;
  const real = c.flags.is_real === true;
  const drop = (t: GoldenTensor) => reshape(plain(t), ...t.shape.slice(1)); // one row of channels
  const [channels, length] = [x!.shape[1]!, x!.shape[2]!];
  const system = {
    A: diagonal(c.inputs),
    B: drop(B!),
    C: drop(C!),
    P: P && drop(P),
    logDt: reshape(plain(inv_dt!), channels),
    method: (c.flags.disc as string | undefined) ?? 'bilinear',
    real,
  };
  const skip = reshape(plain(D!), channels);
  const input = permute(x!, 0, 2, 1);
  const output = (name: string): Expected => ({
    data: permute(c.outputs[name]!, 0, 2, 1).data,
    tolerance: c.tolerance(name, 'chunked'),
  });
  const K = plain(c.outputs.K!);
  const checks: Check[] = [
    {
      op: 's4Kernel',
      args: { ...system, L: length },
      expected: { K: { data: K.data, tolerance: c.tolerance('K', 'chunked') } },
    },
    {
      op: 'fftConv',
      args: { x: input, kernel: reshape(K, channels, length), D: skip },
      expected: { y: output('y_conv') },
    },
  ];
  const step: Check = { op: 's4Recurrent', args: { ...system, x: input, D: skip }, expected: {} };
  step.expected.y = output(c.outputs.y_step ? 'y_step' : 'y_conv');
  if (c.outputs.final_state) {
    // The dense reference holds both halves of the pairs; the kept half is first.
    const kept = slice(c.outputs.final_state, 2, 0, system.A.shape[1]!);
    step.expected.lastState = { data: kept.data, tolerance: c.tolerance('final_state', 'chunked') };
  }
  return [...checks, step];
}

function hippoLegs(c: KernelCase): Check[] {
  return [
    {
      op: 'hippo',
      args: { N: c.flags.N, measure: 'legs' },
      expected: {
        A: { data: c.outputs.A!.data, tolerance: c.tolerance('A') },
        B: { data: c.outputs.B!.data, tolerance: c.tolerance('B') },
      },
    },
  ];
}

/** The corpus repeats a row for each of its channels; the sign of an eigenvector is free, so B is compared by size. */
function s4dInit(c: KernelCase): Check[] {
  const half = (c.flags.N as number) / 2;
  const first = (name: string) => c.outputs[name]!.data.slice(0, 2 * half);
  return [
    {
      op: 's4dInit',
      args: { N: c.flags.N, init: c.flags.init },
      expected: {
        A: { data: first('A'), tolerance: c.tolerance('A') },
        B: { data: magnitudes(first('B')), view: magnitudes, tolerance: c.tolerance('B') },
      },
    },
  ];
}

function nplrLegs(c: KernelCase): Check[] {
  return [
    {
      op: 's4dInit',
      args: { N: c.flags.N, init: 'legs' },
      expected: {
        A: { data: c.outputs.A_diag!.data, tolerance: c.tolerance('A_diag') },
        B: { data: magnitudes(c.outputs.B!.data), view: magnitudes, tolerance: c.tolerance('B') },
      },
    },
  ];
}

export const s4Family: Adapters = {
  s4d: s4,
  s4_dplr: s4,
  hippo_legs: hippoLegs,
  s4d_init: s4dInit,
  s4_nplr_legs: nplrLegs,
};
