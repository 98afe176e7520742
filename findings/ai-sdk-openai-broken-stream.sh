#!/usr/bin/env bash
# AI SDK: a stream that breaks off is an error by @ai-sdk/openai-compatible, and a finished answer by @ai-sdk/openai and @ai-sdk/mistral.
#
# Versions: ai 6.0.326, @ai-sdk/openai 3.0.141, @ai-sdk/mistral 3.0.69, @ai-sdk/openai-compatible 2.0.92 (the newest for Node 20).
# Behaviour: a chat completion that ends without finish_reason and [DONE] (the server died, a proxy ran into its time limit) is closed as usual by the two
#   first: finish reason "other", the text so far as the text. The third asks for a finish reason, and reports an error without one.
# Seen with the one chunk "The dose is 1" and the end of the body: openai and mistral: no error part, onError not called, text "The dose is 1", finishReason "other";
#   openai-compatible: the error "Response stream ended without a finish reason.", finishReason "error". A whole answer: "stop" in all three.
# Why it matters: half an answer is saved and shown as one. createOpenAI({ baseURL }) is what most use for servers of their own; retries and alarms
#   hang on errors, of which there is none.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
node_packages ai@6.0.326 @ai-sdk/openai@3.0.141 @ai-sdk/mistral@3.0.69 @ai-sdk/openai-compatible@2.0.92

cat >"$work/node/broken.mjs" <<'JS'
import { createMistral } from '@ai-sdk/mistral';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { streamText } from 'ai';

const chunk = (delta, finish_reason = null) => {
  const body = { id: 'c1', object: 'chat.completion.chunk', created: 1, model: 'm', choices: [{ index: 0, delta, finish_reason }] };
  return `data: ${JSON.stringify(body)}\n\n`;
};
const broken = chunk({ role: 'assistant', content: 'The dose is 1' });
const whole = `${broken}${chunk({ content: '00 mg.' })}${chunk({}, 'stop')}data: [DONE]\n\n`;
const common = { apiKey: 'k', baseURL: 'http://server/v1' };
const providers = {
  openai: (fetch) => createOpenAI({ ...common, fetch }).chat('m'),
  mistral: (fetch) => createMistral({ ...common, fetch })('m'),
  'openai-compatible': (fetch) => createOpenAICompatible({ ...common, name: 'server', fetch })('m'),
};
const ask = async (model, body) => {
  const fetch = async () => new Response(body, { headers: { 'content-type': 'text/event-stream' } });
  const errors = [];
  const answer = streamText({ model: model(fetch), prompt: 'How much?', maxRetries: 0, onError: ({ error }) => errors.push(error.message) });
  let text = '';
  let reason;
  for await (const part of answer.fullStream) {
    if (part.type === 'text-delta') text += part.text;
    if (part.type === 'finish') reason = part.finishReason;
  }
  return JSON.stringify({ text, reason, errors });
};
let holds = true;
for (const [name, model] of Object.entries(providers)) {
  const [cut, full] = [await ask(model, broken), await ask(model, whole)];
  console.log(`${name.padEnd(18)} broken ${cut}\n${' '.repeat(19)}whole  ${full}`);
  const strict = name === 'openai-compatible';
  const errors = strict ? ['Response stream ended without a finish reason.'] : [];
  holds &&= cut === JSON.stringify({ text: 'The dose is 1', reason: strict ? 'error' : 'other', errors });
  holds &&= full === JSON.stringify({ text: 'The dose is 100 mg.', reason: 'stop', errors: [] });
}
process.exitCode = holds ? 0 : 1;
JS
(cd "$work/node" && node broken.mjs)
