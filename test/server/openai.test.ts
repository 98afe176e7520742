// OpenAI's own client against the server.
import { rmSync } from 'node:fs';
import OpenAI from 'openai';
import { createEngine, type Engine, type Listening, type LogEntry, listen, loadModel, type Model } from 'statespace';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { alone, textAlone } from '../support/engines.js';
import { until } from '../support/stalls.js';
import { textModelFolder } from '../support/text-model.js';

const folder = textModelFolder();
const log: LogEntry[] = [];
let model: Model;
let engine: Engine;
let server: Listening;
let client: OpenAI;

beforeAll(async () => {
  model = await loadModel(folder);
  engine = createEngine(model, { prefixCache: { every: 16 } });
  const options = { port: 0, model: 'tiny', apiKey: ['first', 'second'], log: (entry: LogEntry) => log.push(entry) };
  server = await listen(engine, options);
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'second', maxRetries: 0 });
});
afterAll(async () => {
  await server.close(0);
  await engine.dispose();
  await model.dispose();
  rmSync(folder, { recursive: true });
});

const words = (n: number, from = 10) => Array.from({ length: n }, (_, i) => `w${from + ((i * 7) % 80)}`).join(' ');
const messages = [
  { role: 'system' as const, content: words(20) },
  { role: 'user' as const, content: words(12, 30) },
];

describe('models', () => {
  test('the one that is served', async () => {
    const { data } = await client.models.list();
    expect(data.map(({ id, object }) => ({ id, object }))).toEqual([{ id: 'tiny', object: 'model' }]);
    expect((await client.models.retrieve('tiny')).id).toBe('tiny');
    await expect(client.models.retrieve('other')).rejects.toMatchObject({ status: 404, code: 'model_not_found' });
  });
});

test('the log says of a stream why it was not sent whole', async () => {
  const stop = new AbortController();
  const asked = { model: 'tiny', prompt: words(9), max_tokens: 4000, stream: true as const, logit_bias: { '42': 100 } };
  const stream = await client.completions.create(asked, { signal: stop.signal });
  for await (const _ of stream) break;
  stop.abort();
  const last = () => log.filter((entry) => entry.path === '/v1/completions').at(-1);
  await expect.poll(last).toMatchObject({ status: 200, error: 'the client closed the request' });
  for await (const _ of await client.completions.create({ ...asked, max_tokens: 2 }));
  await expect.poll(() => last()?.generatedTokens).toBe(2);
  expect(last()).not.toHaveProperty('error');
});

