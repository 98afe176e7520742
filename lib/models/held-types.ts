// Which types a checkpoint is in, and its matrices are held in where nobody asks for one.
import type { StoredTensor } from '../checkpoint/open.js';
import { isBlocks } from '../checkpoint/stored.js';
import { type HeldType, heldTypes } from '../dtype.js';
import type { Graph } from '../graph/graph.js';
import type { WeightSpec } from '../graph/weight-spec.js';
import { call } from '../native.js';
import type { DType } from '../tensor.js';

/** The type that a config says its checkpoint is in. */
export function configType(config: Record<string, unknown>): DType {
  const inner = (config.text_config ?? {}) as Record<string, unknown>;
  const name = config.dtype ?? config.torch_dtype ?? inner.dtype ?? inner.torch_dtype;
  return name === 'float16' ? 'f16' : name === 'bfloat16' ? 'bf16' : 'f32';
}

/** The type that most of a checkpoint's matrix values are in, of those that can be held as they are. */
export function matrixType(graph: Graph, tensors: ReadonlyMap<string, StoredTensor>): HeldType {
  const bytes = Object.fromEntries(heldTypes.map((t) => [t, 0])) as Record<HeldType, number>;
  for (const spec of graph.weights.values()) {
    if (!spec.matrix) continue;
    for (const s of spec.sources) {
      const t = tensors.get(s.name);
      if (t && t.dtype in bytes) bytes[t.dtype as HeldType] += t.byteLength;
    }
  }
  return (Object.keys(bytes) as HeldType[]).reduce((a, b) => (bytes[b] > bytes[a] ? b : a));
}

/**
 * Matrices of a file of quantised types, or of a model that is to be exact, are held as they lie, each in its own type, or in
 * one that has the same values; what products do not read there, and matrices whose parts differ, become bf16, or f32 where
 * the model is to be exact. undefined: all are held in one type.
 */
export function ownTypes(
  tensors: ReadonlyMap<string, StoredTensor>,
  exact: boolean,
  device: 'auto' | 'cpu' | 'cuda',
): ((spec: WeightSpec) => HeldType | undefined) | undefined {
  const types = new Set([...tensors.values()].flatMap((t) => leavesOrComputed(t)).map((t) => t.dtype));
  const isApart = (type: StoredTensor['dtype']) => isBlocks(type) || (exact && (type === 'f16' || type === 'bf16'));
  if (![...types].some(isApart)) return undefined;
  const onDevice = call((n) => n.backendName(device)).startsWith('cuda');
  const described = new Map(call((n) => n.describeTypes()).map((t) => [t.name, t]));
  const read = heldTypes.filter((type) => !onDevice || described.get(type)?.onDevice);
  return (spec) => {
    const stored = spec.sources.flatMap((s) => leavesOrComputed(tensors.get(s.name), s.span));
    const [type, ...others] = new Set(
      stored.map((t) => (t.derived || (t.strides && isBlocks(t.dtype)) ? 'f32' : t.dtype)),
    );
    const same = (described.get(type ?? '')?.withinQ4_0 ? 'q4_0' : type) as HeldType;
    if (type && others.length === 0 && read.includes(same)) return same;
    return exact ? 'f32' : 'bf16';
  };
}

/** Where values [span[0], span[0] + span[1]) lie; default: all of them. */
export function leavesOrComputed(t: StoredTensor | undefined, span?: readonly [number, number]): StoredTensor[] {
  if (!t?.parts) return t ? [t] : [];
  let end = 0;
  return t.parts.flatMap((part) => {
    const first = end;
    end += part.shape.reduce((a, b) => a * b, 1);
    if (!span) return leavesOrComputed(part);
    return end <= span[0] || first >= span[0] + span[1] ? [] : leavesOrComputed(part, [span[0] - first, span[1]]);
  });
}
