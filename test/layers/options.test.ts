// Options of builders that are misspelt are refused, with the one that was meant: every builder's, and what lies in them.
import { layers, StatespaceError } from 'statespace';
import { describe, expect, it, test } from 'vitest';

type Builder = (...args: unknown[]) => unknown;
const builders = layers as unknown as Readonly<Record<string, Builder>>;
/** What a builder says of its options: it reads them before anything else. */
const build = (name: string, options: unknown) => builders[name]!({}, {}, options, options, options, options);
/** Builders that take none. */
const PLAIN = ['activate', 'addScaled', 'concat', 'embedding', 'maxPool', 'meanPool', 'multiply', 'relu', 'scaled'];
PLAIN.push('weightedExpert');

describe.each(Object.keys(layers).filter((name) => !PLAIN.includes(name)))('layers.%s', (name) => {
  it('refuses what it does not know', () => {
    expect(() => build(name, { ofNoUse: 1 })).toThrow(
      expect.objectContaining({
        code: 'ERR_ARGUMENT',
        message: expect.stringMatching(new RegExp(`^layers.${name}: unknown option "ofNoUse"; known are `)),
      }),
    );
  });
});

test.each([
  ['mamba', { dinner: 8 }, 'dInner'],
  ['mamba2', { headdim: 8 }, 'headDim'],
  ['mamba2', { norm: { group_size: 8 } }, 'groupSize'],
  ['mamba', { innerNorms: { epsilon: 1 } }, 'eps'],
  ['attention', { n_heads_kv: 2 }, 'nHeadsKv'],
  ['attention', { rope: { base: 1, interleave: true } }, 'interleaved'],
  ['attention', { qkNorm: { eps: 1, unit_offset: true } }, 'unitOffset'],
  ['moe', { top_k: 2 }, 'topK'],
  ['moe', { routing: { topk_groups: 2 } }, 'topkGroups'],
  ['gatedMlp', { dff: 2 }, 'dFf'],
  ['rwkv7', { ranks: { decays: 4 } }, 'decay'],
  ['simpleSSM', { modes: 'recurrent' }, 'mode'],
] as const)('layers.%s %j: did you mean %s', (name, options, meant) => {
  const call = () => build(name, options);
  if ('rope' in options) return expect(call).toThrow('layers.attention: rope: unknown option "base"');
  expect(call).toThrow(`did you mean '${meant}'?`);
});

test('an absent option may be undefined', () => {
  expect(() => build('mlp', { dFf: 8, ofNoUse: undefined })).not.toThrow(StatespaceError);
});

describe('values that cannot be are refused by the name of the option', () => {
  test.each([
    [
      'mamba',
      { dInner: 8, dState: 4, dConv: 4 },
      'layers.mamba: dtRank: expected an integer from 1 to 2147483647, received undefined',
    ],
    [
      'mamba',
      { dInner: 1.5, dState: 4, dConv: 4, dtRank: 1 },
      'layers.mamba: dInner: expected an integer from 1 to 2147483647, received 1.5',
    ],
    ['mamba2', { nHeads: '4' }, /^layers.mamba2: dInner: expected .*, received undefined$/],
    ['attention', { nHeads: 4, nHeadsKv: 0, headDim: 4 }, /^layers.attention: nHeadsKv: expected an integer from 1/],
    [
      'attention',
      { nHeads: 4, nHeadsKv: 2, headDim: 4, rope: {} },
      /^layers.attention: rope: theta: expected a number above 0, received undefined/,
    ],
    [
      'attention',
      { nHeads: 4, nHeadsKv: 2, headDim: 4, rope: 1e4 },
      /^layers.attention: rope: expected an object, received 10000/,
    ],
    [
      'attention',
      { nHeads: 4, nHeadsKv: 2, headDim: 4, qkNorm: { eps: 1, over: 'all' } },
      /qkNorm: over: expected 'head' or 'projection', received "all"/,
    ],
    ['hyena', { lMax: 64, innerMlps: 2 ** 31 }, /^layers.hyena: innerMlps: expected an integer from 0 to 1024/],
    ['hyena', { lMax: 64, order: 1.5 }, /^layers.hyena: order: expected an integer from 1 to 1024/],
    ['hyena', { lMax: 64, filterOrder: -1 }, /^layers.hyena: filterOrder: expected/],
    ['cca', { nHeads: 4, nHeadsKv: 2, headDim: 4, bias: true }, /^layers.cca: taps: expected two integers from 1/],
    [
      'moe',
      { experts: 4, topK: 2, dFf: 8, renormalize: true },
      /^layers.moe: names: expected an object, received undefined/,
    ],
    [
      'moe',
      { experts: 4, topK: 2, dFf: 8, renormalize: true, names: { router: 'r', experts: 'e', up: 'u' } },
      /names: down: expected a name, received undefined/,
    ],
    ['rwkvChannelMix', { dFf: 8, version: 6 }, /^layers.rwkvChannelMix: residual: expected a value of this graph/],
    ['rwkvChannelMix', { dFf: 8, version: 3, residual: { dims: [] } }, /version: expected 4, 5, 6 or 7, received 3/],
    [
      'retention',
      { nHeads: 2, dValue: 8, eps: -1 },
      /^layers.retention: eps: expected a number of at least 0, received -1/,
    ],
    [
      'deltaNet',
      { nKeyHeads: 1, nValueHeads: 1, keyDim: 4, valueDim: 4, dConv: 4, eps: 1e-5 },
      /betaFactor: expected a finite number, received undefined/,
    ],
    ['mlp', { dFf: 8, activation: 'swish' }, /^layers.mlp: activation: expected 'none', .*, received "swish"/],
    ['mlp', { dFf: 8, bias: 1 }, /^layers.mlp: bias: expected true or false, received 1/],
    [
      'mamba2',
      { dInner: 8, nHeads: 2, headDim: 4, dState: 4, nGroups: 1, dConv: 4, dtLimit: [1, 0] },
      /dtLimit: expected two numbers \[low, high\]/,
    ],
    ['simpleSSM', { dState: 4, mode: 'fft' }, /mode: expected 'auto', 'recurrent' or 'convolution', received "fft"/],
    [
      'mamba2',
      { dInner: 8, nHeads: 2, headDim: 4, dState: 4, nGroups: 1, dConv: 4, multipliers: [2] },
      /multipliers: expected 5 numbers, received \[2\]/,
    ],
    ['s4d', { dState: 7 }, /^layers.s4d: dState: expected an even number from 2/],
    ['mamba', null, 'layers.mamba: options: expected an object, received null'],
  ] as const)('layers.%s %j', (name, options, message) => {
    const call = () => build(name, options);
    expect(call).toThrow(
      expect.objectContaining({
        code: 'ERR_ARGUMENT',
        message: typeof message === 'string' ? message : expect.stringMatching(message),
      }),
    );
  });
});