describe('completions', () => {
  const ask = { model: 'tiny', prompt: words(9), max_tokens: 12, temperature: 0 };

  test('what the model says alone', async () => {
    const ids = await alone(model, { prompt: ask.prompt, maxTokens: 12 });
    const answer = await client.completions.create(ask);
    expect(answer.choices).toEqual([
      {
        index: 0,
        text: await textAlone(model, { prompt: ask.prompt, maxTokens: 12 }),
        logprobs: null,
        finish_reason: ids.length < 12 ? 'stop' : 'length',
      },
    ]);
    expect(answer.usage).toMatchObject({
      prompt_tokens: 9,
      completion_tokens: ids.length,
      total_tokens: 9 + ids.length,
    });
    expect(answer).toMatchObject({ object: 'text_completion', model: 'tiny' });
  });

  test('streamed: the same text, and the usage where it is asked for', async () => {
    const whole = await client.completions.create(ask);
    let [text, chunks, finish] = ['', 0, ''];
    let usage: unknown;
    const stream = await client.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } });
    for await (const chunk of stream) {
      chunks++;
      text += chunk.choices[0]?.text ?? '';
      finish = chunk.choices[0]?.finish_reason ?? finish;
      usage = chunk.usage ?? usage;
    }
    expect(text).toBe(whole.choices[0]!.text);
    expect(finish).toBe(whole.choices[0]!.finish_reason);
    expect(chunks).toBeGreaterThan(3);
    expect(usage).toMatchObject({ ...whole.usage, prompt_tokens_details: { cached_tokens: 8 } });
  });

  test('several prompts, token ids, n choices', async () => {
    const [a, b] = [model.tokenizer!.encode(words(5)), model.tokenizer!.encode(words(7, 40))].map((ids) => [...ids]);
    const answer = await client.completions.create({ ...ask, prompt: [a!, b!] as never, n: 2 });
    expect(answer.choices.map((c) => c.index)).toEqual([0, 1, 2, 3]);
    const texts = await Promise.all([a!, b!].map((prompt) => textAlone(model, { prompt, maxTokens: 12 })));
    expect(answer.choices.map((c) => c.text)).toEqual([texts[0], texts[0], texts[1], texts[1]]);
    expect(answer.usage!.prompt_tokens).toBe(12);
  });

  test('a stop text ends it and is no part of it', async () => {
    const { text } = (await client.completions.create(ask)).choices[0]!;
    const stop = text.split(' ').slice(3, 5).join(' ');
    const cut = (await client.completions.create({ ...ask, stop })).choices[0]!;
    expect(cut).toMatchObject({ text: text.slice(0, text.indexOf(stop)), finish_reason: 'stop' });
  });

  test('the same seed, the same text; choices of one request differ', async () => {
    const wild = { ...ask, temperature: 1.5, seed: 7, n: 3 };
    const texts = async () => (await client.completions.create(wild)).choices.map((c) => c.text);
    const first = await texts();
    expect(await texts()).toEqual(first);
    expect(new Set(first).size).toBe(3);
  });

  test('logit_bias and penalties change what is said', async () => {
    const biased = await client.completions.create({ ...ask, logit_bias: { '42': 100 } });
    expect(biased.choices[0]!.text).toBe(' w42'.repeat(12));
    const both = { ...ask, logit_bias: { '42': 100 }, frequency_penalty: 2 };
    expect((await client.completions.create(both)).choices[0]!.text.startsWith(' w42 w42')).toBe(true);
    const punished = await client.completions.create({ ...ask, logit_bias: { '42': 3, '43': 3 }, presence_penalty: 2 });
    expect(punished.choices[0]!.text).not.toBe(biased.choices[0]!.text);
  });

  test('logprobs: a token that was drawn is among those at its place, though it is none of the likeliest', async () => {
    const drawn = { ...ask, max_tokens: 24, temperature: 5, seed: 3 };
    const { choices } = await client.completions.create({ ...drawn, logprobs: 1 });
    const { tokens, token_logprobs, top_logprobs } = choices[0]!.logprobs!;
    for (const [i, top] of top_logprobs!.entries()) expect(top[tokens![i]!]).toBe(token_logprobs![i]);
    expect(Math.max(...top_logprobs!.map((top) => Object.keys(top).length))).toBe(2);
    const none = await client.completions.create({ ...drawn, logprobs: 0 });
    expect(none.choices[0]!.logprobs!.top_logprobs!.map((top) => Object.keys(top).length)).toEqual(Array(24).fill(1));
  });

  test('logprobs: where a token begins, also where its text is held back as what may become a stop', async () => {
    const long = { ...ask, max_tokens: 40, temperature: 5, logprobs: 0 };
    const begin = async (stop: string[], seed: number) => {
      const { text, logprobs } = (await client.completions.create({ ...long, seed, stop })).choices[0]!;
      let at = 0;
      const wanted = logprobs!.tokens!.map((token) => {
        const from = at;
        if (!token.startsWith('<')) at += token.length; // special ones are no text
        return from;
      });
      expect(at).toBe(text.length);
      expect(logprobs!.text_offset).toEqual(wanted);
      let streamed: number[] = [];
      for await (const { choices } of await client.completions.create({ ...long, seed, stop, stream: true }))
        streamed = [...streamed, ...(choices[0]!.logprobs?.text_offset ?? [])];
      expect(streamed).toEqual(wanted);
    };
    for (const seed of [1, 2, 3]) {
      await begin(['never'], seed);
      await begin(
        Array.from('0123', (digit) => `${digit} no`),
        seed,
      );
      await begin([' w1 w2 w3 w4 w5 w6', ' w no'], seed);
    }
  });

  test('logprobs: of the tokens and of the likeliest', async () => {
    const { choices } = await client.completions.create({ ...ask, max_tokens: 4, logprobs: 3 });
    const { tokens, token_logprobs, top_logprobs, text_offset } = choices[0]!.logprobs!;
    expect(tokens!.join('')).toBe(choices[0]!.text);
    expect(text_offset![0]).toBe(0);
    for (const [i, top] of top_logprobs!.entries()) {
      expect(Object.keys(top).length).toBe(3);
      expect(Math.max(...Object.values(top))).toBeCloseTo(token_logprobs![i]!, 5);
      expect(token_logprobs![i]!).toBeLessThan(0);
    }
  });
});

