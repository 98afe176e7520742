import { StringDecoder } from 'node:string_decoder';
import type { Engine } from '../engine/engine.js';
import { isSilent, tokenBytes } from './choices.js';
import { ofText } from './errors.js';
import { checkCount } from './sampling.js';
import type { Logprobs } from './served.js';

/** A prompt as an answer repeats it. */
export interface Echo {
  text: string;
  logprobs: Logprobs | null;
}

/**
 * What `echo` puts in front of each prompt's choices; with `logprobs` alternatives of every token but the first, which is
 * read again for them: the prefix cache has states, no logits.
 */
export async function echoes(
  engine: Engine,
  prompts: readonly (string | number[])[],
  logprobs: number | undefined,
  options: { client?: string; signal: AbortSignal },
): Promise<Echo[]> {
  const found: Echo[] = [];
  let all = 0;
  for (const prompt of prompts) {
    const tokens = await idsOf(engine, prompt);
    const text = typeof prompt === 'string' ? prompt : textOf(engine, tokens);
    all += tokens.length * (1 + (logprobs ?? 0));
    if (logprobs !== undefined) checkCount(all);
    found.push({
      text,
      logprobs: logprobs === undefined ? null : await scored(engine, tokens, text, logprobs, options),
    });
  }
  return found;
}

async function idsOf(engine: Engine, prompt: string | number[]): Promise<Int32Array> {
  try {
    return (await engine.read({ prompt })).tokens;
  } catch (error) {
    throw ofText(error, 'prompt');
  }
}

function textOf(engine: Engine, tokens: Int32Array): string {
  const { tokenizer } = engine.model;
  return tokenizer ? tokenizer.decode(tokens) : Array.from(tokens, (token) => `${token} `).join('');
}

async function scored(
  engine: Engine,
  tokens: Int32Array,
  text: string,
  most: number,
  options: { client?: string; signal: AbortSignal },
): Promise<Logprobs> {
  const { own, likeliest } = await engine.scores(tokens, options, most);
  const shown = Array.from(tokens, (token) => tokenBytes(engine, token).toString());
  const top = [...own].map((logprob, i) => {
    const others = likeliest[i]?.map((a) => [tokenBytes(engine, a.token).toString(), a.logprob] as const) ?? [];
    return Object.fromEntries([...others, [shown[i + 1]!, logprob]]);
  });
  return {
    tokens: shown,
    token_logprobs: [null, ...own],
    top_logprobs: [null, ...top],
    text_offset: offsets(engine, tokens, text),
  };
}

/** Where each token begins in a text, which may lack the space that a tokenizer puts in front. */
function offsets(engine: Engine, tokens: Int32Array, text: string): number[] {
  const decoder = new StringDecoder('utf8');
  let length = 0;
  const found = Array.from(tokens, (token) => {
    const at = length;
    if (engine.model.tokenizer && !isSilent(engine, token)) length += decoder.write(tokenBytes(engine, token)).length;
    else if (!engine.model.tokenizer) length += `${token} `.length;
    return at;
  });
  const more = Math.max(0, length - text.length);
  return found.map((at) => Math.max(0, at - more));
}
