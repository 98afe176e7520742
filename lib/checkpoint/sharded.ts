// An index file {metadata, weight_map: {tensor: shard file}} beside its shards.
import { isAbsolute, join, normalize, sep } from 'node:path';
import { show } from '../errors.js';
import { Turns } from '../turns.js';
import { fileExists, readText } from './files.js';
import { isJsonObject, type Json, parseLongJson } from './json.js';
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
  const json = await parseLongJson(await readText(index, maxIndexBytes), index, 'refuse', turns);
  if (!isJsonObject(json)) throw checkpointError(index, `expected a JSON object, received ${show(json)}`);
  const { weight_map: weightMap } = json;
  if (!isJsonObject(weightMap))
    throw checkpointError(index, `weight_map: expected an object, received ${show(weightMap)}`);
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
    const stored = new Map((await read(file, signal)).map((tensor) => [tensor.name, tensor]));
    for (const name of names) {
      const tensor = stored.get(name);
      if (tensor === undefined)
        throw checkpointError(index, `expected tensor ${show(name)} in ${show(shard)}, which lacks it`);
      tensors.push(tensor);
    }
    const pause = turns.due();
    if (pause) await pause;
    for (const [name, tensor] of stored) if (!Object.hasOwn(weightMap, name)) unlisted.set(name, tensor);
  }
  return [...tensors, ...unlisted.values()];
}

async function groupByShard(
  index: string,
  weightMap: Record<string, Json>,
  turns: Turns,
): Promise<Map<string, string[]>> {
  const shards = new Map<string, string[]>();
  for (const name in weightMap) {
    const shard = weightMap[name]!;
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
