import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sampleInTurn } from '../../dist/bench/sampling.js';
import { allowance, leastRuns, leastSeconds, type Plan, planRuns, wantedRuns } from '../../dist/bench/schedule.js';

describe('planning within a budget', () => {
  const costs = (values: Record<string, number>) => new Map(Object.entries(values));
  const reps = (plans: Map<string, Plan>) => Object.fromEntries([...plans].map(([id, plan]) => [id, plan.reps]));

  it('gives all their runs when there is time', () => {
    expect(reps(planRuns(costs({ a: 1, b: 2 }), { wanted: 7, seconds: 100 }))).toEqual({ a: 7, b: 7 });
  });

  it('serves the cheap first, shortens the dear and says why one is skipped', () => {
    const both = costs({ dear: 10, cheap: 0.1 });
    expect(reps(planRuns(both, { wanted: 7, seconds: 35 }))).toEqual({ cheap: 7, dear: 3 });
    expect(reps(planRuns(both, { wanted: 7, seconds: 12 }))).toEqual({ cheap: 7, dear: 1 });
    expect(planRuns(both, { wanted: 7, seconds: 8 }).get('dear')).toEqual({
      reps: 0,
      reason: 'time: 1 run needs about 10.0 s, 7.30 s of the budget are left',
    });
  });

  it('counts what must run besides the samples', () => {
    expect(reps(planRuns(costs({ a: 1 }), { wanted: 7, seconds: 5, besides: 1 }))).toEqual({ a: 4 });
    expect(reps(planRuns(costs({ a: 1 }), { wanted: 7, seconds: 3.5, besides: 1 }))).toEqual({ a: 0 });
    expect(leastSeconds([1, 10], 7, 1)).toBe(4 + 20);
  });

  it('asks fewer samples of what takes long', () => {
    expect([leastRuns(0.1, 7), leastRuns(5, 7), leastRuns(0.1, 2)]).toEqual([3, 1, 2]);
    expect([wantedRuns(0.1, 7), wantedRuns(5, 7), wantedRuns(5, 2)]).toEqual([7, 3, 2]);
  });

  it('never plans more than the time there is, nor less than the least', () => {
    const values = fc.array(fc.double({ min: 1e-4, max: 50, noNaN: true }), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(values, fc.double({ min: 0, max: 100, noNaN: true }), fc.nat(2), (each, seconds, besides) => {
        const named = new Map(each.map((cost, i) => [String(i), cost]));
        const plans = planRuns(named, { wanted: 7, seconds, besides });
        let used = 0;
        for (const [id, cost] of named) {
          const plan = plans.get(id)!;
          if (plan.reps > 0) used += cost * (plan.reps + besides);
          expect(plan.reps === 0 ? plan.reason !== '' : plan.reps >= leastRuns(cost, 7) && plan.reps <= 7).toBe(true);
        }
        expect(used).toBeLessThanOrEqual(seconds * (1 + 1e-9));
      }),
    );
  });

  it('reserves what longer lengths need, but not all', () => {
    expect(allowance(100, 60)).toBe(40);
    expect(allowance(100, 1000)).toBe(25);
    expect(allowance(80, 0)).toBe(80);
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
    expect(log).toHaveLength(50);
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
