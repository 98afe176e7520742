import { describe, expect, it } from 'vitest';
import { chart } from '../../dist/bench/chart.js';
import { formatBytes, formatCount, formatSeconds, significant } from '../../dist/bench/format.js';
import { displayWidth, renderTable, wrap } from '../../dist/bench/table.js';

describe('quantities', () => {
  it.each([
    [0, '0 B'],
    [1023, '1,023 B'],
    [2 ** 21, '2 MiB'],
    [1.25 * 2 ** 30, '1.25 GiB'],
    [327_680e6, '305 GiB'],
    [2 ** 41, '2 TiB'],
  ])('bytes %d', (bytes, text) => expect(formatBytes(bytes)).toBe(text));

  it.each([
    [0.0000012345, '1.23 µs'],
    [0.00999951, '10.0 ms'],
    [0.9999, '1,000 ms'],
    [12.345, '12.3 s'],
    [1234.5, '1,235 s'],
  ])('seconds %d', (seconds, text) => expect(formatSeconds(seconds)).toBe(text));

  it('counts and digits', () => {
    expect(formatCount(51_570_323_328)).toBe('51.6 B');
    expect(formatCount(950)).toBe('950');
    expect(significant(9.999)).toBe('10.0');
    expect(significant(0.00123456)).toBe('0.00123');
  });
});

describe('table', () => {
  it('aligns by what is seen, not by escape sequences', () => {
    const text = renderTable(
      [{ title: 'name', align: 'left' }, { title: 'µ' }],
      [['\u001b[31mab\u001b[39m', '1'], null, ['abcdef', '1,000']],
    );
    expect(text.split('\n').map(displayWidth)).toEqual([13, 13, 13, 13, 13]);
    expect(text.split('\n')[1]).toBe('──────  ─────');
  });

  it('wraps at spaces and indents what follows', () => {
    expect(wrap('one two three four', 9, '  ')).toBe('one two\n  three\n  four');
    expect(wrap('  one two three', 9, '    ')).toBe('  one two\n    three');
  });
});

describe('chart', () => {
  const lengths = [512, 1024, 2048, 4096];
  const series = (name: string, value: (n: number) => number) => ({
    name,
    points: lengths.map((length) => ({ length, value: value(length) })),
  });

  it('draws power laws as straight lines', () => {
    const text = chart([series('attention', (n) => 1e-9 * n ** 2), series('scan', (n) => 1e-6 * n)], {
      format: formatSeconds,
      width: 40,
      height: 8,
    });
    expect(text).toMatchInlineSnapshot(`
      "16.8 ms ┤                                   ╭───a
      9.98 ms ┤                               ╭───╯
      5.93 ms ┤                          ╭────╯
      3.53 ms ┤                     ╭────╯  ╭─────────b
      2.10 ms ┤                ╭───╭────────╯
      1.25 ms ┤          ╭─────────╯
       741 µs ┤╭─────────╯╯
       441 µs ┼╯╭────╯
       262 µs ┼─╯
             512         1024         2048         4096  tokens

              a ── attention
              b ── scan"
    `);
  });

  it('has nothing to draw for one length or no points', () => {
    expect(chart([], { format: String })).toBe('');
    expect(chart([{ name: 'a', points: [{ length: 8, value: 1 }] }], { format: String })).toBe('');
  });

  it('draws equal values as one flat line', () => {
    const text = chart([series('flat', () => 2)], { format: String, width: 20, height: 4 });
    expect(text.split('\n').filter((line) => line.includes('───────────'))).toHaveLength(1);
  });
});
