// Long texts become ids in a thread of their own: the event loop has other requests to serve meanwhile.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { createEngine, type Generated, type GenerateOptions, loadModel, quantize, type Session } from 'statespace';
import { expect, test } from 'vitest';
import { asciiModelFolder, forAllTests, textModelFolder } from '../support/text-model.js';

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

test('tools that are long, and the tokenizer of a GGUF file', async () => {
  await using engine = createEngine(held.model, { prefixCache: false });
  const tools = [{ type: 'function', function: { name: 'f', description: 'w10 '.repeat(20_000) } }];
  const seen = encodings();
  const request = { messages: [{ role: 'user', content: 'hello' }], templateOptions: { tools }, maxTokens: 1 };
  for await (const _ of engine.generate(request));
  expect(seen.count).toBe(0);

  const folder = asciiModelFolder();
  const file = join(folder, 'model.gguf');
  await quantize(folder, file, { type: 'f32' });
  await using model = await loadModel(file);
  await using others = createEngine(model, { prefixCache: false });
  const text = 'Hello, world! '.repeat(3000);
  const expected = await others.embed(model.tokenizer!.encode(text));
  model.tokenizer!.encode = () => {
    throw new Error('on this thread');
  };
  expect(await others.embed(text)).toEqual(expected);
  rmSync(folder, { recursive: true });
});

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

test('a session reads them as well: the same tokens, in the order of its calls, until an abort', async () => {
  const text = Array.from({ length: 10_000 }, (_, i) => `w${10 + (i % 80)}`).join(' ');
  const ids = held.model.tokenizer!.encode(text);
  const generate = async (session = held.model.createSession(), options: GenerateOptions = {}) => {
    const all: number[] = [];
    for await (const { token } of session.generate({ maxTokens: 3, temperature: 0, ...options })) all.push(token);
    return all;
  };
  const behind = async (options: GenerateOptions) => {
    const session = held.model.createSession();
    await session.forward([12, 13]);
    const said = generate(session, options);
    const later = session.forward([14]); // waits for the prompt
    return [await said, [...(await later).toFloat32Array()], session.position];
  };
  const hook = { processLogits: (row: Float32Array) => void row.fill(1e9, 20, 21) };
  const ways: GenerateOptions[] = [{}, { maxTokens: 0 }, hook];
  const expected = [];
  for (const way of ways)
    expected.push(await generate(undefined, { ...way, prompt: ids }), await behind({ ...way, prompt: ids }));
  const seen = encodings();
  const found = [];
  for (const way of ways)
    found.push(await generate(undefined, { ...way, prompt: text }), await behind({ ...way, prompt: text }));
  expect(found).toEqual(expected);
  expect(seen.count).toBe(0);

  const session = held.model.createSession();
  const controller = new AbortController();
  const stopped = generate(session, { prompt: text.repeat(20), signal: controller.signal });
  controller.abort(new Error('enough'));
  await expect(stopped).rejects.toThrow('enough');
  expect(session.position).toBe(0);
  expect(await generate(session, { prompt: [12, 13] })).toEqual(await generate(undefined, { prompt: [12, 13] }));
});

test('the text behind a prompt is the same where a call waits for that prompt', async () => {
  const ids = Array.from({ length: 300 }, (_, i) => 12 + (i % 60));
  for (const way of [{}, { processLogits: (row: Float32Array) => void row.fill(1e9, 20, 21) }]) {
    const said = async (later: (session: Session) => Promise<unknown> | undefined) => {
      const session = held.model.createSession();
      await session.forward([12, 13]);
      const stream = session.generate({ prompt: ids, maxTokens: 1, temperature: 0, ...way });
      const first = stream.next();
      const behind = later(session);
      const { value } = await first;
      await behind;
      return (value as Generated).text;
    };
    const expected = await said(() => undefined);
    expect(expected).toMatch(/^ ?w\d+$/);
    for (let i = 0; i < 5; i++)
      expect(await said((session) => session.forward(ids, { logits: 'none' }))).toBe(expected);
  }
});
