// Options of builders that are misspelt are refused, with the one that was meant: every builder's, and what lies in them.
import { layers } from 'statespace';
import { describe, expect, it, test } from 'vitest';
import { checkLayer } from '../../dist/lib/layers/options.js';

type Builder = (...args: unknown[]) => unknown;
const builders = layers as unknown as Readonly<Record<string, Builder>>;
/** Builders that take none. */
const PLAIN = ['activate', 'addScaled', 'concat', 'embedding', 'maxPool', 'meanPool', 'multiply', 'relu', 'scaled'];
PLAIN.push('weightedExpert');

describe.each(Object.keys(layers).filter((name) => !PLAIN.includes(name)))('layers.%s', (name) => {
  it('refuses what it does not know', () => {
    const options = { ofNoUse: 1 };
    expect(() => builders[name]!({}, {}, options, options, options, options)).toThrow(
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
  const call = () => checkLayer(name, options as never);
  if ('rope' in options) return expect(call).toThrow('layers.attention: rope: unknown option "base"');
  expect(call).toThrow(`did you mean '${meant}'?`);
});

test('an absent option may be undefined', () => {
  expect(() => checkLayer('mlp', { dFf: 8, ofNoUse: undefined } as never)).not.toThrow();
});
