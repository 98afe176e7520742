import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sampleInTurn } from '../../dist/bench/sampling.js';
import { planRuns, shareOfBudget } from '../../dist/bench/schedule.js';

describe('planning within a budget', () => {
  it('gives all their runs when there is time', () => {
    const plan = planRuns(
      new Map([
        ['a', 1],
        ['b', 2],
      ]),
      { wanted: 7, least: 3, seconds: 100 },
    );
    expect([...plan.values()].map((p) => p.reps)).toEqual([7, 7]);
  });

  it('serves the cheap first, shortens the dear and says why one is skipped', () => {
    const plan = planRuns(
      new Map([
        ['dear', 10],
        ['cheap', 0.1],
      ]),
      { wanted: 7, least: 3, seconds: 35 },
    );
    expect(plan.get('cheap')!.reps).toBe(7);
    expect(plan.get('dear')!.reps).toBe(3);
    const tight = planRuns(
      new Map([
        ['dear', 10],
        ['cheap', 0.1],
      ]),
      { wanted: 7, least: 3, seconds: 20 },
    );
    expect(tight.get('dear')).toEqual({ reps: 0, reason: 'time: 3 runs need about 30 s, 19 s are left' });
  });

  it('never plans more than the time there is, nor less than the least', () => {
    const costs = fc.array(fc.double({ min: 1e-4, max: 50, noNaN: true }), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(costs, fc.double({ min: 0, max: 100, noNaN: true }), (values, seconds) => {
        const named = new Map(values.map((cost, i) => [String(i), cost]));
        const plan = planRuns(named, { wanted: 7, least: 3, seconds });
        const used = [...named].reduce((sum, [id, cost]) => sum + cost * plan.get(id)!.reps, 0);
        expect(used).toBeLessThanOrEqual(seconds * (1 + 1e-9));
        for (const { reps, reason } of plan.values()) {
          expect(reps === 0 ? reason !== '' : reps >= 3 && reps <= 7).toBe(true);
        }
      }),
    );
  });

  it('keeps most of the budget for the longest length', () => {
    expect(shareOfBudget(100, [1024, 2048])).toBeCloseTo(20);
    expect(shareOfBudget(80, [2048])).toBe(80);
  });
});

describe('sampling in turn', () => {
  const entrant = (id: string, reps: number, log: string[]) => ({
    id,
    reps,
    cost: 1,
    run: async () => {
      log.push(id);
    },
  });

  it('interleaves the contenders', async () => {
    const log: string[] = [];
    const samples = await sampleInTurn([entrant('a', 3, log), entrant('b', 2, log)], new AbortController().signal);
    expect(log.join('')).toBe('ababa');
    expect(samples.get('a')).toHaveLength(3);
    expect(samples.get('b')).toHaveLength(2);
  });

  it('repeats what is too short for the clock within one sample', async () => {
    const log: string[] = [];
    await sampleInTurn([{ ...entrant('a', 1, log), cost: 0.001 }], new AbortController().signal);
    expect(log).toHaveLength(10);
  });

  it('stops between two samples', async () => {
    const controller = new AbortController();
    const log: string[] = [];
    const run = async () => {
      log.push('a');
      controller.abort(new Error('stop'));
    };
    await expect(sampleInTurn([{ id: 'a', reps: 5, cost: 1, run }], controller.signal)).rejects.toThrow('stop');
    expect(log).toHaveLength(1);
  });
});
