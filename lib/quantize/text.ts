// What a model makes of a text: its tokens, and how well it foresees them.
import { StatespaceError } from '../errors.js';
import { loadModel } from '../models/load.js';
import type { LoadOptions } from '../models/load-options.js';
import type { Model } from '../models/model.js';
import { Turns } from '../turns.js';

/** Of a text that is measured on, where the caller names no number. */
export const MOST_TOKENS = 4096;

export interface TextOptions {
  /** Tokens of the text that are read. Default: 4096. */
  maxTokens?: number;
  signal?: AbortSignal;
}

/** Token ids of a text's beginning, two at least; where the model has no tokenizer, the text is ids such as 12,5,7. */
function idsOf(model: Model, text: string, most: number): Int32Array {
  const ids = model.tokenizer ? model.tokenizer.encode(text) : readIds(text);
  if (ids.length < 2)
    throw new StatespaceError('ERR_ARGUMENT', `quantize: text: expected two tokens at least, received ${ids.length}`);
  return ids.slice(0, most);
}

function readIds(text: string): Int32Array {
  const words = text.split(/[\s,]+/).filter((word) => word !== '');
  if (!words.every((word) => /^\d{1,9}$/.test(word)))
    throw new StatespaceError(
      'ERR_ARGUMENT',
      'quantize: text: the model has no tokenizer: expected token ids such as 12,5,7',
    );
  return Int32Array.from(words, Number);
}

/** log Σ exp(x), without overflow. */
function logSumExp(row: Float32Array): number {
  let top = -Infinity;
  for (const x of row) if (x > top) top = x;
  let sum = 0;
  for (const x of row) sum += Math.exp(x - top);
  return top + Math.log(sum);
}

/** exp of the mean negative log-likelihood of a text's tokens but the first, each after all before it. */
export async function perplexity(
  model: Model,
  ids: Int32Array,
  options: { signal?: AbortSignal } = {},
): Promise<number> {
  const session = model.createSession();
  const turns = new Turns(options.signal);
  const step = Math.max(1, Math.min(256, Math.floor((1 << 22) / model.outputFeatures)));
  let surprise = 0;
  for (let at = 0; at < ids.length; at += step) {
    const rows = await session.forward(ids.subarray(at, at + step), { logits: 'all', signal: options.signal });
    const [count, width] = rows.shape as [number, number];
    for (let i = 0; i < count; i++) {
      const next = ids[at + i + 1];
      if (next === undefined) break;
      const row = (rows.data as Float32Array).subarray(i * width, (i + 1) * width);
      surprise += logSumExp(row) - row[next]!;
      const pause = turns.due();
      if (pause) await pause;
    }
  }
  await session.dispose();
  return Math.exp(surprise / (ids.length - 1));
}

/**
 * A model with the ids of a text's beginning: those that its tokenizer makes, or that another's made. Where rotations depend
 * on how long a sequence is, they are those of so many tokens.
 */
export async function modelFor(
  path: string,
  text: string | Int32Array,
  options: TextOptions,
  loading: (options: LoadOptions) => LoadOptions = (given) => given,
): Promise<{ model: Model; ids: Int32Array }> {
  const { signal } = options;
  const model = await loadModel(path, loading({ signal }));
  try {
    const ids = typeof text === 'string' ? idsOf(model, text, options.maxTokens ?? MOST_TOKENS) : text;
    const { longest } = model.blueprint.graph;
    if (!longest || ids.length <= longest.tokens) return { model, ids };
    await model.dispose();
    return { model: await loadModel(path, loading({ signal, contextLength: ids.length })), ids };
  } catch (error) {
    await model.dispose();
    throw error;
  }
}

/**
 * The perplexity of a text's beginning under the model in a folder or a file, and the ids that its tokenizer made of the
 * text; of these ids under another model, whose tokenizer may be another or none.
 */
export async function perplexityOf(
  path: string,
  text: string | Int32Array,
  options: TextOptions = {},
): Promise<{ perplexity: number; ids: Int32Array }> {
  const { model, ids } = await modelFor(path, text, options);
  try {
    return { perplexity: await perplexity(model, ids, options), ids };
  } finally {
    await model.dispose();
  }
}
