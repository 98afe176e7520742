import { expect, test } from 'vitest';
import { RadixTree } from '../../dist/lib/engine/cache/radix.js';
import { planStops } from '../../dist/lib/engine/cache/stops.js';
import { ids, numbers } from '../support/engines.js';

test('a radix tree finds what a list would', () => {
  const next = numbers(1);
  for (let round = 0; round < 30; round++) {
    const tree = new RadixTree<number>();
    const list = new Map<string, number>();
    for (let i = 0; i < 40; i++) {
      const tokens = ids(next, 1 + next(8), 3);
      const key = tokens.join();
      if (next(3) === 0 && list.has(key)) {
        tree.remove(tree.match(tokens, tokens.length).node!);
        list.delete(key);
      } else {
        tree.insert(tokens).value = i;
        list.set(key, i);
      }
      const asked = ids(next, 1 + next(9), 3);
      const limit = next(asked.length + 1);
      const fitting = [...list].filter(([k]) => `${asked.slice(0, limit).join()},`.startsWith(`${k},`));
      const deepest = fitting.sort(([a], [b]) => b.length - a.length)[0];
      const { node, common } = tree.match(asked, limit);
      expect(node?.value).toBe(deepest?.[1]);
      if (node) expect(node.tokens().join()).toBe(deepest![0]);
      let most = 0;
      for (const k of list.keys()) {
        const other = k.split(',').map(Number);
        let n = 0;
        while (n < other.length && n < asked.length && other[n] === asked[n]) n++;
        most = Math.max(most, n);
      }
      expect(common).toBe(most);
      expect([...tree.values()].length).toBe(list.size);
    }
    for (const node of [...tree.values()]) tree.remove(node);
    expect(tree.tokens).toBe(0);
    expect(tree.root.children.size).toBe(0);
  }
});

test('stops: the end, boundaries, the branch, near the end, and the grid, none closer than a checkpoint is worth', () => {
  const rules = { every: 100, least: 10 };
  const positions = (...args: Parameters<typeof planStops>) => planStops(...args).map((s) => s.position);
  expect(positions(500, 0, [], 0, rules)).toEqual([100, 200, 300, 372, 400, 468, 499]);
  expect(positions(500, 310, [], 0, rules)).toEqual([372, 400, 468, 499]);
  expect(positions(500, 0, [55, 205], 0, rules)).toEqual([55, 100, 205, 300, 372, 400, 468, 499]);
  expect(positions(500, 0, [], 333, rules)).toEqual([100, 200, 300, 333, 372, 400, 468, 499]);
  expect(positions(500, 0, [], 495, rules)).toEqual([100, 200, 300, 372, 400, 468, 495, 499]);
  expect(positions(500, 0, [], 0, { every: 100, least: 43 })).toEqual([100, 200, 300, 372, 456, 499]);
  expect(positions(5, 0, [], 0, rules)).toEqual([]);
  expect(positions(1, 0, [], 0, { every: 1, least: 1 })).toEqual([]);
  expect(positions(4, 0, [], 0, { every: 1, least: 1 })).toEqual([1, 2, 3]);
  const messages = Array.from({ length: 9000 }, (_, i) => 10 * (i + 1));
  const chat = positions(90_005, 0, messages, 0, { every: 50_000, least: 1 });
  expect(chat.slice(0, 3)).toEqual([10, 50_000, 89_690]);
  expect(chat.length).toBeLessThan(40);
});
