import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  parseAmount,
  parseIds,
  parseLength,
  parseLengths,
  parseNumber,
  parsePositive,
  parseRatios,
} from '../../dist/lib/cli/parse.js';

const wrong = { code: 'commander.invalidArgument' };

describe('lengths', () => {
  it('reads suffixes, lists and doubling ranges', () => {
    expect(parseLength('4K')).toBe(4096);
    expect(parseLength('1m')).toBe(1_048_576);
    expect(parseLengths('512,2K,512')).toEqual([512, 2048]);
    expect(parseLengths('512..4K')).toEqual([512, 1024, 2048, 4096]);
    expect(parseLengths('300..1000')).toEqual([300, 600, 1000]);
  });

  it.each(['', '0', '-4', '4.5', '4G', '1e3', '8..4', '1..2..3', '4,,5', '999999999999999M'])(
    'refuses "%s"',
    (text) => {
      expect(() => parseLengths(text)).toThrow(expect.objectContaining(wrong));
    },
  );

  it('gives back any list of positive integers, sorted', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 2 ** 40 }), { minLength: 1 }), (lengths) => {
        const sorted = [...new Set(lengths)].sort((a, b) => a - b);
        expect(parseLengths(lengths.join(','))).toEqual(sorted);
      }),
    );
  });

  it('never returns anything but ascending positive integers, whatever it is given', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        let lengths: number[];
        try {
          lengths = parseLengths(text);
        } catch (error) {
          expect(error).toMatchObject(wrong);
          return;
        }
        for (const [i, length] of lengths.entries()) {
          expect(Number.isSafeInteger(length) && length > (lengths[i - 1] ?? 0)).toBe(true);
        }
      }),
    );
  });
});

describe('ratios', () => {
  it('round trips', () => {
    const part = fc.tuple(fc.nat(999), fc.nat(999)).filter(([a, m]) => a + m > 0);
    fc.assert(
      fc.property(fc.array(part, { minLength: 1 }), (ratios) => {
        const text = ratios.map(([a, m]) => `${a}:${m}`).join(',');
        expect(parseRatios(text)).toEqual(ratios.map(([attention, mamba]) => ({ attention, mamba })));
      }),
    );
  });

  it.each(['', '1', '0:0', '1:-1', 'a:b', '1:7,'])('refuses "%s"', (text) => {
    expect(() => parseRatios(text)).toThrow(expect.objectContaining(wrong));
  });
});

describe('numbers and ids', () => {
  it('keeps numbers within their bounds', () => {
    expect(parseNumber(0, 1)('0.5')).toBe(0.5);
    for (const text of ['', ' ', 'x', '-0.1', '1.1', 'Infinity', 'NaN']) {
      expect(() => parseNumber(0, 1)(text)).toThrow(expect.objectContaining(wrong));
    }
    expect(() => parsePositive('0')).toThrow(expect.objectContaining(wrong));
  });

  it('reads parameter counts', () => {
    expect(['130M', '2.8b', '350000', '1.5k'].map(parseAmount)).toEqual([130e6, 2.8e9, 350_000, 1500]);
    for (const text of ['', '0', '-1', 'M', '1.5T', '0.1']) {
      expect(() => parseAmount(text)).toThrow(expect.objectContaining(wrong));
    }
  });

  it('tells token ids from text', () => {
    expect(parseIds('12,5,7')).toEqual(Int32Array.of(12, 5, 7));
    expect(parseIds(' 12 5, 7 ')).toEqual(Int32Array.of(12, 5, 7));
    for (const text of ['', 'hello', '1,', '-1', '1.5', '99999999999']) expect(parseIds(text)).toBeNull();
  });
});
