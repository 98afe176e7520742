// How much of a prompt goes beside running texts.
import { expect, test } from 'vitest';
import { Pace } from '../../dist/lib/engine/pace.js';

test('a step beside texts grows by a third at most, from small pieces on, and one slow step changes nothing', () => {
  const pace = new Pace();
  expect(pace.promptTokens(0, 512)).toBe(512);
  pace.learn(0, 512, 5); // large pieces alone are cheap: that says nothing of small ones beside texts
  for (let i = 0; i < 10; i++) pace.learn(32, 0, 10);
  const step = (tokenMs: number) => {
    const tokens = pace.promptTokens(32, 512);
    pace.learn(32, tokens, 10 + tokens * tokenMs);
    return tokens;
  };
  expect(Array.from({ length: 5 }, () => step(0.05))).toEqual([16, 32, 64, 70, 70]);
  expect(step(1)).toBe(70);
  expect(step(0.05)).toBe(70);
  expect(Array.from({ length: 9 }, () => step(0.5)).at(-1)).toBe(16);
});
