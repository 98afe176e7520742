import type { GoldenTensor, KernelCase } from '../../support/golden.js';
import type { Adapters, Check, OpName } from '../check.js';
import { permute, plain } from '../tensors.js';

const heads = (t: GoldenTensor) => permute(t, 0, 2, 1, 3); // (B, H, L, ·) to (B, L, H, ·)

/** The same call in every mode; the forms that sum in another order have the tolerance of chunked references. */
function inModes(
  c: KernelCase,
  op: OpName,
  modes: readonly string[],
  args: Record<string, unknown>,
  y: Float32Array,
): Check[] {
  return modes.map((mode) => {
    const form = mode === 'recurrent' ? 'sequential' : 'chunked';
    return {
      op,
      what: mode,
      args: { ...args, mode },
      expected: {
        y: { data: y, tolerance: c.tolerance('y', form) },
        lastState: { data: c.outputs.state!.data, tolerance: c.tolerance('state', form) },
      },
    };
  });
}

function wkv4(c: KernelCase): Check[] {
  const { key, value, time_decay, time_first, num, den, mx } = c.inputs;
  // Three (B, D) as one (B, 3, D).
  const state = (parts: (GoldenTensor | undefined)[]) => {
    const [batch, channels] = parts[0]!.shape as [number, number];
    const data = new Float32Array(batch * 3 * channels);
    parts.forEach((p, i) => {
      for (let b = 0; b < batch; b++)
        data.set(p!.data.subarray(b * channels, (b + 1) * channels), (b * 3 + i) * channels);
    });
    return { data, shape: [batch, 3, channels] };
  };
  const names = ['num_state', 'den_state', 'max_state'] as const;
  const tolerances = names.map((n) => c.tolerance(n));
  const loosest = tolerances.reduce((a, b) => (a.atol > b.atol ? a : b));
  return [
    {
      op: 'wkv4',
      args: {
        k: plain(key!),
        v: plain(value!),
        timeDecay: plain(time_decay!),
        timeFirst: plain(time_first!),
        initialState: num && state([num, den, mx]),
      },
      expected: {
        y: { data: c.outputs.y!.data, tolerance: c.tolerance('y') },
        lastState: { data: state(names.map((n) => c.outputs[n])).data, tolerance: loosest },
      },
    },
  ];
}

/** RWKV-5 files hold the raw time_decay (H, K), RWKV-6 files the log decay (B, H, L, K). */
function wkv6(c: KernelCase): Check[] {
  const { r, k, v, w, u, initial_state } = c.inputs;
  const decay =
    c.op === 'rwkv5_wkv' ? { data: Float32Array.from(w!.data, (x) => -Math.exp(x)), shape: w!.shape } : heads(w!);
  const args = { r: heads(r!), k: heads(k!), v: heads(v!), w: decay, u: plain(u!) };
  const initialState = initial_state && plain(initial_state);
  return inModes(c, 'wkv6', ['recurrent', 'chunked'], { ...args, initialState }, heads(c.outputs.y!).data);
}

function wkv7(c: KernelCase): Check[] {
  const { initial_state, ...rest } = c.inputs;
  const args = Object.fromEntries(Object.entries(rest).map(([name, t]) => [name, heads(t)]));
  const initialState = initial_state && plain(initial_state);
  return inModes(c, 'wkv7', ['recurrent', 'chunked'], { ...args, initialState }, heads(c.outputs.y!).data);
}

function retention(c: KernelCase): Check[] {
  const { q, k, v } = c.inputs;
  const args = { q: heads(q!), k: heads(k!), v: heads(v!) };
  const y = heads(c.outputs.y!).data;
  return [
    ...inModes(c, 'retention', ['recurrent', 'chunkwise', 'parallel'], args, y),
    ...inModes(c, 'retention', ['chunkwise'], { ...args, chunkSize: 3 }, y),
  ];
}

/** Files of (B, L, H, ·) whose inputs are named as the op's arguments. */
const asNamed =
  (op: OpName) =>
  (c: KernelCase): Check[] => {
    const { initial_state, ...rest } = c.inputs;
    const args = Object.fromEntries(Object.entries(rest).map(([name, t]) => [name, plain(t)]));
    const initialState = initial_state && plain(initial_state);
    return inModes(c, op, ['recurrent', 'chunked'], { ...args, initialState }, plain(c.outputs.y!).data);
  };

export const linearAttention: Adapters = {
  rwkv4_wkv: wkv4,
  rwkv5_wkv: wkv6,
  rwkv6_wkv: wkv6,
  rwkv7_wkv: wkv7,
  retention,
  gated_delta_rule: asNamed('gatedDeltaRule'),
  delta_rule: asNamed('deltaRule'),
  kda: asNamed('kda'),
  gla: asNamed('gla'),
  lightning_attention: asNamed('lightningAttention'),
};
