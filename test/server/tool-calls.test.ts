// Tool calls as models write them, and through the server.
import { describe, expect, test } from 'vitest';
import { parseToolCalls, shownLength } from '../../dist/lib/server/tool-calls.js';

const names = new Set(['weather', 'sum']);
const parse = (text: string) => {
  const { content, calls } = parseToolCalls(text, names);
  return [content, ...calls.map(({ function: f }) => [f.name, JSON.parse(f.arguments)])];
};

test.each<[string, string, unknown[]]>([
  [
    'Hermes, Qwen, Granite',
    'Sure.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>',
    ['Sure.', ['weather', { city: 'Oslo' }]],
  ],
  [
    'two of them',
    '<tool_call>{"name":"sum","arguments":{"a":1}}</tool_call>\n<tool_call>{"name":"weather","arguments":{}}</tool_call>',
    ['', ['sum', { a: 1 }], ['weather', {}]],
  ],
  ['Mistral', '[TOOL_CALLS][{"name": "sum", "arguments": {"a": [1, 2]}}]', ['', ['sum', { a: [1, 2] }]]],
  ['Llama 3', '{"name": "weather", "parameters": {"city": "Lima"}}', ['', ['weather', { city: 'Lima' }]]],
  [
    'Llama 3 with its mark',
    '<|python_tag|>{"name": "sum", "parameters": {}}; {"name": "weather", "parameters": {"c": 1}}',
    ['', ['sum', {}], ['weather', { c: 1 }]],
  ],
  [
    'Qwen-Coder, Nemotron',
    '<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>',
    ['', ['weather', { city: 'Oslo', days: 3 }]],
  ],
  [
    'LFM2',
    'Let me see. <|tool_call_start|>[weather(city="Oslo", wet=True)]<|tool_call_end|>',
    ['Let me see.', ['weather', { city: 'Oslo', wet: true }]],
  ],
  [
    'without its last line, within marks',
    '<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n</tool_call>',
    ['', ['weather', { city: 'Oslo' }]],
  ],
  ['Granite 3', '<|tool_call|>[{"name": "sum", "arguments": {"a": 1}}]', ['', ['sum', { a: 1 }]]],
])('%s', (_, text, expected) => {
  expect(parse(text)).toEqual(expected);
});

describe('what is no call stays text', () => {
  test.each([
    '{"name": "other", "arguments": {}}',
    '<tool_call>{"name": "weather", "argum',
    '<tool_call>\n<function=weather>\n',
    '<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n1',
    '<function=weather>\n<parameter=city>\nOslo\n</parameter>\n',
    'plain',
    '{"a": 1}',
    '<tool_call>',
  ])('%s', (text) => expect(parse(text)).toEqual([text]));
});

test('what may become a call is not shown before it is clear', () => {
  expect(shownLength('Sure. <tool_ca')).toBe('Sure. '.length);
  expect(shownLength('Sure. <b>')).toBe('Sure. <b>'.length);
  expect(shownLength('{"na')).toBe(0);
});
