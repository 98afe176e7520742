// How much of a prompt goes beside running texts.
import { describe, expect, test } from 'vitest';
import { Pace } from '../../dist/lib/engine/pace.js';
import { numbers } from '../support/engines.js';

const alone = { texts: 32, steady: 32, prompts: 1 };

test('a step beside texts grows by a third at most, from small pieces on, and one slow step changes nothing', () => {
  const pace = new Pace();
  expect(pace.promptTokens({ texts: 0, steady: 0, prompts: 1 }, 512)).toBe(512);
  pace.learn(0, 512, 5); // large pieces alone are cheap: that says nothing of small ones beside texts
  for (let i = 0; i < 10; i++) pace.learn(32, 0, 10);
  const step = (tokenMs: number) => {
    const tokens = pace.promptTokens(alone, 512);
    pace.learn(32, tokens, 10 + tokens * tokenMs);
    return tokens;
  };
  expect(Array.from({ length: 6 }, () => step(0.05))).toEqual([16, 24, 36, 54, 70, 70]);
  pace.learn(32, 0, 300);
  expect(step(1)).toBe(70);
  expect(step(0.05)).toBe(70);
  expect(Array.from({ length: 9 }, () => step(0.5)).at(-1)).toBe(16);
});

test('steps are full where many prompts come beside texts that have no pace yet', () => {
  const pace = new Pace();
  for (let i = 0; i < 10; i++) pace.learn(32, 0, 10);
  expect(pace.promptTokens({ texts: 32, steady: 0, prompts: 2 }, 480)).toBe(480);
  pace.learn(32, 480, 25); // nor do these say what small pieces cost
  const step = (load: typeof alone) => {
    const tokens = pace.promptTokens(load, 480);
    pace.learn(32, tokens, 10 + tokens * 0.05);
    return tokens;
  };
  // The last one is held short all the same, and so are few beside many steady texts.
  expect(Array.from({ length: 5 }, () => step({ texts: 32, steady: 0, prompts: 1 }))).toEqual([16, 24, 36, 54, 70]);
  expect(step({ texts: 32, steady: 32, prompts: 3 })).toBe(70);
  // Each further prompt counts as much as a steady text.
  expect(step({ texts: 32, steady: 16, prompts: 9 })).toBe(100);
  expect(step({ texts: 32, steady: 1, prompts: 33 })).toBe(150);
});

describe('a machine whose neighbours come and go', () => {
  const SPEEDS: Record<string, (step: number) => number> = {
    'the same all the time': () => 1,
    'twice as fast from when the prompt comes': () => 0.5,
    'twice as slow from when the prompt comes': () => 2,
    'twice as fast for a while': (step) => (step > 20 && step < 50 ? 0.5 : 1),
    'twice as slow for a while': (step) => (step > 20 && step < 50 ? 2 : 1),
  };
  const quantile = (values: number[], q: number) => values.sort((a, b) => a - b)[Math.floor(q * values.length)]!;

  test.each(Object.keys(SPEEDS))('%s: steps stay within twice what they take without the prompt then', (name) => {
    for (let seed = 1; seed <= 20; seed++) {
      const next = numbers(seed * 7919);
      const pace = new Pace();
      const ms = (tokens: number) => (50 + tokens * 0.35) * (0.95 + next(1000) / 1e4);
      for (let i = 0; i < 20; i++) pace.learn(64, 0, ms(0));
      const seen: number[] = [];
      for (let left = 4000; left > 0; ) {
        const tokens = Math.min(left, pace.promptTokens({ texts: 64, steady: 64, prompts: 1 }, 448));
        const speed = SPEEDS[name]!(seen.length);
        const its = ms(tokens) * speed;
        pace.learn(64, tokens, its);
        seen.push(its / speed / 50);
        left -= tokens;
      }
      expect(seen.length).toBeLessThan(160); // 80 at the pace that is aimed at, 250 in the smallest pieces
      expect(quantile(seen, 0.99)).toBeLessThan(2);
    }
  });
});
