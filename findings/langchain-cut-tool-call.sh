#!/usr/bin/env bash
# @langchain/openai, streamed: a tool call that max_tokens cut in two is a valid one, with what there was of its arguments: 12 for 1200.
#
# Versions: @langchain/openai 1.5.8, @langchain/core 1.4.0, openai 6.49.0.
# Behaviour: the message that is joined from a stream reads its arguments with a parser of unfinished JSON, also when
#   the stream is over; the message of an answer in one piece reads them with JSON.parse.
# Seen with the arguments {"to": "Ann", "amount": 12 and finish_reason "length": invoke(): tool_calls [], one of invalid_tool_calls with
#   the reason; stream(), parts joined by concat(): tool_calls [{"to": "Ann", "amount": 12}], invalid_tool_calls []. Cut inside "Malm\u00f6" the value is "Malmu00"; inside a
#   list its last element is half a word. With whole arguments both give the same.
# Why it matters: agents run what is in tool_calls. What makes answers appear sooner makes half a number an order, and
#   only finish_reason, which no agent loop has to look at, tells it from the model's will.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
node_packages @langchain/openai@1.5.8 @langchain/core@1.4.0 openai@6.49.0

cat >"$work/node/cut.mjs" <<'JS'
import { ChatOpenAI } from '@langchain/openai';

const envelope = { id: 'c1', created: 1, model: 'm' };
const call = (extra) => ({ tool_calls: [{ index: 0, ...extra }] });
const chunk = (delta, finish_reason = null) => ({ ...envelope, object: 'chat.completion.chunk', choices: [{ index: 0, delta, finish_reason }] });
const usage = { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 };
const answer = (args, streaming) => {
  if (!streaming) {
    const message = { role: 'assistant', content: null, tool_calls: [{ id: 'x1', type: 'function', function: { name: 'pay', arguments: args } }] };
    const body = { ...envelope, object: 'chat.completion', choices: [{ index: 0, message, finish_reason: 'length' }], usage };
    return new Response(JSON.stringify(body), { headers: { 'content-type': 'application/json' } });
  }
  const pieces = args.match(/.{1,6}/g).map((piece) => chunk(call({ function: { arguments: piece } })));
  const first = chunk({ role: 'assistant', content: null, ...call({ id: 'x1', type: 'function', function: { name: 'pay', arguments: '' } }) });
  const events = [first, ...pieces, chunk({}, 'length'), { ...chunk({}), choices: [], usage }].map((event) => `data: ${JSON.stringify(event)}\n\n`);
  return new Response(`${events.join('')}data: [DONE]\n\n`, { headers: { 'content-type': 'text/event-stream' } });
};
const ask = async (args, streaming) => {
  const fetch = async () => answer(args, streaming);
  const model = new ChatOpenAI({ apiKey: 'k', model: 'm', maxRetries: 0, configuration: { baseURL: 'http://server/v1', fetch } });
  let message;
  if (streaming) for await (const part of await model.stream('Pay Ann.')) message = message ? message.concat(part) : part;
  else message = await model.invoke('Pay Ann.');
  const { tool_calls, invalid_tool_calls } = message;
  return `${tool_calls.length} valid ${JSON.stringify(tool_calls.map((c) => c.args))}, ${invalid_tool_calls.length} invalid`;
};
console.error = console.warn = () => {};
const rows = [
  ['{"to": "Ann", "amount": 12', '1 valid [{"to":"Ann","amount":12}], 0 invalid', '0 valid [], 1 invalid'],
  ['{"amount": 1200, "city": "Malm\\u00', '1 valid [{"amount":1200,"city":"Malmu00"}], 0 invalid', '0 valid [], 1 invalid'],
  ['{"items": ["bread", "but', '1 valid [{"items":["bread","but"]}], 0 invalid', '0 valid [], 1 invalid'],
  ['{"amount": 1200}', '1 valid [{"amount":1200}], 0 invalid', '1 valid [{"amount":1200}], 0 invalid'],
];
let holds = true;
for (const [args, streamed, whole] of rows) {
  const seen = [await ask(args, true), await ask(args, false)];
  console.log(`${args}\n  stream()  ${seen[0]}\n  invoke()  ${seen[1]}`);
  holds &&= seen[0] === streamed && seen[1] === whole;
}
process.exitCode = holds ? 0 : 1;
JS
(cd "$work/node" && node cut.mjs 2>/dev/null)
