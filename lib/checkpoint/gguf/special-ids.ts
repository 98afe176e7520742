import { parseConfig } from '../config.js';
import type { Metadata } from './values.js';

/** What the keys of the format cannot say of the model that was converted, as its config said it: see docs/gguf.md. */
export const BEYOND = 'statespace.config';

export function beyond(metadata: Metadata): Record<string, unknown> {
  const text = metadata.string(BEYOND);
  return text === undefined ? {} : parseConfig(text, `${metadata.file}: metadata ${BEYOND}`);
}

/** Ids as config.json has them. Texts also end with eot, a turn's end, and eom, a message's, where these are no text. */
export function specialIds(metadata: Metadata): Record<string, number | number[]> {
  const id = (name: string) => metadata.count(`tokenizer.ggml.${name}_token_id`);
  const [bos, eos] = [id('bos'), id('eos')];
  const control = 3;
  const types = metadata.array('tokenizer.ggml.token_type');
  const isText = (token: number) => types !== undefined && token < types.length && types.numberAt(token) !== control;
  const more = [id('eot'), id('eom')].filter((token) => token !== undefined && !isText(token)) as number[];
  const named = beyond(metadata).eos_token_id as number | number[] | null | undefined;
  const ends = named == null ? [...new Set(eos === undefined ? more : [eos, ...more])] : [named].flat();
  return {
    ...(bos !== undefined && { bos_token_id: bos }),
    ...(ends.length > 0 && { eos_token_id: ends.length === 1 ? ends[0]! : ends }),
  };
}
