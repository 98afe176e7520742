// That the roofline covers every op; its numbers, and the resources of the kernels, are compared in npm run check:full.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { ROOT } from '../support/markdown.js';

// The roofline is of what serves; gradients and the loss are not in it.
/** The loss, and steps of single families that are small beside their products: checked, not timed. */
const ofFewModels = 'crossEntropy joinStreams mixStreams ngramEmbedding sinkhorn sparseAttention streamGate'.split(' ');

it('docs/cuda-performance.md has a row for every op of a forward that has a kernel', () => {
  const text = readFileSync(join(ROOT, 'docs', 'cuda-performance.md'), 'utf8');
  const rows = new Set([...text.matchAll(/^\| (\w+) \|/gm)].map((m) => m[1]));
  const folder = join(ROOT, 'native', 'ops');
  const ops = readdirSync(folder).flatMap((file) => {
    const name = /kName = "(\w+)"/.exec(readFileSync(join(folder, file), 'utf8'))?.[1];
    return name ? [name] : [];
  });
  const missing = readFileSync(join(ROOT, 'cuda', 'missing.h'), 'utf8');
  const absent = new Set([...missing.matchAll(/^ {4}(\w+)[,>]/gm)].map(([, name]) => name!.toLowerCase()));
  expect(ops.length).toBeGreaterThan(30);
  expect(
    ops.filter((op) => !ofFewModels.includes(op) && !rows.has(op) && !absent.has(op.toLowerCase())),
    'add a case to cuda/bench, then npm run docs:cuda',
  ).toEqual([]);
});

it('docs/cuda.md names the ops that have no kernel', () => {
  const missing = readFileSync(join(ROOT, 'cuda', 'missing.h'), 'utf8');
  const absent = [...missing.matchAll(/^ {4}(\w+)[,>]/gm)].map(([, name]) => name![0]!.toLowerCase() + name!.slice(1));
  const text = readFileSync(join(ROOT, 'docs', 'cuda.md'), 'utf8');
  const section = /## Gradients\n([\s\S]*?)\n## /.exec(text)![1]!;
  const named = [...section.matchAll(/`(\w+)`/g)].map(([, name]) => name!);
  expect(named.sort()).toEqual(absent.sort());
});
