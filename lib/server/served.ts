// What a route is given besides its request, and what it gives.
import type { ApiUsage } from './choices.js';

export interface Limits {
  model: string;
  maxTokens: number;
}

/** What a route has come to: an answer, or one that is still being streamed; `usage` is filled as it goes. */
export type Served =
  | { json: unknown; usage: Partial<ApiUsage> }
  | { response: Response; ended: Promise<unknown>; usage: Partial<ApiUsage> };

/** Seconds since 1970, as OpenAI's API dates its answers. */
export const now = (): number => Math.floor(Date.now() / 1000);

/** Of a completion; null: of a prompt's first token, which follows nothing. */
export interface Logprobs {
  tokens: string[];
  token_logprobs: (number | null)[];
  top_logprobs: (Record<string, number> | null)[];
  text_offset: number[];
}
