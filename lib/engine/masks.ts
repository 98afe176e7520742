import { StatespaceError } from '../errors.js';
import type { Model } from '../models/model.js';

/** What a text must be. */
export type ResponseFormat =
  | { type: 'json_object' }
  | { type: 'json_schema'; schema: object }
  | { type: 'regex'; pattern: string }
  | { type: 'grammar'; ebnf: string };

/** Which tokens may come next in one text that keeps to a format. */
export interface TokenMask {
  /** A bit for each id, of word id >> 5 the bit id & 31; undefined: any may come. */
  allowed(): Int32Array | undefined;
  /** The token that came. */
  accept(token: number): void;
}

/** Makes masks of a format for a model's vocabulary. */
export type MaskProvider = (model: Model, format: ResponseFormat) => Promise<TokenMask>;

let provider: MaskProvider | undefined;

/**
 * @internal The grammar engine.
 * @public
 */
export function provideMasks(masks: MaskProvider): void {
  provider = masks;
}

export async function maskOf(model: Model, format: ResponseFormat): Promise<TokenMask> {
  if (!provider)
    throw new StatespaceError('ERR_ARGUMENT', `generate: responseFormat: ${format.type} is not supported here`);
  return provider(model, format);
}
