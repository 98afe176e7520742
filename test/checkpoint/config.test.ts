import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseConfig, readConfig } from '../../dist/lib/checkpoint/config.js';
import { expectRefused, scratchFolders } from '../support/checkpoint-files.js';
import { modelCase } from '../support/golden.js';

const folders = scratchFolders();
const parse = (text: string) => parseConfig(text, 'config.json');

test('both spellings of infinity are numbers, wherever they stand', () => {
  expect(parse('{"a": [0.0, Infinity], "b": {"c": -Infinity}, "d": NaN}')).toEqual({
    a: [0, Infinity],
    b: { c: -Infinity },
    d: NaN,
  });
  expect(parse('{"a": [{"__float__": "Infinity"}, {"__float__": "-Infinity"}], "b": {"__float__": "NaN"}}')).toEqual({
    a: [Infinity, -Infinity],
    b: NaN,
  });
});

test('inside strings they are text', () => {
  const text = '{"a": "Infinity, NaN", "Infinity": "-Infinity \\" NaN", "b": "\\\\"}';
  expect(parse(text)).toEqual(JSON.parse(text));
});

test('the legacy spelling of a published config gives the same config', async () => {
  const { folder } = modelCase('mamba2_hf');
  expect(await readConfig(join(folder, 'config.legacy.json'))).toMatchObject({ time_step_limit: [0, Infinity] });
  const { dtype, ...now } = await readConfig(join(folder, 'config.json'));
  const { dtype: _, ...then } = await readConfig(join(folder, 'config.legacy.json'));
  expect(then).toEqual(now);
});

test('everything else is JSON as JSON.parse reads it', () => {
  for (const text of [
    readFileSync(join(modelCase('llama_gqa').folder, 'config.json'), 'utf8'),
    '{"a": [], "b": {}, "c": [1, -2.5e-3, 0, 1E+2], "d": "\\u00e9\\n\\ud83d\\ude00 é", "e": [true, false, null]}',
    ' \n\t{ } \r\n',
    '{"a": 1, "a": 2}',
    '{"constructor": 1, "toString": {"hasOwnProperty": 2}}',
  ]) {
    expect(parse(text)).toEqual(JSON.parse(text));
  }
});

describe('refused, with file, line and column', () => {
  test.each([
    ['', /config\.json:1:1: expected a value, received the end/],
    ['[1]', /expected a JSON object/],
    ['{"a": 1,}', /:1:9: expected a key in double quotes, received "}"/],
    ['{"a": [1,]}', /:1:10: expected a value/],
    ['{"a" 1}', /:1:6: expected ":", received "1"/],
    ['{"a": 1 "b": 2}', /:1:9: expected "," or "}", received "\\"b\\":"/],
    ['{\n  "a": 1,\n  "b": Infinit\n}', /:3:8: expected a value, received "Infinit"/],
    ['{"a": -NaN}', /:1:7: expected a value/],
    ['{"a": 01}', /:1:8: expected "," or "}"/],
    ['{"a": 1} x', /:1:10: expected the end, received "x"/],
    ['{"a": "b', /:1:7: this string has no end/],
    ['{"a": "\\', /:1:7: this string has no end/],
    ['{"a": "\n"}', /control characters/],
    ['{"a": "\\x"}', /:1:7: expected valid escapes/],
    ['{"a": undefined}', /received "undefined"/],
    ['{"a": toString}', /received "toString"/],
    [`{"a": ${'['.repeat(100_000)}`, /64 levels/],
    ['{"__proto__": {"polluted": 1}}', /__proto__/],
    ['{"a": {"b": [{"__float__": "eval"}]}}', /config\.json: a\.b\[0\]: expected {"__float__": "Infinity"}/],
    ['{"a": {"__float__": "Infinity", "b": 1}}', /config\.json: a: expected/],
    ['{"a": {"__float__": "toString"}}', /toString/],
  ])('%s', async (text, message) => {
    await expectRefused((async () => parse(text))(), 'config.json', message);
    expect(({} as { polluted?: number }).polluted).toBeUndefined();
  });

  test('bytes that are no UTF-8', async () => {
    const folder = folders.put({ 'config.json': Buffer.from([0x7b, 0xff, 0x7d]) });
    await expectRefused(readConfig(join(folder, 'config.json')), join(folder, 'config.json'), /UTF-8/);
  });
});
