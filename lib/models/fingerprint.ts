// What a snapshot says of its model: a state belongs to one network with one set of weights.
import { checkStamps, type Stamps, statOf } from '../checkpoint/stamps.js';
import { checkpointError, leavesOf, type StoredTensor } from '../checkpoint/stored.js';
import type { Graph } from '../graph/graph.js';
import { lazyCrypto, lazyFiles } from '../lazy.js';
import { call, type WeightEntry } from '../native.js';

/** Of a network as it was made; `identity` stands for its weights. */
export function fingerprintOf(
  modelType: string,
  identity: string,
  graph: Graph,
  config: Record<string, unknown>,
): Uint8Array {
  // Not what caches are held in: that follows from what the model is held in, which a snapshot has a field for.
  const layout = graph.values.filter((v) => v.kind === 'state' || v.kind === 'cache').map((v) => [v.kind, v.dims]);
  const stretched = graph.stretched === undefined ? [] : [graph.stretched];
  const parts = [modelType, identity, layout, sortedConfig(config), ...stretched];
  return new Uint8Array(lazyCrypto().createHash('sha256').update(JSON.stringify(parts)).digest());
}

/** The same after some of its weights have other values. */
export async function fingerprintAfter(before: Uint8Array, changes: readonly WeightEntry[]): Promise<Uint8Array> {
  const hash = lazyCrypto().createHash('sha256').update(before);
  for (const entry of changes)
    if ('parts' in entry)
      for (const part of entry.parts)
        if ('data' in part) hash.update(await call((n) => n.digest(bytesOf(part.data), false)));
  return new Uint8Array(hash.digest());
}

const PIECE = 4 << 20;

/** A hash over all bytes of tensors in files, each place once, of which fingerprintTensors() sees the ends; undefined where it is not `wanted` any more. */
export async function digestTensors(
  tensors: Iterable<StoredTensor>,
  wanted: () => boolean = () => true,
): Promise<string | undefined> {
  const hash = lazyCrypto().createHash('sha256');
  const buffer = new Uint8Array(PIECE);
  for (const { name, dtype, shape, file, offset, byteLength } of new Set([...tensors].flatMap(leavesOf))) {
    hash.update(`${name}|${dtype}|${shape.join(',')}|${byteLength}\n`);
    const opened = await lazyFiles().open(file);
    try {
      for (let at = 0; at < byteLength; ) {
        if (!wanted()) return undefined;
        const { bytesRead } = await opened.read(buffer, 0, Math.min(PIECE, byteLength - at), offset + at);
        if (bytesRead === 0) throw checkpointError(file, `it ends within tensor ${name}`);
        hash.update(await call((n) => n.digest(buffer.subarray(0, bytesRead), false)));
        at += bytesRead;
      }
    } finally {
      await opened.close();
    }
  }
  return hash.digest('hex');
}

/** The files that a model's weights were read from, all bytes of them. */
export class WeightFiles {
  readonly #paths: ReadonlySet<string>;
  #digest: Promise<string | undefined> | undefined;

  constructor(
    private readonly tensors: ReadonlySet<StoredTensor>,
    private readonly stamps: Stamps,
  ) {
    this.#paths = new Set([...tensors].flatMap(leavesOf).map(({ file }) => file));
  }

  /** ERR_CHECKPOINT where they are not what they were when reading began. */
  check(): Promise<void> {
    return checkStamps(this.stamps, this.#paths);
  }

  /** What the system says of them: where it says the same, they have the same digest. */
  async stamp(): Promise<string> {
    await this.check();
    const hash = lazyCrypto().createHash('sha256');
    for (const path of this.#paths) {
      const { dev, ino, size, mtimeNs, ctimeNs } = await statOf(path);
      hash.update(JSON.stringify([path, ...[dev, ino, size, mtimeNs, ctimeNs].map(String)]));
    }
    return hash.digest('hex');
  }

  /** As digestTensors(); they are read once. */
  async digest(wanted: () => boolean): Promise<string | undefined> {
    this.#digest ??= digestTensors(this.tensors, wanted);
    try {
      const digest = await this.#digest;
      await this.check();
      return digest;
    } catch (error) {
      this.#digest = undefined;
      throw error;
    }
  }
}

const bytesOf = (a: Float32Array): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

function sortedConfig(config: Record<string, unknown>): unknown {
  return Object.keys(config)
    .sort()
    .filter((k) => !['_name_or_path', 'transformers_version', 'torch_dtype', 'dtype'].includes(k))
    .map((k) => [k, config[k]]);
}
