// Long work gives the event loop its turn, and so does much short work of many callers.
import { expect, test } from 'vitest';
import { SharedTurns, Turns } from '../dist/lib/turns.js';

const busy = (ms: number): void => {
  const until = performance.now() + ms;
  while (performance.now() < until);
};

/** How often others had a turn while this went on. */
async function turnsOf(work: () => Promise<unknown>): Promise<number> {
  let turns = 0;
  let on = true;
  const next = () => {
    turns++;
    if (on) setImmediate(next);
  };
  setImmediate(next);
  await work();
  on = false;
  return turns;
}

test('one piece of work pauses where it has kept the event loop too long, and hears its abort', async () => {
  const stop = new AbortController();
  const work = async (count: number) => {
    const turns = new Turns(stop.signal);
    for (let i = 0; i < count; i++) {
      busy(1);
      const pause = turns.due();
      if (pause) await pause;
    }
  };
  expect(await turnsOf(() => work(30))).toBeGreaterThanOrEqual(4);
  setImmediate(() => stop.abort());
  await expect(work(1000)).rejects.toThrow(/abort/);
});

test('work of many callers: at once while there is time, then in order and in turns', async () => {
  const shared = new SharedTurns();
  const done: number[] = [];
  const one = (i: number) => () => {
    busy(1);
    done.push(i);
    if (i % 7 === 3) throw new Error(`${i} failed`);
    return i;
  };
  expect(shared.run(() => 'now')).toBe('now');
  let results: PromiseSettledResult<number>[] = [];
  const turns = await turnsOf(async () => {
    results = await Promise.allSettled(Array.from({ length: 40 }, async (_, i) => shared.run(one(i))));
  });
  expect(turns).toBeGreaterThanOrEqual(5);
  expect(done).toEqual(Array.from({ length: 40 }, (_, i) => i));
  for (const [i, result] of results.entries())
    expect(result.status === 'fulfilled' ? result.value : result.reason.message).toBe(i % 7 === 3 ? `${i} failed` : i);
  await new Promise((resume) => setImmediate(resume));
  expect(shared.run(() => 'now')).toBe('now');
});
