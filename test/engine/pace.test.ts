// How much of a prompt goes beside running texts.
import { expect, test } from 'vitest';
import { Pace } from '../../dist/lib/engine/pace.js';

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
