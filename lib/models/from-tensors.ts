// The weights of a graph out of tensors in memory.
import { isMap } from 'node:util/types';
import type { StoredTensor } from '../checkpoint/open.js';
import { mismatch, StatespaceError, show } from '../errors.js';
import type { Graph } from '../graph/graph.js';
import { lazyCrypto } from '../lazy.js';
import { call, type WeightEntry } from '../native.js';
import { bitsOf, checkTensor, pinned, type TensorLike } from '../tensor.js';
import type { Binding } from './bind.js';
import { floatsOf, parametersOf } from './held.js';

export type Values = ReadonlyMap<string, TensorLike>;

/** ERR_ARGUMENT where it is no map of tensors. */
export function checkValues(op: string, values: unknown): Values {
  if (!isMap(values)) throw mismatch('ERR_ARGUMENT', op, 'a Map of tensors by their names', show(values));
  return new Map(
    [...(values as Values)].map(([name, tensor]) => {
      const dtype = checkTensor(`${op}: ${name}`, tensor);
      return [name, { data: pinned(bitsOf(tensor.data)), shape: tensor.shape, dtype }];
    }),
  );
}

/** What tells these values from others; ERR_SHAPE where a buffer has been transferred meanwhile. */
export async function identityOf(op: string, values: Values): Promise<string> {
  const hash = lazyCrypto().createHash('sha256');
  for (const [name, tensor] of values) {
    checkTensor(`${op}: ${name}`, tensor);
    const { buffer, byteOffset, byteLength } = tensor.data;
    const bytes = new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength);
    hash.update(name).update(await call((n) => n.digest(bytes, false)));
  }
  return hash.digest('hex');
}

/** What families look at of a checkpoint: which tensors there are, and their shapes. */
export function shapesOf(values: Values): ReadonlyMap<string, StoredTensor> {
  const stored = (name: string, shape: readonly number[]): StoredTensor => ({
    name,
    dtype: 'f32',
    shape: [...shape],
    file: name, // each a place of its own
    offset: 0,
    byteLength: 0,
  });
  return new Map([...values].map(([name, t]) => [name, stored(name, t.shape)]));
}

/** Tensors under the names that the graph asks for, where a file would be read so: a head that is the embedding, no buffers. */
export function asAsked(graph: Graph, given: Values, binding: Binding): Values {
  const asked = new Map<string, TensorLike>();
  for (const spec of graph.weights.values()) {
    for (const source of spec.sources) {
      const tensor = given.get(binding.locate(source)?.name ?? '');
      if (tensor) asked.set(source.name, tensor);
    }
  }
  return asked;
}

/** @throws StatespaceError ERR_CHECKPOINT for a tensor that is missing, ERR_ARGUMENT for one too many, ERR_SHAPE. */
export async function entriesOf(
  op: string,
  graph: Graph,
  given: Values,
  originals: Map<string, Float32Array>,
): Promise<WeightEntry[]> {
  const parameters = parametersOf(graph);
  const values = await floatsOf(op, given, parameters);
  const missing = [...parameters.values()].find((p) => !values.has(p.name));
  if (missing)
    throw new StatespaceError(
      'ERR_CHECKPOINT',
      `${op}: tensor ${missing.name} (${missing.shape.join(', ')}) is missing`,
    );
  const entries: WeightEntry[] = [];
  for (const [value, spec] of graph.weights) {
    const parts = spec.sources.map(({ name, span }) => {
      const all = values.get(name)!;
      if (spec.transform) originals.set(name, all);
      return span ? all.subarray(span[0], span[0] + span[1]) : all;
    });
    const made = spec.transform ? [await spec.transform(parts)] : parts;
    entries.push({ value: value.id, parts: made.map((data) => ({ data })) });
  }
  return entries;
}
