#!/usr/bin/env bash
# AI SDK, extractReasoningMiddleware: a thought that max_tokens cut off is the answer by generateText and a thought by streamText; version 6 also drops a stream's last "<".
#
# Versions: ai 6.0.326 and 7.0.173 (Node 20.20; 7 asks for 22).
# Behaviour: the whole text is searched for pairs of tags, so that one that was never closed stays in the text, tag and all; the stream changes over at the opening tag. In version 6 what could be the beginning of a tag is held
#   back and not given out where the stream ends.
# Seen, [text, reasoning]: a stream of "<think>all cats are" that ends for its length is ["", "all cats are"], the same by generateText ["<think>all cats are", ""], in both versions. "if (i <" is "if (i " from a stream of
#   version 6, whole in 7 and by generateText. A closed thought is the same everywhere.
# Why it matters: models that think run into max_tokens within the thought most of all. Half a thought is shown to users, parsed or handed on as the answer by one of two calls that are said to give the same; "x <" in
#   code or a comparison that was cut loses its end.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
node_packages ai@6.0.326 ai-7@npm:ai@7.0.173 zod@4.6.7

cat >"$work/node/reasoning.mjs" <<'JS'
import * as six from 'ai';
import * as seven from 'ai-7';
import { MockLanguageModelV3 } from 'ai/test';
import { MockLanguageModelV4 } from 'ai-7/test';

const usage = { inputTokens: { total: 1 }, outputTokens: { total: 1 } };
const finishReason = { unified: 'length', raw: 'length' };
const pieces = (text) => text.match(/.{1,3}/gs);

async function both({ wrapLanguageModel, extractReasoningMiddleware, generateText, streamText, simulateReadableStream }, Mock, text) {
  const chunks = [
    { type: 'stream-start', warnings: [] },
    { type: 'text-start', id: '0' },
    ...pieces(text).map((delta) => ({ type: 'text-delta', id: '0', delta })),
    { type: 'text-end', id: '0' },
    { type: 'finish', finishReason, usage },
  ];
  const model = wrapLanguageModel({
    model: new Mock({
      doGenerate: async () => ({ content: [{ type: 'text', text }], finishReason, usage, warnings: [] }),
      doStream: async () => ({ stream: simulateReadableStream({ chunks, initialDelayInMs: null, chunkDelayInMs: null }) }),
    }),
    middleware: extractReasoningMiddleware({ tagName: 'think' }),
  });
  const whole = await generateText({ model, prompt: 'a' });
  const stream = streamText({ model, prompt: 'a' });
  return { generated: [whole.text, whole.reasoningText ?? ''], streamed: [await stream.text, (await stream.reasoningText) ?? ''] };
}

// text of the model, [answer, thought] of generateText, of streamText in 6, in 7
const rows = [
  ['<think>all cats</think>yes', ['yes', 'all cats'], ['yes', 'all cats'], ['yes', 'all cats']],
  ['<think>all cats are', ['<think>all cats are', ''], ['', 'all cats are'], ['', 'all cats are']],
  ['if (i <', ['if (i <', ''], ['if (i ', ''], ['if (i <', '']],
];
let holds = true;
for (const [text, generated, ...streamed] of rows) {
  for (const [version, sdk, Mock, stream] of [[6, six, MockLanguageModelV3, streamed[0]], [7, seven, MockLanguageModelV4, streamed[1]]]) {
    const seen = await both(sdk, Mock, text);
    console.log(`ai ${version}, ${JSON.stringify(text)}: [text, reasoning] of generateText ${JSON.stringify(seen.generated)}, of streamText ${JSON.stringify(seen.streamed)}`);
    holds &&= JSON.stringify([seen.generated, seen.streamed]) === JSON.stringify([generated, stream]);
  }
}
process.exitCode = holds ? 0 : 1;
JS
(cd "$work/node" && node reasoning.mjs)
