// The tasks of `bench recall` have one right answer each, which stands in the sequence; its models are of one size.
import { expect, test } from 'vitest';
import { library } from '../../dist/bench/library.js';
import { CONTENDERS, sized } from '../../dist/bench/recall/models.js';
import { printRecall } from '../../dist/bench/recall/print.js';
import { runRecall } from '../../dist/bench/recall/run.js';
import { NONE, sequences, TASKS } from '../../dist/bench/recall/tasks.js';

const [ROWS, LENGTH, VOCABULARY] = [20, 32, 24];

function rowsOf(name: string) {
  const task = TASKS.find((t) => t.name === name)!;
  const { ids, labels } = sequences(task, ROWS, LENGTH, VOCABULARY, 7);
  expect(sequences(task, ROWS, LENGTH, VOCABULARY, 7).ids.data).toEqual(ids.data);
  expect(sequences(task, ROWS, LENGTH, VOCABULARY, 8).ids.data).not.toEqual(ids.data);
  return Array.from({ length: ROWS }, (_, r) => {
    const part = (x: Int32Array) => [...x.subarray(r * LENGTH, (r + 1) * LENGTH)];
    const [row, answers] = [part(ids.data), part(labels.data)];
    expect(Math.min(...row)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...row)).toBeLessThan(VOCABULARY);
    answers.forEach((a, t) => {
      if (a !== NONE) expect(a).toBe(row[t]); // the answer is what comes
    });
    return { row, answers: answers.flatMap((a, at) => (a === NONE ? [] : [{ a, at }])) };
  });
}

test('selective copying: what stood among the noise, in its order', () => {
  for (const { row, answers } of rowsOf('copying')) {
    const mark = row.indexOf(1);
    expect(answers.map(({ a }) => a)).toEqual(row.slice(0, mark).filter((id) => id > 1));
    expect(answers.length).toBe(LENGTH / 8);
  }
});

test('induction heads: what followed the mark', () => {
  for (const { row, answers } of rowsOf('induction')) {
    expect(row.filter((id) => id === 1).length).toBe(2);
    expect(answers).toEqual([{ a: row[row.indexOf(1) + 1], at: LENGTH - 1 }]);
  }
});

test('multi-query associative recall: the value of each key, once', () => {
  for (const { row, answers } of rowsOf('mqar')) {
    const values = new Map(Array.from({ length: LENGTH / 4 }, (_, i) => [row[2 * i]!, row[2 * i + 1]!]));
    expect(values.size).toBe(LENGTH / 4);
    expect(new Set(answers.map(({ at }) => row[at - 1])).size).toBe(values.size);
    for (const { a, at } of answers) expect(a).toBe(values.get(row[at - 1]!));
  }
});

test('models of one size, within 4 %', () => {
  const d = { dModel: 64, layers: 8, vocabulary: VOCABULARY, length: LENGTH };
  for (const contender of CONTENDERS)
    expect(Math.abs(sized(library(), contender, d, 400e3).parameters / 400e3 - 1), contender.name).toBeLessThan(0.04);
});

test('a run trains, asks and prints', async () => {
  const contenders = CONTENDERS.filter(({ name }) => ['attention', 'mamba2-1:1'].includes(name));
  const settings = {
    ...{ dModel: 32, layers: 2, vocabulary: 12, length: 16, parameters: 30e3 },
    ...{ steps: 3, batch: 2, learningRate: 1e-3, seed: 1, asked: 2 },
  };
  const machine = { statespace: '0', commit: null, cpu: 'a processor', cores: 1, isa: 'scalar', threads: 1 };
  const report = await runRecall(contenders, TASKS, settings, {
    command: 'statespace bench recall',
    machine: { ...machine, memoryBytes: 1, node: 'v20', platform: 'linux' },
    signal: new AbortController().signal,
    onProgress: () => {},
  });
  expect(report.results.map((r) => Object.keys(r.accuracy))).toEqual([
    ['copying', 'induction', 'mqar'],
    ['copying', 'induction', 'mqar'],
  ]);
  for (const r of report.results) expect(r.stateBytes).toBeGreaterThan(0);
  expect(printRecall(report)).toMatch(/attention:Mamba-2 1:1 .*%/);
});
