import type { Engine } from '../engine/engine.js';
import type { Body } from './body.js';
import { ofText } from './errors.js';
import { FIELDS, readInputs } from './sampling.js';
import type { Limits, Served } from './served.js';

const MAX_INPUTS = 2048;

/** POST /v1/embeddings: the mean of the model's last hidden states, of length 1. */
export async function embeddings(engine: Engine, body: Body, limits: Limits, gone: AbortController): Promise<Served> {
  body.checkSpelling(FIELDS);
  const inputs = readInputs(body, 'input', MAX_INPUTS);
  const format = body.string('encoding_format') ?? 'float';
  if (format !== 'float' && format !== 'base64') throw body.wrong('encoding_format', 'float or base64');
  const client = body.string('user');
  const options = { signal: gone.signal, ...(client ? { client } : {}) };
  const found: Awaited<ReturnType<Engine['embedding']>>[] = new Array(inputs.length);
  let next = 0;
  const inTurn = async () => {
    while (next < inputs.length) {
      const i = next++;
      found[i] = await engine.embedding(inputs[i]!, options);
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(engine.together, inputs.length) }, inTurn));
  } catch (error) {
    gone.abort(error); // of one that fails the others are of no use
    throw ofText(error, 'input');
  }
  const width = found[0]!.embedding.length;
  body.unsupported('dimensions', [width]);
  const data = found.map(({ embedding }, index) => {
    const length = Math.sqrt(embedding.reduce((sum, x) => sum + x * x, 0)) || 1;
    const unit = embedding.map((x) => x / length);
    const bytes = Buffer.from(unit.buffer, unit.byteOffset, unit.byteLength);
    return { object: 'embedding', index, embedding: format === 'float' ? [...unit] : bytes.toString('base64') };
  });
  const prompt_tokens = found.reduce((sum, { tokens }) => sum + tokens, 0);
  const usage = { prompt_tokens, total_tokens: prompt_tokens };
  return { json: { object: 'list', data, model: limits.model, usage }, usage };
}
