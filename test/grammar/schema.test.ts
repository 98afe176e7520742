// Which texts a schema's grammar lets through, by the grammar engine itself, in this thread.
import { createRequire } from 'node:module';
import { beforeAll, describe, expect, test } from 'vitest';
import { schemaGrammar } from '../../dist/lib/grammar/schema.js';

type Xgrammar = typeof import('@mlc-ai/web-xgrammar', { with: { 'resolution-mode': 'import' }});
type Compiler = Awaited<ReturnType<Xgrammar['GrammarCompiler']['createGrammarCompiler']>>;

const END = 256;
let compiler: Compiler;
let xgrammar: Xgrammar;

beforeAll(async () => {
  const scope = globalThis as unknown as { xgrammar: Xgrammar };
  // As lib/grammar/thread.ts loads it.
  Object.assign(globalThis, { require: createRequire(__filename), __filename, __dirname });
  await import('@mlc-ai/web-xgrammar');
  xgrammar = scope.xgrammar;
  const printed = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  let others = 256;
  const bytes = Array.from({ length: 256 }, (_, b) => String.fromCharCode(printed(b) ? b : others++));
  const info = await xgrammar.TokenizerInfo.createTokenizerInfo([...bytes, ''], 'byte_level', false, END + 1, [END]);
  compiler = await xgrammar.GrammarCompiler.createGrammarCompiler(info, false);
});

/** Those of the texts that the schema's grammar lets through whole. */
async function passing(schema: unknown, texts: readonly string[]): Promise<string[]> {
  const compiled = await compiler.compileGrammar(schemaGrammar(schema));
  const matcher = await xgrammar.GrammarMatcher.createGrammarMatcher(compiled, [END]);
  const passes = texts.filter((text) => {
    matcher.reset();
    return [...Buffer.from(text), END].every((byte) => matcher.acceptToken(byte));
  });
  matcher.dispose();
  compiled.dispose();
  return passes;
}

const integer = (bounds: object) => ({ type: 'integer', ...bounds });
const list = {
  type: 'object',
  properties: { v: integer({}), next: { anyOf: [{ $ref: '#/$defs/n' }, { type: 'null' }] } },
};

test.each<[string, unknown, string[], string[]]>([
  ['any object', { type: 'object' }, ['{}', '{"a":1}', '{\n  "a": {"b": [1, null]}\n}'], ['[]', '{', '{"a"}', '{a:1}']],
  ['any value', {}, ['1', '"x"', '[]', 'true', '-0.5e3'], ['01', '.5', '1.', "'x'", '"\n"', 'nul']],
  [
    'properties in order, those that are required',
    { type: 'object', properties: { a: { type: 'string' }, b: integer({}), c: { type: 'null' } }, required: ['b'] },
    ['{"b":1}', '{"a":"x","b":1}', '{ "b": 1, "c": null }'],
    ['{}', '{"a":"x"}', '{"b":1,"a":"x"}', '{"b":1,"z":2}', '{"b":1,}'],
  ],
  [
    'other properties, under other names',
    { type: 'object', properties: { a: { type: 'string' } }, additionalProperties: integer({}) },
    ['{"a":"x","ab":1}', '{"":1}', '{"b":1,"c":2}'],
    ['{"a":1}', '{"a":"x","a":1}', '{"\\u0061":1}', '{"b":"x"}'],
  ],
  [
    'a required name that is not listed',
    { type: 'object', properties: { a: integer({}) }, required: ['b'] },
    ['{"b":[]}', '{"a":1,"b":2}'],
    ['{"a":1}', '{}'],
  ],
  [
    'as many properties as asked for',
    { type: 'object', properties: { a: {}, b: {}, c: {} }, minProperties: 2, maxProperties: 2 },
    ['{"a":1,"b":1}', '{"b":1,"c":1}'],
    ['{}', '{"a":1}', '{"a":1,"b":1,"c":1}'],
  ],
  [
    'names by a pattern',
    { patternProperties: { '^s_': integer({}) } },
    ['{}', '{"s_ab":1}'],
    ['{"q":1}', '{"s_":"x"}'],
  ],
  [
    'items',
    { type: 'array', items: integer({}), minItems: 2, maxItems: 3 },
    ['[1,2]', '[1, 2, 3]'],
    ['[]', '[1]', '[1,2,3,4]', '[1,"a"]'],
  ],
  ['items of any kind', { type: 'array', minItems: 2 }, ['[1,"a"]', '[1,2,3]'], ['[]', '[1]']],
  ['a tuple', { prefixItems: [{ type: 'string' }, integer({})] }, ['["a",1]'], ['[]', '["a"]', '["a",1,2]']],
  [
    'a string of a length',
    { type: 'string', minLength: 2, maxLength: 3 },
    ['"ab"', '"é\\n😀"'],
    ['"a"', '"abcd"', '"\\ud83d\\ude00"'],
  ],
  ['a pattern anywhere', { type: 'string', pattern: 'b' }, ['"b"', '"abc"'], ['"ac"']],
  [
    'a pattern of the whole',
    { type: 'string', pattern: '^[a-z]{2,3}$' },
    ['"ab"', '"abc"'],
    ['"a"', '"abcd"', '"^ab$"'],
  ],
  ['a pattern within JSON', { type: 'string', pattern: '^.[^a]$' }, ['"xy"', '"\\"\\\\"'], ['"""x"', '"xa"', '"\\"']],
  [
    'letters beyond ASCII',
    { type: 'string', pattern: '^[а-я]+[^\\s"]$' },
    ['"да!"', '"даж中"'],
    ['"да "', '"dа!"', '"да\\""'],
  ],
  [
    'names beyond ASCII',
    { properties: { ключ: integer({}) }, required: ['ключ'], additionalProperties: true },
    ['{"ключ":1}', '{"ключ":1,"key":2}'],
    ['{"ключ":1,"ключ":"x"}', '{"key":1}'],
  ],
  [
    'enum and const',
    { anyOf: [{ enum: ['a', 1, null] }, { const: { x: 'q"' } }] },
    ['"a"', '1', 'null', '{"x":"q\\""}'],
    ['"b"', '2'],
  ],
  ['several types', { type: ['integer', 'null'], minimum: 3, maximum: 5 }, ['3', '5', 'null'], ['2', '9', '"3"']],
  [
    'allOf',
    { allOf: [{ properties: { a: { minimum: 3 } }, required: ['a'] }, { properties: { a: { maximum: 4 } } }] },
    ['{"a":3}', '{"a":4.0}'],
    ['{}', '{"a":5}'],
  ],
  [
    'anyOf beside properties',
    { properties: { a: {}, b: {} }, anyOf: [{ required: ['a'] }, { required: ['b'] }] },
    ['{"a":1}', '{"b":1}'],
    ['{}'],
  ],
  [
    'what refers to itself',
    { $ref: '#/$defs/n', $defs: { n: { ...list, required: ['v', 'next'] } } },
    ['{"v":1,"next":{"v":2,"next":null}}'],
    ['{"v":1}', '{"v":1,"next":1}'],
  ],
  ['a reference with escapes', { $ref: '#/$defs/a~1b', $defs: { 'a/b': integer({}) } }, ['1'], ['"x"']],
  ['a date', { type: 'string', format: 'date' }, ['"2024-02-28"'], ['"2024-13-01"', '"2024-2-1"']],
])('%s', async (_, schema, right, wrong) => {
  expect(await passing(schema, [...right, ...wrong])).toEqual(right);
  for (const text of right) expect(() => JSON.parse(text)).not.toThrow();
});

