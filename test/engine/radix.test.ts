import { expect, test } from 'vitest';
import { Heap } from '../../dist/lib/engine/cache/heap.js';
import { PrefixCache } from '../../dist/lib/engine/cache/prefix-cache.js';
import { RadixTree } from '../../dist/lib/engine/cache/radix.js';
import { planStops } from '../../dist/lib/engine/cache/stops.js';
import { ids, llama, mamba, numbers } from '../support/engines.js';

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

test('a heap has the least at hand, whatever becomes of the keys', () => {
  const next = numbers(3);
  const heap = new Heap<{ n: number }>();
  const known = new Map<{ n: number }, number>();
  const least = (except?: { n: number }) =>
    Math.min(...[...known].filter(([item]) => item !== except).map(([, key]) => key));
  for (let i = 0; i < 5000; i++) {
    const items = [...known.keys()];
    const item = next(2) && items.length > 0 ? items[next(items.length)]! : { n: i };
    if (next(5) < 2) {
      heap.delete(item);
      known.delete(item);
    } else {
      const key = next(1000);
      heap.set(item, key);
      known.set(item, key);
    }
    const first = heap.least();
    expect(first && known.get(first)).toBe(known.size === 0 ? undefined : least());
    const second = heap.least(first);
    expect(second && known.get(second)).toBe(known.size < 2 ? undefined : least(first));
  }
  heap.clear();
  expect(heap.least()).toBeUndefined();
});

test.each([
  ['mamba', mamba],
  ['llama', llama],
] as const)(
  'checkpoints of a %s lie in the order of their worth, whatever comes, is used and goes',
  async (_, make) => {
    await using model = await make();
    const next = numbers(4);
    const one = model.sessionBytes(200).total;
    const cache = new PrefixCache(model as never, 12 * one);
    type Node = Parameters<PrefixCache['shrink']>[1] & object;
    const inside = cache as unknown as {
      worth(node: Node): number;
      tree: RadixTree<unknown>;
      byWorth: { places: Map<Node, number>; keys: number[] };
    };
    const prompts = [ids(next, 40)];
    for (let i = 0; i < 300; i++) {
      const from = prompts[next(prompts.length)]!;
      const tokens = Int32Array.from([
        ...from.subarray(0, next(from.length + 1)),
        ...ids(next, 1 + next(100)),
      ]).subarray(0, 300);
      prompts.push(tokens);
      const found = cache.take(tokens, tokens.length);
      const session = found?.session ?? model.createSession();
      const at = found?.position ?? 0;
      const stops = [at + 1 + next(40), tokens.length].filter((stop) => stop > at && stop <= tokens.length);
      let runs = found?.runs ?? [];
      let read = at;
      for (const stop of stops) {
        if (stop > read) await session.forward(tokens.subarray(read, stop));
        read = stop;
        runs = cache.add(tokens.subarray(0, stop), session as never, runs);
      }
      await session.dispose();
      if (next(10) === 0) cache.shrink(next(6) * one);
      const nodes = [...inside.tree.values()] as Node[];
      expect(nodes.length).toBe(cache.checkpoints);
      expect(inside.byWorth.places.size).toBe(nodes.length);
      for (const node of nodes) expect(inside.byWorth.keys[inside.byWorth.places.get(node)!]).toBe(inside.worth(node));
      expect(cache.bytes).toBeLessThanOrEqual(12 * one);
    }
    expect(cache.evictions).toBeGreaterThan(100);
    await cache.clear();
    expect([cache.bytes, cache.checkpoints]).toEqual([0, 0]);
  },
);
