import type { KernelCase } from '../../support/golden.js';
import type { Adapters, Check } from '../check.js';
import { permute, plain, reshape } from '../tensors.js';

function attention(c: KernelCase): Check[] {
  const { q, k, v, cu_seqlens } = c.inputs;
  const y = c.outputs.y!;
  // (B, H, L, P); packed ones are (L, H, P) already.
  const tokenMajor = (t: typeof y) =>
    t.shape.length === 3 ? reshape(plain(t), 1, ...t.shape) : permute(t, 0, 2, 1, 3);
  const { scale, window, causal, softcap } = c.flags;
  return [
    {
      op: 'attention',
      args: {
        q: tokenMajor(q!),
        k: tokenMajor(k!),
        v: tokenMajor(v!),
        causal,
        window: window ?? 0,
        softcap: softcap ?? 0,
        scale: typeof scale === 'number' ? scale : undefined, // "1/sqrt(P)" is the default
        cuSeqlens: cu_seqlens && Int32Array.from(cu_seqlens.data),
      },
      expected: { y: { data: tokenMajor(y).data, tolerance: c.tolerance('y') } },
    },
  ];
}

function rope(c: KernelCase): Check[] {
  const { scaling, theta, style } = c.flags as { scaling: unknown; theta: number; style: string };
  const { rope_type, ...keys } = (typeof scaling === 'object' ? (scaling ?? {}) : {}) as Record<string, unknown>;
  return (['q', 'k'] as const).map((name) => ({
    op: 'rope',
    what: name,
    args: {
      x: permute(c.inputs[name]!, 0, 2, 1, 3),
      positions: Int32Array.from(c.inputs.position_ids!.data),
      theta,
      interleaved: style === 'interleaved',
      scaling: rope_type ? { type: rope_type, ...keys } : undefined,
    },
    expected: {
      y: { data: permute(c.outputs[`${name}_rot`]!, 0, 2, 1, 3).data, tolerance: c.tolerance(`${name}_rot`) },
    },
  }));
}

function rmsNorm(c: KernelCase): Check[] {
  const tensors = Object.fromEntries(Object.entries(c.inputs).map(([k, t]) => [k, plain(t)]));
  const { eps, group_size, norm_before_gate, offset } = c.flags;
  return [
    {
      op: 'rmsNorm',
      args: {
        ...tensors,
        eps,
        groupSize: group_size ?? undefined,
        normBeforeGate: norm_before_gate,
        unitOffset: offset === 1,
      },
      expected: { y: { data: c.outputs.y!.data, tolerance: c.tolerance('y') } },
    },
  ];
}

function layerNorm(c: KernelCase): Check[] {
  const tensors = Object.fromEntries(Object.entries(c.inputs).map(([k, t]) => [k, plain(t)]));
  const groups = c.flags.groups as number | undefined;
  const groupSize = groups && c.inputs.x!.shape.at(-1)! / groups;
  return [
    {
      op: 'layerNorm',
      args: { ...tensors, eps: c.flags.eps, groupSize },
      expected: { y: { data: c.outputs.y!.data, tolerance: c.tolerance('y') } },
    },
  ];
}

/** The norm of a sum; the sum itself is the caller's. */
function addNorm(c: KernelCase): Check[] {
  const { x, residual, weight, bias } = c.inputs;
  const sum = { data: Float32Array.from(x!.data, (v, i) => v + residual!.data[i]!), shape: x!.shape };
  return [
    {
      op: c.flags.rms ? 'rmsNorm' : 'layerNorm',
      args: { x: sum, weight: plain(weight!), bias: plain(bias!), eps: c.flags.eps },
      expected: { y: { data: c.outputs.y!.data, tolerance: c.tolerance('y') } },
    },
  ];
}

function moe(c: KernelCase): Check[] {
  const { x, router, gate_up, down } = c.inputs;
  return [
    {
      op: 'moe',
      args: {
        x: plain(x!),
        router: plain(router!),
        gateUp: plain(gate_up!),
        down: plain(down!),
        topK: c.flags.top_k,
        renormalize: c.flags.renormalise,
      },
      expected: { y: { data: c.outputs.y!.data, tolerance: c.tolerance('y') } },
    },
  ];
}

export const transformer: Adapters = {
  attention,
  rope,
  rms_norm_gated: rmsNorm,
  rms_norm_unit_offset: rmsNorm,
  layer_norm: layerNorm,
  group_norm: layerNorm,
  add_norm: addNorm,
  moe,
};
