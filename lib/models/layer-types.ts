import { show } from '../errors.js';
import type { ConfigReader } from './config.js';

/** Kinds of layers as transformers 5 writes them, by what older files call them. */
const NOW: Readonly<Record<string, string>> = { attention: 'full_attention', mamba: 'linear_attention' };

/**
 * A list with one kind for every layer, under any of these keys; `standard` says it where there is none. Another length
 * or another kind is refused.
 */
export function readLayerTypes<T extends string>(
  c: ConfigReader,
  keys: readonly string[],
  nLayers: number,
  kinds: readonly T[],
  standard: (layer: number) => T,
): T[] {
  const given = keys.filter((key) => c.has(key)).map((key) => [key, current(c, key)] as const);
  const [first, ...others] = given;
  if (!first) return Array.from({ length: nLayers }, (_, i) => standard(i));
  const [key, list] = first;
  for (const [other, said] of others)
    if (said.join() !== list.join()) throw c.error(`${other} ${show(said)} contradicts ${key} ${show(list)}`);
  if (list.length !== nLayers)
    throw c.error(`${key} must have num_hidden_layers = ${nLayers} entries, received ${list.length}`);
  for (const kind of list)
    if (!kinds.includes(kind as T))
      throw c.error(`${key}: ${show(kind)} is not supported; supported: ${kinds.join(', ')}`);
  return list as T[];
}

function current(c: ConfigReader, key: string): string[] {
  const list = c.any(key);
  if (!Array.isArray(list) || !list.every((kind) => typeof kind === 'string'))
    throw c.error(`${key}: expected a list of kinds of layers, received ${show(list)}`);
  return list.map((kind) => NOW[kind] ?? kind);
}

/** A list of layer numbers; undefined where the key is not there. */
export function readLayerNumbers(c: ConfigReader, key: string, nLayers: number): ReadonlySet<number> | undefined {
  const list = c.any(key);
  if (list === undefined) return undefined;
  if (!Array.isArray(list) || !list.every((i) => Number.isInteger(i) && i >= 0 && i < nLayers))
    throw c.error(`${key}: expected layer numbers from 0 to ${nLayers - 1}, received ${show(list)}`);
  return new Set(list as number[]);
}
