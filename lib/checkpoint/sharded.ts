// An index file {metadata, weight_map: {tensor: shard file}} beside its shards.
import { isAbsolute, join, normalize, sep } from 'node:path';
import { show } from '../errors.js';
import { Turns } from '../turns.js';
import { fileExists, readText } from './files.js';
import { type LongJson, readMembers } from './long-json.js';
import { checkpointError, type StoredTensor } from './stored.js';

/** Some 300,000 names. */
const maxIndexBytes = 25_000_000;

/**
 * The tensors that the index names, each from the shard that it names, then those of its shards that it does not name;
 * `read` reads one shard.
 */
export async function readSharded(
  folder: string,
  indexName: string,
  read: (file: string, signal?: AbortSignal) => Promise<StoredTensor[]>,
  signal?: AbortSignal,
): Promise<StoredTensor[]> {
  const index = join(folder, indexName);
  const turns = new Turns(signal);
  const weightMap = await readWeightMap(index, turns);
  const tensors: StoredTensor[] = [];
  const unlisted = new Map<string, StoredTensor>();
  for (const [shard, names] of await groupByShard(index, weightMap, turns)) {
    const file = join(folder, shard);
    if (!(await fileExists(file))) {
      throw checkpointError(
        index,
        `expected the shard ${show(shard)} of tensor ${show(names[0])} beside it, received no such file`,
      );
    }
    const stored = new Map<string, StoredTensor>();
    for (const tensor of await read(file, signal)) {
      stored.set(tensor.name, tensor);
      const pause = turns.due();
      if (pause) await pause;
    }
    for (const name of names) {
      const tensor = stored.get(name);
      if (tensor === undefined)
        throw checkpointError(index, `expected tensor ${show(name)} in ${show(shard)}, which lacks it`);
      tensors.push(tensor);
      const pause = turns.due();
      if (pause) await pause;
    }
    for (const [name, tensor] of stored) {
      if (!weightMap.has(name)) unlisted.set(name, tensor);
      const pause = turns.due();
      if (pause) await pause;
    }
  }
  return tensors.concat([...unlisted.values()]);
}

async function readWeightMap(index: string, turns: Turns): Promise<ReadonlyMap<string, LongJson>> {
  let found: LongJson | undefined;
  const text = await readText(index, maxIndexBytes, turns);
  await readMembers(text, index, { turns, maps: ['weight_map'] }, (key, value) => {
    if (key === 'weight_map') found = value;
  });
  if (!(found instanceof Map)) throw checkpointError(index, `weight_map: expected an object, received ${show(found)}`);
  return found;
}

async function groupByShard(
  index: string,
  weightMap: ReadonlyMap<string, LongJson>,
  turns: Turns,
): Promise<Map<string, string[]>> {
  const shards = new Map<string, string[]>();
  for (const [name, shard] of weightMap) {
    if (typeof shard !== 'string' || !staysInside(shard)) {
      throw checkpointError(
        `${index}: tensor ${show(name)}`,
        `expected the name of a file in the same folder, received ${show(shard)}`,
      );
    }
    const names = shards.get(shard);
    if (names) names.push(name);
    else shards.set(shard, [name]);
    const pause = turns.due();
    if (pause) await pause;
  }
  return shards;
}

/** By its name alone: what the file is a link to is the owner's business (download caches are made of links). */
function staysInside(path: string): boolean {
  const normal = normalize(path);
  return (
    path !== '' &&
    !/[\0\\:]/.test(path) &&
    !isAbsolute(path) &&
    normal !== '.' &&
    normal !== '..' &&
    !normal.startsWith(`..${sep}`)
  );
}
