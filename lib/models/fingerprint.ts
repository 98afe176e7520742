// What a snapshot says of its model: a state belongs to one network with one set of weights.
import type { Graph } from '../graph/graph.js';
import { lazyCrypto } from '../lazy.js';
import { call, type WeightEntry } from '../native.js';

/** Of a network as it was made; `identity` stands for its weights. */
export function fingerprintOf(
  modelType: string,
  identity: string,
  graph: Graph,
  config: Record<string, unknown>,
): Uint8Array<ArrayBuffer> {
  const layout = graph.values
    .filter((v) => v.kind === 'state' || v.kind === 'cache')
    .map((v) => [v.kind, v.dims, v.dtype]);
  const stretched = graph.stretched === undefined ? [] : [graph.stretched];
  const parts = [modelType, identity, layout, sortedConfig(config), ...stretched];
  return new Uint8Array(lazyCrypto().createHash('sha256').update(JSON.stringify(parts)).digest());
}

/** The same after some of its weights have other values. */
export async function fingerprintAfter(
  before: Uint8Array,
  changes: readonly WeightEntry[],
): Promise<Uint8Array<ArrayBuffer>> {
  const hash = lazyCrypto().createHash('sha256').update(before);
  for (const entry of changes)
    if ('parts' in entry)
      for (const part of entry.parts)
        if ('data' in part) hash.update(await call((n) => n.digest(bytesOf(part.data), false)));
  return new Uint8Array(hash.digest());
}

const bytesOf = (a: Float32Array): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

function sortedConfig(config: Record<string, unknown>): unknown {
  return Object.keys(config)
    .sort()
    .filter((k) => !['_name_or_path', 'transformers_version', 'torch_dtype', 'dtype'].includes(k))
    .map((k) => [k, config[k]]);
}
