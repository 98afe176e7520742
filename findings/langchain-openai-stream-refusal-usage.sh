#!/usr/bin/env bash
# @langchain/openai streams: a refusal is lost, a usage that comes with the last choice is counted twice, a cut stream looks finished.
#
# Versions: @langchain/openai 1.5.8 (the newest for Node 20) and 1.6.0, @langchain/core 1.4.0; openai 6.49.0.
# Behaviour: the chunks of a stream are joined. delta.refusal is in none of them (nor is message.refusal of a whole answer in the
#   message). A chunk that has a choice and a usage yields the usage in response_metadata, and the end of the stream yields it once more; joining adds
#   numbers up. A stream that ends without finish_reason and [DONE] raises nothing.
# Seen: refusal "no way": content "" and no trace of it, streamed or not, while openai's helper has message.refusal. Usage 1 + 2 in the chunk with
#   finish_reason (vLLM's continuous_usage_stats, Mistral, Groq): response_metadata.usage 2 + 4, usage_metadata 1 + 2. In a chunk of its own, as OpenAI
#   sends it: 1 + 2 in both. Connection closed in the middle: a message "hel" without finish_reason; openai's helper raises "missing finish_reason".
# Why it matters: a structured-output call that was refused looks like an empty answer; bills made from response_metadata are double;
#   of a server that died in mid-answer half an answer is kept as if it were whole, unless finish_reason is checked.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
node_packages @langchain/openai@1.5.8 @langchain/core@1.4.0 openai@6.49.0

cat >"$work/node/streams.mjs" <<'JS'
import { createServer } from 'node:http';
import { ChatOpenAI } from '@langchain/openai';
import OpenAI from 'openai';

const usage = { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 };
const delta = (fields, finish_reason = null, more = {}) => ({ choices: [{ index: 0, delta: fields, finish_reason }], ...more });
const begin = delta({ role: 'assistant', content: '' });
const streams = {
  refusal: [begin, delta({ refusal: 'no ' }), delta({ refusal: 'way' }), delta({}, 'stop')],
  usageWithChoice: [begin, delta({ content: 'hello' }), delta({}, 'stop', { usage })],
  usageAlone: [begin, delta({ content: 'hello' }), delta({}, 'stop'), { choices: [], usage }],
  cut: [begin, delta({ content: 'hel' })],
};
const whole = { role: 'assistant', content: null, refusal: 'no way' };
const server = createServer((request, response) => {
  let body = '';
  request.on('data', (part) => (body += part));
  request.on('end', () => {
    const { model, stream } = JSON.parse(body);
    const common = { id: 'c', created: 1, model };
    if (!stream) {
      response.writeHead(200, { 'content-type': 'application/json' });
      const choices = [{ index: 0, message: whole, finish_reason: 'stop' }];
      return response.end(JSON.stringify({ ...common, object: 'chat.completion', choices, usage }));
    }
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    for (const chunk of streams[model]) {
      response.write(`data: ${JSON.stringify({ ...common, object: 'chat.completion.chunk', ...chunk })}\n\n`);
    }
    response.end(model === 'cut' ? '' : 'data: [DONE]\n\n');
  });
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const baseURL = `http://127.0.0.1:${server.address().port}/v1`;
const client = new OpenAI({ apiKey: 'none', baseURL, maxRetries: 0 });
const chat = (model) =>
  new ChatOpenAI({ model, apiKey: 'none', configuration: { baseURL }, maxRetries: 0, useResponsesApi: false });
async function joined(model) {
  let all;
  for await (const chunk of await chat(model).stream('hi')) all = all ? all.concat(chunk) : chunk;
  return all;
}
const helper = (model) =>
  client.chat.completions.stream({ model, messages: [{ role: 'user', content: 'hi' }] }).finalChatCompletion();

const messages = {};
for (const model of Object.keys(streams)) messages[model] = await joined(model);
const refused = await chat('refusal').invoke('hi');
const helped = (await helper('refusal')).choices[0].message.refusal;
const raised = await helper('cut').then(
  () => '',
  (error) => error.message,
);
server.close();

const mentions = (message) => /no way/.test(JSON.stringify(message));
const total = (message) => [message.response_metadata.usage.total_tokens, message.usage_metadata.total_tokens];
console.log('refusal kept: streamed', mentions(messages.refusal), ', whole', mentions(refused), ', openai', helped);
console.log('totals of response_metadata and usage_metadata: with the choice', total(messages.usageWithChoice), ', alone', total(messages.usageAlone));
console.log('cut:', messages.cut.content, messages.cut.response_metadata.finish_reason, ', openai:', raised);
const holds =
  !mentions(messages.refusal) &&
  !mentions(refused) &&
  helped === 'no way' &&
  `${total(messages.usageWithChoice)}` === '6,3' &&
  `${total(messages.usageAlone)}` === '3,3' &&
  messages.cut.content === 'hel' &&
  messages.cut.response_metadata.finish_reason === undefined &&
  /finish_reason/.test(raised);
process.exit(holds ? 0 : 1);
JS
(cd "$work/node" && node streams.mjs)
