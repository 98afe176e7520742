#!/usr/bin/env bash
# openai's stream helper keeps the last piece of a model's reasoning only: "I think so" becomes " so".
#
# Versions: openai 6.49.0 (the newest for Node 20) and 7.59.0; ai 6.0.326 with @ai-sdk/openai-compatible 2.0.92 beside it.
# Behaviour: chat.completions.stream() adds up content, refusal and tool calls. Any other field of a delta is assigned to the message, so that
#   each piece takes the place of the one before. Servers of reasoning models stream reasoning_content (DeepSeek, vLLM, SGLang, llama.cpp) or
#   reasoning (OpenRouter, newer vLLM) in such a field.
# Seen, for four pieces "I", " think", " so", "." and the answer "yes" in two: finalChatCompletion() has content "yes" and reasoning_content ".";
#   the plain stream (create with stream: true) has all four; the AI SDK says "I think so." Nothing is raised.
# Why it matters: the thoughts of a turn go back to the server (tools, interleaved thinking) or to a log from the final message, and
#   are one token there. Collecting the chunks by hand is the way out.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
node_packages openai@6.49.0 ai@6.0.326 @ai-sdk/openai-compatible@2.0.92 zod@4.6.7

cat >"$work/node/reasoning.mjs" <<'JS'
import { createServer } from 'node:http';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { streamText } from 'ai';
import OpenAI from 'openai';

const pieces = ['I', ' think', ' so', '.'];
const server = createServer((request, response) => {
  let body = '';
  request.on('data', (part) => (body += part));
  request.on('end', () => {
    const field = JSON.parse(body).model;
    const deltas = [
      { role: 'assistant', content: '' },
      ...pieces.map((piece) => ({ [field]: piece })),
      { content: 'ye' },
      { content: 's' },
      {},
    ];
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    for (const [at, delta] of deltas.entries()) {
      const choices = [{ index: 0, delta, finish_reason: at === deltas.length - 1 ? 'stop' : null }];
      response.write(
        `data: ${JSON.stringify({ id: 'c', object: 'chat.completion.chunk', created: 1, model: field, choices })}\n\n`,
      );
    }
    response.end('data: [DONE]\n\n');
  });
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const baseURL = `http://127.0.0.1:${server.address().port}/v1`;
const client = new OpenAI({ apiKey: 'none', baseURL, maxRetries: 0 });
const provider = createOpenAICompatible({ name: 'local', baseURL });

let holds = true;
for (const field of ['reasoning_content', 'reasoning']) {
  const request = { model: field, messages: [{ role: 'user', content: 'Is it so?' }] };
  let plain = '';
  for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
    plain += chunk.choices[0].delta[field] ?? '';
  }
  const { message } = (await client.chat.completions.stream(request).finalChatCompletion()).choices[0];
  const other = await streamText({ model: provider(field), prompt: 'Is it so?' }).reasoningText;
  console.log(field, { plain, helper: message[field], content: message.content, ai: other });
  holds &&= plain === pieces.join('') && message[field] === pieces.at(-1) && message.content === 'yes' && other === plain;
}
server.close();
process.exit(holds ? 0 : 1);
JS
(cd "$work/node" && node reasoning.mjs)
