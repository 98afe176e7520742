// Long texts become ids in a thread of their own: the event loop has other requests to serve meanwhile.
import { createEngine } from 'statespace';
import { expect, test } from 'vitest';
import { forAllTests, textModelFolder } from '../support/text-model.js';

const held = forAllTests(textModelFolder());

/** Calls of the tokenizer on this thread from now on. */
function encodings(): { count: number } {
  const seen = { count: 0 };
  const tokenizer = held.model.tokenizer!;
  for (const name of ['encode', 'encodeChat'] as const) {
    const own = tokenizer[name].bind(tokenizer) as (...args: unknown[]) => Int32Array;
    tokenizer[name] = ((...args: unknown[]) => {
      seen.count++;
      return own(...args);
    }) as never;
  }
  return seen;
}

test('the same ids as here, of a text, of a chat and of an embedding', async () => {
  await using engine = createEngine(held.model, { prefixCache: false });
  const text = Array.from({ length: 10_000 }, (_, i) => `w${10 + (i % 80)}`).join(' ');
  const messages = [{ role: 'user', content: text }];
  const ids = held.model.tokenizer!.encode(text);
  const chat = held.model.tokenizer!.encodeChat(messages, { addGenerationPrompt: true });
  const tokens = async (request: object) => {
    const all: number[] = [];
    for await (const { token } of engine.generate({ maxTokens: 3, ...request })) all.push(token);
    return all;
  };
  const expected = [await tokens({ tokens: ids }), await tokens({ tokens: chat }), await engine.embed(ids)];
  const seen = encodings();
  expect([await tokens({ prompt: text }), await tokens({ messages }), await engine.embed(text)]).toEqual(expected);
  expect(seen.count).toBe(0);
  // What no thread can be sent is refused in the words of the template.
  await expect(tokens({ messages, templateOptions: { now: () => 0 } })).rejects.toMatchObject({
    code: 'ERR_ARGUMENT',
    message: expect.stringContaining('a function cannot be given to a template'),
  });
  expect(engine.stats()).toMatchObject({ running: 0, queued: 0, failed: 0 });
  const template = '{{ raise_exception("none of this") }}';
  const refused = tokens({ messages, templateOptions: { template } });
  await expect(refused).rejects.toMatchObject({
    code: 'ERR_ARGUMENT',
    message: expect.stringContaining('none of this'),
  });
  const gone = AbortSignal.timeout(1);
  await expect(tokens({ prompt: text.repeat(20), signal: gone })).rejects.toThrow(/timeout/);
});
