// What a route is given besides its request, and what it gives.
import type { ApiUsage } from './choices.js';

export interface Limits {
  model: string;
  maxTokens: number;
}

/** What a route has come to: an answer, or one that is still being streamed; `usage` is filled as it goes. */
export type Served =
  | { json: unknown; usage: Partial<ApiUsage> }
  | { response: Response; ended: Promise<void>; usage: Partial<ApiUsage> };

/** Seconds since 1970, as OpenAI's API dates its answers. */
export const now = (): number => Math.floor(Date.now() / 1000);
