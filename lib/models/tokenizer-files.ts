// The JSON files of a tokenizer.
import { join } from 'node:path';
import { mismatch, StatespaceError, show } from '../errors.js';
import { Turns } from '../turns.js';

const lazyText = (): typeof import('../checkpoint/text-files.js') => require('../checkpoint/text-files.js');

/** Of a tokenizer.json: the largest published ones have 34 MB. */
const MAX_BYTES = 256 * 1024 * 1024;

/** Longer ones are read piece by piece, so that the event loop turns in between. */
const LONG = 1 << 18;

/** maps: keys whose objects become maps, where they are long ones. */
export async function readJson(
  path: string,
  turns = new Turns(),
  maps: readonly string[] = [],
): Promise<object | undefined> {
  const { fileExists, readText, parseLongJson } = lazyText();
  if (!(await fileExists(path))) return undefined;
  const text = await readText(path, MAX_BYTES, turns);
  let json: unknown;
  try {
    json = text.length < LONG ? JSON.parse(text) : await parseLongJson(text, path, { duplicates: 'last', turns, maps });
  } catch (error) {
    if (error instanceof StatespaceError || !(error instanceof SyntaxError)) throw error;
    throw new StatespaceError('ERR_CHECKPOINT', `${path}: is not JSON: ${error.message}`);
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw mismatch('ERR_CHECKPOINT', path, 'a JSON object', show(json));
  return json;
}

/** tokenizer_config.json; of files that list no added tokens, as older ones, special_tokens_map.json says what those are. */
export async function readTokenizerConfig(folder: string): Promise<object> {
  const config = (await readJson(join(folder, 'tokenizer_config.json'))) ?? {};
  if ('added_tokens_decoder' in config) return config;
  return { ...config, ...(await readJson(join(folder, 'special_tokens_map.json'))) };
}
