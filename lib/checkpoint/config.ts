import { show } from '../errors.js';
import { readText } from './files.js';
import { isJsonObject, type Json, parseJsonObject } from './json.js';
import { checkpointError } from './stored.js';

const maxConfigBytes = 16 * 1024 * 1024;
const floats: Record<string, number> = {
  Infinity: Number.POSITIVE_INFINITY,
  '-Infinity': Number.NEGATIVE_INFINITY,
  NaN: Number.NaN,
};

/** A config.json or generation_config.json, infinities of both spellings as numbers. */
export async function readConfig(file: string): Promise<Record<string, unknown>> {
  return parseConfig(await readText(file, maxConfigBytes), file);
}

/** `where` begins the messages of errors. */
export function parseConfig(text: string, where: string): Record<string, unknown> {
  return withFloats(parseJsonObject(text, where, 'last'), where);
}

/** A config with its infinities as numbers, for one that JSON.parse read. */
export function withFloats(config: Readonly<Record<string, unknown>>, where: string): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(config).map(([key, value]) => [key, plainFloats(value as Json, `${where}: ${key}`)]),
  );
}

/** Python's bare Infinity became a number while parsing; {"__float__": "Infinity"} is how transformers 5 writes it. */
function plainFloats(value: Json, where: string): Json {
  if (Array.isArray(value)) return value.map((item, i) => plainFloats(item, `${where}[${i}]`));
  if (!isJsonObject(value)) return value;
  if (!Object.hasOwn(value, '__float__')) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plainFloats(item, `${where}.${key}`)]));
  }
  const name = value.__float__;
  if (Object.keys(value).length === 1 && typeof name === 'string' && Object.hasOwn(floats, name)) return floats[name]!;
  throw checkpointError(
    where,
    `expected {"__float__": "Infinity"}, "-Infinity" or "NaN", received {"__float__": ${show(name)}}`,
  );
}