describe('chats', () => {
  const ask = { model: 'tiny', messages, max_completion_tokens: 10, temperature: 0 };

  test('an answer, what it took, and what the cache held of the next', async () => {
    const first = await client.chat.completions.create(ask);
    const { message, finish_reason } = first.choices[0]!;
    expect(message.role).toBe('assistant');
    expect(message.content!.length).toBeGreaterThan(0);
    expect(['stop', 'length']).toContain(finish_reason);
    expect(first.usage!.prompt_tokens).toBe(20 + 12 + 5);
    const again = await client.chat.completions.create(ask);
    expect(again.choices[0]!.message).toEqual(message);
    expect(again.usage!.prompt_tokens_details!.cached_tokens).toBe(36);
    // Another question after the same system message is found up to where that ends.
    const other = [messages[0]!, { role: 'user' as const, content: words(12, 60) }];
    const third = await client.chat.completions.create({ ...ask, messages: other });
    expect(third.usage!.prompt_tokens_details!.cached_tokens).toBe(22);
  });

  test('the conversation goes on from the answer', async () => {
    const first = await client.chat.completions.create({ ...ask, max_completion_tokens: 6 });
    const next = [...messages, first.choices[0]!.message, { role: 'user' as const, content: 'one two' }];
    const answer = await client.chat.completions.create({ ...ask, messages: next as typeof messages });
    const { prompt_tokens_details } = answer.usage!;
    expect(prompt_tokens_details!.cached_tokens).toBeGreaterThanOrEqual(37 + first.usage!.completion_tokens - 1);
  });

  test('streamed, several choices', async () => {
    const stream = await client.chat.completions.create({ ...ask, n: 2, stream: true });
    const texts = ['', ''];
    const finished: unknown[] = [];
    const begun: number[] = [];
    for await (const { choices, object } of stream) {
      expect(object).toBe('chat.completion.chunk');
      for (const { index, delta, finish_reason } of choices) {
        if (delta.role) begun.push(index);
        else expect(begun).toEqual([0, 1]);
        texts[index]! += delta.content ?? '';
        if (finish_reason) finished.push(index);
      }
    }
    const whole = await client.chat.completions.create(ask);
    expect(texts).toEqual([whole.choices[0]!.message.content, whole.choices[0]!.message.content]);
    expect(finished.sort()).toEqual([0, 1]);
  });

  test('logprobs', async () => {
    const { choices } = await client.chat.completions.create({ ...ask, logprobs: true, top_logprobs: 2 });
    for (const one of choices[0]!.logprobs!.content!) {
      expect(one.top_logprobs.map((t) => t.token)).toContain(one.token);
      expect(one.top_logprobs.length).toBe(2);
      expect(Buffer.from(one.bytes!).toString()).toBe(one.token);
    }
  });

  test('an abort ends the request within a step', async () => {
    const abort = new AbortController();
    const endless = { ...ask, max_completion_tokens: 4000, logit_bias: { '42': 100 } };
    const stream = await client.chat.completions.create({ ...endless, stream: true }, { signal: abort.signal });
    let chunks = 0;
    try {
      for await (const _ of stream) if (++chunks === 5) abort.abort();
    } catch (error) {
      expect(error).toBeInstanceOf(OpenAI.APIUserAbortError);
    }
    expect(chunks).toBeLessThan(3000);
    const whole = client.chat.completions.create(endless, { signal: AbortSignal.timeout(100) });
    await expect(whole).rejects.toThrow();
    await until(() => engine.stats().running + engine.stats().queued === 0);
  });
});

test('embeddings: of length 1, the same as floats and as base64', async () => {
  const input = [words(5), words(30, 20)];
  const { data, usage } = await client.embeddings.create({ model: 'tiny', input });
  const floats = await client.embeddings.create({ model: 'tiny', input, encoding_format: 'float' });
  expect(usage).toEqual({ prompt_tokens: 35, total_tokens: 35 });
  for (const [i, { embedding }] of data.entries()) {
    expect(embedding.length).toBe(model.config.hidden_size);
    expect(embedding.reduce((sum, x) => sum + x * x, 0)).toBeCloseTo(1, 4);
    for (const [j, x] of embedding.entries()) expect(floats.data[i]!.embedding[j]).toBeCloseTo(x, 6);
  }
});

