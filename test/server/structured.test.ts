// response_format through OpenAI's own client.
import { rmSync } from 'node:fs';
import OpenAI from 'openai';
import { createEngine, type Engine, type Listening, listen, loadModel, type Model } from 'statespace';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { asciiModelFolder } from '../support/text-model.js';

const folder = asciiModelFolder();
let model: Model;
let engine: Engine;
let server: Listening;
let client: OpenAI;

beforeAll(async () => {
  model = await loadModel(folder);
  engine = createEngine(model);
  server = await listen(engine, { port: 0, model: 'noise', log: () => {} });
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterAll(async () => {
  await server.close(0);
  await engine.dispose();
  await model.dispose();
  rmSync(folder, { recursive: true });
});

const schema = {
  ...{ type: 'object', required: ['city', 'degrees'], additionalProperties: false },
  properties: { city: { enum: ['Oslo', 'Lima'] }, degrees: { type: 'integer', minimum: -40, maximum: 55 } },
};
const ask = { model: 'noise', messages: [{ role: 'user' as const, content: 'Weather?' }], temperature: 1, seed: 3 };
const json_schema = { type: 'json_schema' as const, json_schema: { name: 'weather', strict: true, schema } };

test('json_schema: at once, streamed, and several choices', async () => {
  const { choices } = await client.chat.completions.create({ ...ask, n: 3, response_format: json_schema });
  const stream = await client.chat.completions.create({ ...ask, stream: true, response_format: json_schema });
  let streamed = '';
  for await (const { choices } of stream) streamed += choices[0]?.delta.content ?? '';
  expect(streamed).toBe(choices[0]!.message.content);
  for (const { message, finish_reason } of choices) {
    const { city, degrees, ...rest } = JSON.parse(message.content!);
    expect([finish_reason, rest]).toEqual(['stop', {}]);
    expect(['Oslo', 'Lima']).toContain(city);
    expect(Number.isInteger(degrees) && degrees >= -40 && degrees <= 55).toBe(true);
  }
});

test('json_object, and regex in a completion', async () => {
  const object = { type: 'json_object' as const };
  const chat = await client.chat.completions.create({ ...ask, max_completion_tokens: 30, response_format: object });
  expect(chat.choices[0]!.message.content).toMatch(/^\{/);
  const regex = { response_format: { type: 'regex', pattern: '[0-9]{3}-[a-z]{2}' } };
  const { choices } = await client.completions.create({
    model: 'noise',
    prompt: 'n',
    max_tokens: 20,
    ...regex,
  } as never);
  expect(choices[0]!.text).toMatch(/^[0-9]{3}-[a-z]{2}$/);
});

test.each([
  { type: 'json_schema', json_schema: { name: 'x', schema: { not: {} } } },
  { type: 'json_schema', json_schema: { name: 'x' } },
  { type: 'grammar', ebnf: 'root ::= nothing' },
  { type: 'regex', pattern: '(' },
  { type: 'yaml' },
])('%j is 400', async (response_format) => {
  const failure = client.chat.completions.create({ ...ask, response_format } as never);
  await expect(failure).rejects.toMatchObject({ status: 400, type: 'invalid_request_error' });
});

test.each([
  ['regex', '"pattern":"', '(', 'a', ')', '"'],
  ['grammar', '"ebnf":"root ::= ', '(', "'a'", ')', '"'],
  ['json_schema', '"json_schema":{"name":"x","schema":', '{"items":', '{}', '}', '}'],
])('%s that is nested too deeply is 400', async (type, before, open, inner, close, after) => {
  const format = `{"type":"${type}",${before}${open.repeat(20_000)}${inner}${close.repeat(20_000)}${after}}`;
  const response = await fetch(`${server.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: `${JSON.stringify(ask).slice(0, -1)},"response_format":${format}}`,
  });
  expect([response.status, await response.text()]).toEqual([400, expect.stringContaining('invalid_request_error')]);
});

test('a tool call that the model writes is a tool call, at once and streamed', async () => {
  const call = '<tool_call>\\{"name": "weather", "arguments": \\{"city": "(Oslo|Lima)"\\}\\}</tool_call>';
  const tools = [{ type: 'function', function: { name: 'weather', parameters: schema } }];
  const request = { ...ask, tools, response_format: { type: 'regex', pattern: `So: ${call}` } };
  const { choices } = await client.chat.completions.create(request as never as typeof ask);
  const [{ message, finish_reason }] = choices as never as [(typeof choices)[0]];
  expect([message.content, finish_reason]).toEqual(['So:', 'tool_calls']);
  const [made] = message.tool_calls!;
  expect(made).toMatchObject({ type: 'function', function: { name: 'weather' } });
  const { city } = JSON.parse((made as { function: { arguments: string } }).function.arguments);
  expect(['Oslo', 'Lima']).toContain(city);
  // Who asked for parallel calls must know that the next one was cut.
  const second = { type: 'regex', pattern: `So: ${call}${call}` };
  const cut = await client.chat.completions.create({
    ...request,
    response_format: second,
    max_tokens: 100,
  } as never as typeof ask);
  expect([cut.choices[0]!.message.tool_calls?.length, cut.choices[0]!.finish_reason]).toEqual([1, 'length']);
  const stream = await client.chat.completions.create({ ...request, stream: true } as never as typeof ask & {
    stream: true;
  });
  let [content, name, args] = ['', '', ''];
  for await (const { choices } of stream) {
    const { delta } = choices[0]!;
    content += delta.content ?? '';
    name += delta.tool_calls?.[0]?.function?.name ?? '';
    args += delta.tool_calls?.[0]?.function?.arguments ?? '';
  }
  expect([content.trim(), name, JSON.parse(args).city]).toEqual(['So:', 'weather', city]);
});

const levels = (count: number): unknown => {
  let schema: unknown = true;
  for (let i = 0; i < count; i++) schema = { items: schema };
  return schema;
};

describe('a tool that has to be called', () => {
  const parameters = (values: string[]) => {
    return { type: 'object', properties: { city: { enum: values } }, required: ['city'], additionalProperties: false };
  };
  const tool = (name: string, values: string[]) => ({
    type: 'function' as const,
    function: { name, parameters: parameters(values) },
  });
  const tools = [tool('weather', ['Oslo', 'Lima']), tool('time', ['Rome'])];
  const named = { type: 'function' as const, function: { name: 'time' } };
  const calls = async (body: object) => {
    const { choices } = await client.chat.completions.create({ ...ask, tools, ...body } as typeof ask);
    const stream = client.chat.completions.stream({ ...ask, tools, ...body } as never);
    const streamed = (await stream.finalChatCompletion()).choices[0]!;
    const [whole] = choices;
    const of = ({ message, finish_reason }: typeof whole & {}) => {
      return {
        content: message.content,
        finish_reason,
        calls: message.tool_calls?.map((c) => 'function' in c && c.function),
      };
    };
    expect(of(streamed as typeof whole & {})).toMatchObject(of(whole!));
    expect(whole!.message.tool_calls?.[0]?.id).toMatch(/^call_\w+/);
    return of(whole!);
  };

  test('any of them, the only one, one by its name', async () => {
    const seen = new Set<string>();
    for (let seed = 0; seed < 12; seed++) {
      const answer = await calls({ tool_choice: 'required', seed });
      expect(answer).toMatchObject({
        content: null,
        finish_reason: 'tool_calls',
        calls: [{ name: expect.any(String) }],
      });
      const [{ name, arguments: args }] = answer.calls as unknown as [{ name: string; arguments: string }];
      seen.add(name);
      expect(name === 'time' ? ['Rome'] : ['Oslo', 'Lima']).toContain(JSON.parse(args).city);
    }
    expect([...seen].sort()).toEqual(['time', 'weather']);
    const only = await calls({ tool_choice: 'required', tools: [tools[1]] });
    expect(only).toMatchObject({
      finish_reason: 'tool_calls',
      calls: [{ name: 'time', arguments: '{"city":"Rome"}' }],
    });
    // Who names the function is told why its arguments ended.
    const one = await calls({ tool_choice: named });
    expect(one.finish_reason).toBe('stop');
    expect(JSON.parse((one.calls as unknown as [{ arguments: string }])[0].arguments)).toEqual({ city: 'Rome' });
    expect(
      await client.chat.completions.create({ ...ask, tools, tool_choice: named, max_completion_tokens: 4 }),
    ).toMatchObject({
      choices: [{ finish_reason: 'length' }],
    });
  });

  // Schemas that zod and pydantic make have their parts in $defs, and trees refer to themselves.
  test('parameters refer to parts of themselves', async () => {
    const place = { type: 'object', properties: { city: { $ref: '#/$defs/City' } }, required: ['city'] };
    const referring = {
      ...{ type: 'object', required: ['const'], additionalProperties: false },
      properties: { const: { $ref: '#/$defs/Place' } },
      $defs: { Place: { ...place, additionalProperties: false }, City: { enum: ['Oslo'] } },
    };
    const where = { type: 'function' as const, function: { name: 'where', parameters: referring } };
    const tree = {
      ...{ type: 'object', required: ['city'], additionalProperties: false },
      properties: { city: { enum: ['Rome'] }, next: { anyOf: [{ type: 'null' }, { $ref: '#' }] } },
    };
    const list = { type: 'function' as const, function: { name: 'list', parameters: tree } };
    const forms = { where: { const: { city: 'Oslo' } }, list: { city: 'Rome' } };
    for (const asked of [[where], [list], [where, list]])
      for (const seed of [1, 2, 3]) {
        const answer = await calls({ tool_choice: 'required', tools: asked, seed });
        const [call] = answer.calls as unknown as [{ name: keyof typeof forms; arguments: string }];
        expect(JSON.parse(call.arguments)).toMatchObject(forms[call.name]);
      }
  });

  test('arguments are an object where parameters say nothing', async () => {
    const tool = { type: 'function', function: { name: 'now', parameters: {} } };
    for (const seed of [1, 2, 3]) {
      const { choices } = await client.chat.completions.create({
        ...{ ...ask, seed, max_completion_tokens: 30, tools: [tool] },
        ...{ tool_choice: { type: 'function', function: { name: 'now' } } },
      } as never);
      const [call] = (choices as { message: { tool_calls: { function: { arguments: string } }[] } }[])[0]!.message
        .tool_calls;
      expect(call!.function.arguments).toMatch(/^\{/);
    }
  });

  test.each([
    ['no tools', { tool_choice: 'required', tools: undefined }, /where there are no tools/],
    ['another name', { tool_choice: { type: 'function', function: { name: 'x' } } }, /one of the tools/],
    ['another form', { tool_choice: { type: 'custom' } }, /auto, none, required/],
    ['a format beside it', { tool_choice: 'required', response_format: json_schema }, /response_format: expected none/],
    [
      'a schema of thousands of levels',
      {
        tool_choice: 'required',
        tools: [{ type: 'function', function: { name: 'a', parameters: levels(3000) } }],
      },
      /more than 100 levels/,
    ],
    [
      'a schema that is none',
      {
        tool_choice: 'required',
        tools: [{ type: 'function', function: { name: 'a', parameters: { type: 'nothing' } } }],
      },
      /nothing/,
    ],
  ])('%s is refused', async (_, body, message) => {
    const asked = client.chat.completions.create({ ...ask, tools, ...body } as never);
    await expect(asked).rejects.toMatchObject({ status: 400, message: expect.stringMatching(message) });
  });
});
