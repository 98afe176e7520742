// Texts that are generated side by side by sessions of one model go on in the same native calls.
import type { Generated, GenerateOptions, Model } from 'statespace';
import { describe, expect, test } from 'vitest';
import { ids, llama, mamba, numbers } from '../support/engines.js';

const WIDTH = 8;
const LENGTH = 24;
const prompts = Array.from({ length: WIDTH }, (_, i) => ids(numbers(i), 5 + 9 * i));
const options = (i: number): GenerateOptions => ({
  ...{ prompt: prompts[i]!, maxTokens: LENGTH, logprobs: 2 },
  ...(i % 2 ? { temperature: 0.8, seed: i } : {}),
});

/** What so many wait for: opens when all of them have come. */
function gate(count: number): () => Promise<void> {
  let open: () => void;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return () => {
    if (--count === 0) open();
    return opened;
  };
}

/** `ready`: waited for behind the prompt, so that several go on from there at one moment. */
async function* texts(model: Model, given: GenerateOptions, ready?: () => Promise<void>): AsyncGenerator<Generated> {
  await using session = model.createSession();
  const { prompt, ...further } = given;
  if (ready) {
    await session.forward(prompt as Int32Array);
    await ready();
  }
  yield* session.generate(ready ? further : given);
}

async function say(model: Model, given: GenerateOptions, ready?: () => Promise<void>): Promise<Generated[]> {
  const said: Generated[] = [];
  for await (const token of texts(model, given, ready)) said.push(token);
  return said;
}

/** Sequences of each step that the model makes from now on. */
function countSteps(model: Model): number[] {
  const widths: number[] = [];
  const step = model.step.bind(model);
  model.step = (entries, how) => {
    widths.push(entries.length);
    return step(entries, how);
  };
  return widths;
}

describe.each([
  ['mamba', mamba],
  ['llama', llama],
])('%s', (_, make) => {
  test('each says what it says alone, in as many steps as one takes', async () => {
    const model = await make();
    const alone: Generated[][] = [];
    for (const i of prompts.keys()) alone.push(await say(model, options(i)));
    const widths = countSteps(model);
    // Prompts go by themselves; whose is read first is ahead of the others, unless it waits for them.
    for (const ready of [undefined, gate(WIDTH)]) {
      widths.length = 0;
      const together = await Promise.all(prompts.map((_, i) => say(model, options(i), ready)));
      for (const [i, said] of together.entries()) {
        expect(said.map((t) => t.token)).toEqual(alone[i]!.map((t) => t.token));
        for (const [j, { logprob }] of said.entries()) expect(logprob).toBeCloseTo(alone[i]![j]!.logprob, 3);
      }
    }
    expect(widths.length).toBeLessThanOrEqual(LENGTH + 1);
    expect(Math.max(...widths)).toBe(WIDTH);
    await model.dispose();
  });

  test('one that is aborted, one that is left and one that has no room take no other with them', async () => {
    const model = await make();
    const alone = await say(model, options(0));
    const abort = new AbortController();
    const ready = gate(3);
    const stopped = say(model, { ...options(2), maxTokens: 1000, signal: abort.signal }, ready);
    const left = (async () => {
      for await (const _ of texts(model, { ...options(4), maxTokens: 1000 }, ready)) break;
    })();
    const step = model.step.bind(model);
    let failures = 0;
    model.step = (entries, how) => {
      if (entries.length < 2) return step(entries, how);
      failures++;
      abort.abort(new Error('enough'));
      return Promise.reject(new Error('no room for all of them'));
    };
    const [said] = await Promise.all([say(model, options(0), ready), expect(stopped).rejects.toThrow('enough'), left]);
    expect(failures).toBeGreaterThan(0);
    expect(said).toEqual(alone);
    await model.dispose();
  });
});