describe('errors in the form of OpenAI`s API', () => {
  const chatting = { model: 'tiny', messages };
  test.each([
    [
      'a wrong key',
      () => new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'third', maxRetries: 0 }).models.list(),
      401,
    ],
    ['another model', () => client.completions.create({ model: 'gpt', prompt: 'a' }), 404],
    ['no prompt', () => client.completions.create({ model: 'tiny' } as never), 400],
    ['an unknown id', () => client.completions.create({ model: 'tiny', prompt: [100_000] as never }), 400],
    ['no messages', () => client.chat.completions.create({ model: 'tiny', messages: [] }), 400],
    [
      'an image',
      () =>
        client.chat.completions.create({
          model: 'tiny',
          messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'x' } }] }],
        }),
      400,
    ],
    ['a temperature of -1', () => client.chat.completions.create({ ...chatting, temperature: -1 }), 400],
    ['n of 0', () => client.chat.completions.create({ ...chatting, n: 0 }), 400],
    ['top_logprobs without logprobs', () => client.chat.completions.create({ ...chatting, top_logprobs: 2 }), 400],
    ['a suffix', () => client.completions.create({ model: 'tiny', prompt: 'a', suffix: 'b' }), 400],
    ['a forced tool', () => client.chat.completions.create({ ...chatting, tool_choice: 'required' }), 400],
    ['functions, as they were before tools', () => client.chat.completions.create({ ...chatting, functions: [] }), 400],
    ['a misspelt field', () => client.completions.create({ model: 'tiny', prompt: 'a', max_token: 5 } as never), 400],
    ['another path', () => client.files.list(), 404],
  ] as const)('%s', async (_, call, status) => {
    const error = await (call() as Promise<unknown>).then(
      () => undefined,
      (e: unknown) => e,
    );
    expect(error).toBeInstanceOf(OpenAI.APIError);
    const { status: its, error: body } = error as InstanceType<typeof OpenAI.APIError>;
    expect(its).toBe(status);
    expect(body).toMatchObject({ message: expect.any(String), type: 'invalid_request_error' });
  });

  test('overload is 429 with Retry-After, and the client`s own retry gets through', async () => {
    const small = createEngine(model, { maxRunning: 1, maxQueued: 1 });
    const busy = await listen(small, { port: 0, model: 'tiny', page: false });
    const ask = { model: 'tiny', prompt: 'hello', max_tokens: 300, logit_bias: { '42': 100 } };
    const patient = (maxRetries: number) => new OpenAI({ baseURL: `${busy.url}/v1`, apiKey: 'x', maxRetries });
    const results = await Promise.allSettled(Array.from({ length: 6 }, () => patient(0).completions.create(ask)));
    const refused = results.filter((r) => r.status === 'rejected').map((r) => r.reason);
    expect(refused.length).toBeGreaterThan(0);
    for (const error of refused) {
      expect(error).toMatchObject({ status: 429, code: 'overloaded' });
      expect(error.headers.get('retry-after')).toBe('1');
    }
    await Promise.all(Array.from({ length: 4 }, () => patient(5).completions.create({ ...ask, max_tokens: 5 })));
    await busy.close(0);
    await small.dispose();
  });
});

test('fields of other servers, and those without a meaning here, are no errors', async () => {
  const foreign = {
    store: true,
    metadata: { a: 'b' },
    parallel_tool_calls: false,
    service_tier: 'auto',
    use_beam_search: false,
  };
  const { choices } = await client.chat.completions.create({
    model: 'tiny',
    messages,
    max_tokens: 2,
    ...foreign,
  } as never);
  expect(choices.length).toBe(1);
});

test('a chat goes on from its last message where it is asked to', async () => {
  const begun = [...messages, { role: 'assistant' as const, content: 'hello' }];
  const ask = { model: 'tiny', messages: begun, max_completion_tokens: 4, temperature: 0 };
  const { choices } = await client.chat.completions.create({ ...ask, continue_final_message: true } as never);
  const prompt = model.tokenizer!.encodeChat(begun, { continueFinalMessage: true });
  expect(choices[0]!.message.content).toBe(await textAlone(model, { prompt, maxTokens: 4 }));
});

test('health, metrics and the log', async () => {
  expect(await (await fetch(`${server.url}/health`)).json()).toEqual({ status: 'ok' });
  await client.completions.create({ model: 'tiny', prompt: 'hello', max_tokens: 3 });
  const text = await (await fetch(`${server.url}/metrics`)).text();
  for (const name of ['requests_running', 'cache_bytes', 'time_to_first_token_seconds_bucket', 'tokens_per_second'])
    expect(text).toContain(`statespace_${name}`);
  expect(Number(/statespace_generated_tokens_total (\d+)/.exec(text)![1])).toBe(engine.stats().generatedTokens);
  expect(text).toMatch(/statespace_http_requests_total\{path="\/v1\/completions",status="200"\} [1-9]/);
  const { promptTokens, status, path } = log.filter((entry) => entry.path === '/v1/completions').at(-1)!;
  expect({ promptTokens, status, path }).toEqual({ promptTokens: 1, status: 200, path: '/v1/completions' });
});