describe('numbers between bounds', () => {
  const wholes = [
    ...Array.from({ length: 300 }, (_, i) => i - 150),
    ...[-1e9, -1001, -999, 254, 255, 256, 999, 1001, 12345, 1e9],
  ];
  const texts = wholes.map(String);
  test.each<[object, (x: number) => boolean]>([
    [{ minimum: 4 }, (x) => x >= 4],
    [{ minimum: -5 }, (x) => x >= -5],
    [{ maximum: -3 }, (x) => x <= -3],
    [{ minimum: 18, maximum: 120 }, (x) => x >= 18 && x <= 120],
    [{ minimum: -120, maximum: -18 }, (x) => x >= -120 && x <= -18],
    [{ exclusiveMinimum: 99, exclusiveMaximum: 1001 }, (x) => x > 99 && x < 1001],
    [{ minimum: -2.5, maximum: 2.5 }, (x) => x >= -2.5 && x <= 2.5],
  ])('whole: %j', async (bounds, fits) => {
    expect(await passing(integer(bounds), texts)).toEqual(texts.filter((t) => fits(Number(t))));
  });

  const written = [
    ...Array.from({ length: 121 }, (_, i) => String((i - 60) / 40)),
    ...['0.50', '1.00', '0.0', '0.250', '0.2500001', '0.2499999', '0.123456789012', '10', '7.5', '99.99', '-1.0001'],
  ];
  test.each<[object, (x: number) => boolean]>([
    [{ minimum: 0, maximum: 1 }, (x) => x >= 0 && x <= 1],
    [{ exclusiveMinimum: 0, exclusiveMaximum: 1 }, (x) => x > 0 && x < 1],
    [{ minimum: -0.5, maximum: 0.25 }, (x) => x >= -0.5 && x <= 0.25],
    [{ exclusiveMinimum: 0.25 }, (x) => x > 0.25],
    [{ minimum: -1.0001, exclusiveMaximum: 7.5 }, (x) => x >= -1.0001 && x < 7.5],
    [{ minimum: 0.123, maximum: 0.1299 }, (x) => x >= 0.123 && x <= 0.1299],
  ])('%j', async (bounds, fits) => {
    const right = written.filter((t) => fits(Number(t)));
    expect(await passing({ type: 'number', ...bounds }, [...written, '1.', '0x5', '00'])).toEqual(right);
  });
});

test.each<[unknown, RegExp]>([
  [false, /allows no value/],
  [{ not: {} }, /not cannot be kept to/],
  [{ properties: { a: { type: 'array', uniqueItems: true } } }, /#\/properties\/a: uniqueItems/],
  [{ type: 'integer', multipleOf: 5 }, /multipleOf/],
  [{ type: 'integer', minimum: 4, maximum: 3 }, /no number/],
  [{ type: 'number', exclusiveMinimum: 1, maximum: 1 }, /no number/],
  [{ type: 'text' }, /type: expected object/],
  [{ $ref: 'http://example.org/schema' }, /\$ref/],
  [{ $ref: '#/$defs/none' }, /is not there/],
  [{ type: 'string', pattern: '^\\p{L}$' }, /\\p is not supported/],
  [{ type: 'string', pattern: '^[^é]$' }, /beyond ASCII/],
  [{ type: 'string', pattern: 'a|^b' }, /beginning and the end/],
  [{ type: 'string', pattern: '(' }, /Invalid regular expression/],
  [{ allOf: [{ type: 'string' }, { type: 'integer' }] }, /no value is of type/],
  [{ type: 'object', required: ['a'], additionalProperties: false }, /"a" is no property|'a' is no property/],
])('%j is ERR_ARGUMENT', (schema, message) => {
  expect(() => schemaGrammar(schema)).toThrow(
    expect.objectContaining({ code: 'ERR_ARGUMENT', message: expect.stringMatching(message) }),
  );
});
