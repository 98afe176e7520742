import { describe, expect, it } from 'vitest';
import { ropeFrequencies } from '../dist/lib/rope-frequencies.js';
import { kernelCase, kernelNames } from './support/golden.js';

describe('ropeFrequencies', () => {
  it.each(kernelNames('rope'))('%s: the reference frequencies and scale', (name) => {
    const golden = kernelCase(name);
    const { scaling, theta } = golden.flags as { scaling: Record<string, unknown> | string | null; theta: number };
    const expected = golden.outputs.inv_freq!.data;
    const { invFreq, scale } = ropeFrequencies({
      theta,
      rotaryDim: 2 * expected.length,
      scaling: typeof scaling === 'object' ? (scaling ?? undefined) : undefined,
    });
    expect(invFreq.length).toBe(expected.length);
    // One ulp apart at most: theta^x itself is rounded differently by some libraries.
    for (const [j, f] of expected.entries()) expect(Math.abs(invFreq[j]! - f)).toBeLessThanOrEqual(2 ** -23 * f);
    const yarn = typeof scaling === 'object' && scaling?.rope_type === 'yarn';
    expect(scale).toBeCloseTo(yarn ? 0.1 * Math.log(4) + 1 : 1, 12);
  });

  it('takes yarn attention_factor as it is, and the ratio of mscale and mscale_all_dim', () => {
    const yarn = { type: 'yarn', factor: 4, original_max_position_embeddings: 4096 };
    const scale = (more: object) => ropeFrequencies({ rotaryDim: 16, scaling: { ...yarn, ...more } }).scale;
    expect(scale({ attention_factor: 0.5 })).toBe(0.5);
    expect(scale({ mscale: 0.7, mscale_all_dim: 1 })).toBeCloseTo((0.07 * Math.log(4) + 1) / (0.1 * Math.log(4) + 1));
  });

  it.each([
    [{ rotaryDim: 7 }, /rotaryDim: expected an even number/],
    [{ rotaryDim: 8, theta: -1 }, /theta: expected a number > 0/],
    [
      { rotaryDim: 8, scaling: { type: 'ntk' } },
      /scaling.type: expected linear, llama3, yarn, longrope, dynamic or divisors, received "ntk"/,
    ],
    [{ rotaryDim: 8, scaling: { type: 'linear' } }, /linear needs factor/],
    [{ rotaryDim: 8, scaling: { type: 'linear', factor: '4' } }, /scaling.factor: expected a finite number/],
  ])('refuses %j', (options, message) => {
    expect(() => ropeFrequencies(options as never)).toThrow(
      expect.objectContaining({ code: 'ERR_ARGUMENT', message: expect.stringMatching(message) }),
    );
  });
});
