#!/usr/bin/env bash
# openai 6: embeddings.create() turns a server's numbers into a quarter as many zeros, and LangChain puts vectors at other texts.
#
# Versions: openai 6.49.0 (the newest for Node 20; 7.59.0, for Node 22, takes numbers as they are), @langchain/openai 1.5.8, ai 6.0.326 with @ai-sdk/openai-compatible 2.0.92.
# Behaviour: without encoding_format the client asks for base64 and decodes whatever comes. An array of numbers becomes a Buffer of bytes, each number cut to 0
#   to 255, four of which make a float. Servers that know no base64 leave the key unread, as is usual for keys that a server does not know. LangChain joins vectors
#   and texts by their place in data, not by index.
# Seen with a server that answers [0.03125, -0.0625, ...] of 8 numbers: embedding [0, 0] from openai and from LangChain, without an error; with encoding_format "float", and
#   with a server that answers base64, all 8; the AI SDK asks for float and has all 8. With data in the order of index 1, 0 LangChain's vectors are
#   exchanged (1.6.0 with openai 7 as well).
# Why it matters: with a local server every text has the same embedding, of a quarter of the dimensions, which is found when a search returns nonsense, or when
#   a vector store refuses the length. A server should honour base64; a client should say "float".
set -euo pipefail
. "$(dirname "$0")/lib.sh"
node_packages openai@6.49.0 @langchain/openai@1.5.8 @langchain/core@1.4.0 ai@6.0.326 @ai-sdk/openai-compatible@2.0.92 zod@4.6.7

cat >"$work/node/embeddings.mjs" <<'JS'
import { createServer } from 'node:http';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { OpenAIEmbeddings } from '@langchain/openai';
import { embed } from 'ai';
import OpenAI from 'openai';

const vector = (index) => Array.from({ length: 8 }, (_, place) => (place + 1 + 8 * index) / (place % 2 ? -32 : 32));
const base64 = (numbers) => Buffer.from(Float32Array.from(numbers).buffer).toString('base64');
// The model's name says how the server answers: numbers whatever is asked for, as asked for, or so and in reverse order.
const server = createServer((request, response) => {
  let body = '';
  request.on('data', (part) => (body += part));
  request.on('end', () => {
    const { model, input, encoding_format } = JSON.parse(body);
    const text = model !== 'numbers' && encoding_format === 'base64';
    const data = [].concat(input).map((_, index) => {
      return { object: 'embedding', index, embedding: text ? base64(vector(index)) : vector(index) };
    });
    if (model === 'reversed') data.reverse();
    const usage = { prompt_tokens: 2, total_tokens: 2 };
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ object: 'list', model, data, usage }));
  });
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const baseURL = `http://127.0.0.1:${server.address().port}/v1`;
const client = new OpenAI({ apiKey: 'none', baseURL, maxRetries: 0 });
const texts = ['one', 'two'];
const openai = async (options) => (await client.embeddings.create({ input: texts, ...options })).data.map(({ embedding }) => embedding);
const langchain = (model) => new OpenAIEmbeddings({ model, apiKey: 'none', configuration: { baseURL } }).embedDocuments(texts);
const sdk = createOpenAICompatible({ name: 'local', baseURL });
const seen = {
  numbers: await openai({ model: 'numbers' }),
  numbersAsFloat: await openai({ model: 'numbers', encoding_format: 'float' }),
  asAsked: await openai({ model: 'asked' }),
  langchain: await langchain('numbers'),
  langchainReversed: await langchain('reversed'),
  ai: [(await embed({ model: sdk.embeddingModel('numbers'), value: 'one' })).embedding],
};
server.close();
for (const [name, vectors] of Object.entries(seen)) console.log(name, vectors.map((numbers) => numbers.slice(0, 2).join(', ')), 'of', vectors[0].length);
const is = (name, expected) => JSON.stringify(seen[name]) === JSON.stringify(expected);
const right = [vector(0), vector(1)];
const zeros = [[0, 0], [0, 0]];
process.exit(
  is('numbers', zeros) &&
    is('langchain', zeros) &&
    is('numbersAsFloat', right) &&
    is('asAsked', right) &&
    is('ai', [vector(0)]) &&
    is('langchainReversed', [vector(1), vector(0)])
    ? 0
    : 1,
);
JS
(cd "$work/node" && node embeddings.mjs)
