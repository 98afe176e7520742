// How long others are waited for, by a process that may be halted itself.
import { expect, test } from 'vitest';
import { Patience } from '../dist/lib/patience.js';

const halt = (ms: number): void => {
  const until = performance.now() + ms;
  while (performance.now() < until);
};

test('an answer that came while this process was halted is read, however long that was', async () => {
  const patience = new Patience(1000);
  const answer = patience.for(new Promise((resolve) => setImmediate(resolve, 'here')));
  halt(2000);
  expect(await answer).toBe('here');
  expect(patience.isOver).toBe(false);
  patience.end();
});

test('one that does not come is late, for whoever waits', async () => {
  const patience = new Patience(200);
  const never = new Promise<never>(() => {});
  const other = new Error('mine');
  const [first, second] = await Promise.allSettled([patience.for(never), patience.for(never, other)]);
  expect(first).toMatchObject({ status: 'rejected', reason: { message: 'no answer' } });
  expect(second).toEqual({ status: 'rejected', reason: other });
  expect(patience.isOver).toBe(true);
  await expect(patience.for(never)).rejects.toThrow('no answer');
});

test('it begins anew where something is heard', async () => {
  let said = 0;
  const patience = new Patience(300, () => said);
  for (; said < 6; said++) await new Promise((resolve) => setTimeout(resolve, 100));
  expect(patience.isOver).toBe(false);
  await patience.over;
});
