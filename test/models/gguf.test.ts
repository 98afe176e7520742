// Models out of GGUF files give the logits of transformers on the weights that the file holds.
import { basename, join } from 'node:path';
import { describeModel, loadModel } from 'statespace';
import { expect, test } from 'vitest';
import { openCheckpoint } from '../../dist/lib/checkpoint/open.js';
import { corpusFiles, corpusFolder, wholeCorpus } from '../support/gguf.js';
import { readGolden, relativeL2 } from '../support/golden.js';

if (!wholeCorpus) console.log('../shared/golden is not here: three models of twenty-five');

/** What the file says is not what was converted: llama.cpp's logits are those of the file (GGUF.md of the corpus). */
const asWritten = new Set(['mamba2_groups.f32', 'falcon_mamba.f32', 'mistral.f32']);
/** Weights that were rounded after they had been multiplied by the config's factors. */
const rounded = new Set(['falcon_h1_norm.f16']);

const folder = corpusFolder('models')!;
const files = corpusFiles(folder, '.gguf').map((file) => [basename(file, '.gguf'), file] as const);

/** Whether its architecture is read. */
const isRead = (file: string): Promise<boolean> =>
  openCheckpoint(file).then(
    () => true,
    (error) => {
      if (error.code !== 'ERR_UNSUPPORTED_MODEL') throw error;
      return false;
    },
  );

test.for(files)('%s', async ([name, file], { skip }) => {
  if (!(await isRead(file))) skip('no such architecture yet');
  const { tensors, metadata } = readGolden(join(folder, `${name}.expected.safetensors`));
  const model = await loadModel(file, { exact: true });
  const session = model.createSession();
  const ids = tensors.input_ids!.data as Int32Array;
  const logits = await session.forward(ids, { logits: 'all' });
  const width = logits.shape[1]!;
  const rows = (positions: ArrayLike<number>) =>
    Array.from(positions).flatMap((p) => [...logits.toFloat32Array().subarray(p * width, (p + 1) * width)]);
  const own = asWritten.has(name) ? 'llamacpp.' : '';
  const error = relativeL2(rows(tensors[`${own}logits_positions`]!.data), tensors[`${own}logits`]!.data);
  expect(error).toBeLessThan(rounded.has(name) ? 1e-2 : 1e-5);
  const greedy: number[] = [];
  let row: Float32Array = Float32Array.from(rows([ids.length - 1]));
  for (let i = 0; i < 12; i++) {
    greedy.push(row.indexOf(Math.max(...row)));
    row = (await session.forward([greedy[i]!])).toFloat32Array();
  }
  if (Number(metadata.greedy_min_margin) > 1e-3) expect(greedy).toEqual([...tensors[`${own}greedy_ids`]!.data]);
  await model.dispose();
});

const quantised = corpusFolder('quants');
if (!quantised) console.log('../shared/golden is not here: no models of K-quants');
const quants = quantised ? corpusFiles(quantised, '.gguf').map((file) => [basename(file, '.gguf'), file] as const) : [];

test.each(quants)('%s', async (name, file) => {
  const few = /\.(TQ1_0|TQ2_0|Q1_0|Q2_0)$/.exec(name)?.[1]?.toLowerCase();
  if (few) {
    const stored = (await describeModel(file)).tensors.filter((t) => t.stored === few);
    expect(stored.length).toBeGreaterThan(0);
    expect(stored.filter((t) => t.held !== 'q4_0')).toEqual([]); // the same values
  }
  const { tensors } = readGolden(join(quantised!, `${name}.expected.safetensors`));
  const ids = tensors.input_ids!.data as Int32Array;
  for (const [options, tolerance] of [
    [{ exact: true }, 1e-5],
    [{}, 1e-2],
  ] as const) {
    const model = await loadModel(file, options);
    const logits = await model.createSession().forward(ids, { logits: 'all' });
    const width = logits.shape[1]!;
    const all = logits.toFloat32Array();
    const rows = [...(tensors.logits_positions!.data as Int32Array)].flatMap((p) => [
      ...all.subarray(p * width, (p + 1) * width),
    ]);
    expect(relativeL2(rows, tensors.logits!.data), JSON.stringify(options)).toBeLessThan(tolerance);
    await model.dispose();
  }
});
