import type { Metadata } from './values.js';

/** Ids as config.json has them. A turn ends with eot where that is a token of its own and no text. */
export function specialIds(metadata: Metadata): Record<string, number | number[]> {
  const id = (name: string) => metadata.count(`tokenizer.ggml.${name}_token_id`);
  const [bos, eos, eot] = [id('bos'), id('eos'), id('eot')];
  const control = 3;
  const types = metadata.array('tokenizer.ggml.token_type');
  const isText = (token: number) => types !== undefined && token < types.length && types.numberAt(token) !== control;
  const ends = [eos, eot !== undefined && eot !== eos && !isText(eot) ? eot : undefined].filter((t) => t !== undefined);
  return {
    ...(bos !== undefined && { bos_token_id: bos }),
    ...(ends.length > 0 && { eos_token_id: ends.length === 1 ? ends[0]! : ends }),
  };
}
