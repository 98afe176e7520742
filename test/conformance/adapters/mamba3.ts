import type { GoldenTensor, KernelCase } from '../../support/golden.js';
import type { Adapters, Check } from '../check.js';
import { permute, plain } from '../tensors.js';

/** Angles are equal modulo 2π: they are compared by where they point. */
const pointing = (angles: ArrayLike<number>) => Array.from(angles).flatMap((a) => [Math.cos(a), Math.sin(a)]);

function mamba3(c: KernelCase): Check[] {
  const i = c.inputs;
  const optional = (t: GoldenTensor | undefined) => t && plain(t);
  const byToken = (t: GoldenTensor) => permute(t, 0, 2, 1); // (B, H, L) to (B, L, H)
  const state = (name: string) => i[`initial_${name}_state`];
  const initialState = state('ssm') && {
    angle: plain(state('angle')!),
    ssm: plain(state('ssm')!),
    k: plain(state('k')!),
    v: plain(state('v')!),
  };
  const args = {
    x: plain(i.V!),
    B: plain(i.K!),
    C: plain(i.Q!),
    dt: byToken(i.DT!),
    adt: byToken(i.ADT!),
    trap: byToken(i.Trap!),
    angles: plain(i.Angles!),
    BBias: plain(i.K_bias!),
    CBias: plain(i.Q_bias!),
    D: optional(i.D),
    z: optional(i.Z),
    mimoX: optional(i.MIMO_V),
    mimoZ: optional(i.MIMO_Z),
    mimoO: optional(i.MIMO_O),
    normWeight: optional(i.norm_weight),
    cuSeqlens: i.cu_seqlens && Int32Array.from(i.cu_seqlens.data),
    initialState,
  };
  return [{ mode: 'recurrent' }, { mode: 'chunked' }, { mode: 'chunked', chunkSize: 5 }].map((how): Check => {
    const form = how.mode === 'recurrent' ? 'sequential' : 'chunked';
    const last = (name: string) => {
      const tolerance = c.tolerance(`final_${name}_state`, form);
      const { data } = c.outputs[`final_${name}_state`]!;
      if (name !== 'angle') return { data, tolerance };
      return { data: pointing(data), tolerance, view: pointing };
    };
    return {
      op: 'mamba3',
      what: `${how.mode} ${how.chunkSize ?? ''}`,
      args: { ...args, ...how },
      expected: {
        y: { data: c.outputs.y!.data, tolerance: c.tolerance('y', form) },
        'lastState.angle': last('angle'),
        'lastState.ssm': last('ssm'),
        'lastState.k': last('k'),
        'lastState.v': last('v'),
      },
    };
  });
}

export const stateSpace3: Adapters = { mamba3_siso: mamba3, mamba3_mimo: mamba3 };
