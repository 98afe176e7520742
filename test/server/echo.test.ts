// Completions that begin with their prompt, by OpenAI's own client.
import { rmSync } from 'node:fs';
import OpenAI from 'openai';
import { createEngine, type Engine, type Listening, listen, loadModel, type Model } from 'statespace';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { textModelFolder } from '../support/text-model.js';

const folder = textModelFolder();
let model: Model;
let engine: Engine;
let server: Listening;
let client: OpenAI;

beforeAll(async () => {
  model = await loadModel(folder);
  engine = createEngine(model, { prefixCache: { every: 16 } });
  server = await listen(engine, { port: 0, model: 'tiny' });
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
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
const ask = { model: 'tiny', prompt: words(9), max_tokens: 12, temperature: 0 };

describe('echo', () => {
  const { prompt } = ask;

  test('the prompt first, then what follows it', async () => {
    const [plain, echoed] = await Promise.all([ask, { ...ask, echo: true }].map((a) => client.completions.create(a)));
    expect(echoed!.choices[0]!.text).toBe(prompt + plain!.choices[0]!.text);
    expect(echoed!.usage).toMatchObject({ prompt_tokens: 9, completion_tokens: plain!.usage!.completion_tokens });
    const alone = await client.completions.create({ ...ask, echo: true, max_tokens: 0 });
    expect(alone.choices[0]).toMatchObject({ text: prompt, logprobs: null, finish_reason: 'length' });
  });

  test('log-probabilities of the prompt are those that the model gives', async () => {
    const ids = model.tokenizer!.encode(prompt);
    const rows = (await model.createSession().forward(ids, { logits: 'all' })).toFloat32Array();
    const width = rows.length / ids.length;
    const logprobs = (at: number) => {
      const row = [...rows.subarray(at * width, at * width + model.vocabSize)];
      const top = Math.max(...row);
      const sum = Math.log(row.reduce((all, x) => all + Math.exp(x - top), 0)) + top;
      return row.map((x, token) => ({
        word: ` ${model.tokenizer!.decode([token], { skipSpecialTokens: false })}`,
        p: x - sum,
      }));
    };
    const given = {
      ...ask,
      prompt: [[...ids], [...ids.subarray(0, 3)]],
      echo: true,
      logprobs: 2,
      max_tokens: 1,
      n: 2,
    };
    const { choices } = await client.completions.create(given);
    expect(choices.map(({ index }) => index)).toEqual([0, 1, 2, 3]);
    for (const { index, text, logprobs: got } of choices) {
      const length = index < 2 ? ids.length : 3;
      const words = prompt
        .split(' ')
        .slice(0, length)
        .map((word) => ` ${word}`);
      expect(got!.tokens!.slice(0, length)).toEqual(words);
      expect(got!.tokens).toHaveLength(length + 1);
      expect(text.startsWith(words.join('').trimStart())).toBe(true);
      expect(got!.text_offset!.slice(1, length)).toEqual(
        words.slice(1).map((_, i) => words.slice(0, i + 1).join('').length - 1),
      );
      expect([got!.token_logprobs![0], got!.top_logprobs![0]]).toEqual([null, null]);
      for (let at = 1; at < length; at++) {
        const expected = logprobs(at - 1).sort((a, b) => b.p - a.p);
        expect(got!.token_logprobs![at]).toBeCloseTo(expected.find(({ word }) => word === words[at])!.p, 3);
        const likeliest = Object.entries(got!.top_logprobs![at]!).filter(([word]) => word !== words[at]);
        expect(expected.slice(0, 3).map(({ word }) => word)).toEqual(
          expect.arrayContaining(likeliest.map(([word]) => word)),
        );
        expect(Math.max(...Object.values(got!.top_logprobs![at]!))).toBeCloseTo(expected[0]!.p, 3);
      }
    }
  });

  test('streamed: the prompt comes first, of every choice', async () => {
    const whole = await client.completions.create({ ...ask, echo: true, logprobs: 1, n: 2 });
    const texts = ['', ''];
    const tokens: string[][] = [[], []];
    for await (const { choices } of await client.completions.create({
      ...ask,
      echo: true,
      logprobs: 1,
      n: 2,
      stream: true,
    }))
      for (const { index, text, logprobs } of choices) {
        if (texts[index] === '') expect(text).toBe(prompt);
        texts[index] += text;
        tokens[index]!.push(...(logprobs?.tokens ?? []));
      }
    expect(texts).toEqual(whole.choices.map(({ text }) => text));
    expect(tokens).toEqual(whole.choices.map(({ logprobs }) => logprobs!.tokens));
  });

  test('the token that ends a text has its log-probability too: as many as were drawn', async () => {
    const end = { ...ask, echo: true, logprobs: 1, max_tokens: 1, logit_bias: { '1': 100 } };
    const { choices } = await client.completions.create(end);
    expect(choices[0]!.finish_reason).toBe('stop');
    expect(choices[0]!.text).toBe(prompt);
    expect(choices[0]!.logprobs!.tokens!.slice(9)).toEqual(['<end>']);
    const plain = await client.completions.create({ ...end, echo: false });
    expect(plain.choices[0]!.logprobs).toBe(null);
  });

  test('a chat has none, and a prompt that is too long is refused as ever', async () => {
    const chat = { model: 'tiny', messages, echo: true } as never;
    await expect(client.chat.completions.create(chat)).rejects.toMatchObject({ status: 400, param: 'echo' });
    const wrong = { ...ask, prompt: [1, 5000], echo: true, logprobs: 1 };
    await expect(client.completions.create(wrong)).rejects.toMatchObject({ status: 400, param: 'prompt' });
  });
});
