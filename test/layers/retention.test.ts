// RetNet's retention layer against torchscale's MultiScaleRetention, whole and in steps, and its constants.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { layers, loadModel, registerModel, Tensor } from 'statespace';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { retentionAngles, retentionDecays } from '../../dist/lib/layers/retention.js';
import { onEveryBackend } from '../conformance/backends.js';
import { safetensors } from '../support/checkpoint-files.js';
import { expectClose, type KernelCase, kernelCase, kernelNames, modelCase, readGolden } from '../support/golden.js';

const EPS = 1e-6; // the layer's own default
const root = mkdtempSync(join(tmpdir(), 'statespace-retention-'));
afterAll(() => rmSync(root, { recursive: true }));

beforeAll(() => {
  registerModel({
    modelTypes: ['one_retention'],
    config: (c) => ({ dModel: c.size('d_model'), dValue: c.size('d_value'), nHeads: c.size('heads') }),
    build: (g, w, c) => layers.retention(g, g.input(c.dModel), w, { nHeads: c.nHeads, dValue: c.dValue, eps: EPS }),
  });
});

/** The layer of a golden case as a checkpoint of one layer. */
function folderOf({ name, inputs, flags }: KernelCase): string {
  const folder = join(root, name);
  const header: Record<string, unknown> = {};
  const parts: Buffer[] = [];
  for (const letter of ['q', 'k', 'v', 'g', 'o']) {
    const { data, shape } = inputs[`${letter}_w`]!;
    const begin = parts.reduce((n, p) => n + p.length, 0);
    parts.push(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
    const data_offsets = [begin, begin + data.byteLength];
    header[`${letter === 'o' ? 'out' : letter}_proj.weight`] = { dtype: 'F32', shape, data_offsets };
  }
  const [dValue, dModel] = inputs.v_w!.shape;
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'model.safetensors'), safetensors(header, Buffer.concat(parts)));
  const config = { model_type: 'one_retention', d_model: dModel, d_value: dValue, heads: flags.heads };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  return folder;
}

onEveryBackend(() => {
  test.each(kernelNames('retnet_msr'))('%s: whole, and token by token', async (name) => {
    const golden = kernelCase(name);
    const { data, shape } = golden.inputs.x!;
    const [batch, length, width] = shape as [number, number, number];
    const model = await loadModel(folderOf(golden));
    const y = await model.run(new Tensor(data as Float32Array, shape));
    for (const form of ['y_parallel', 'y_recurrent', 'y_chunkwise'])
      expectClose(y.toFloat32Array(), golden.outputs[form]!.data, golden.tolerance(form), form);
    for (let b = 0; b < batch; b++) {
      const session = model.createSession();
      for (let t = 0; t < length; t++) {
        const at = (b * length + t) * width;
        const row = new Tensor((data as Float32Array).slice(at, at + width), [1, width]);
        const step = await session.forward(row, { logits: 'all' });
        const want = golden.outputs.y_recurrent!.data.slice(at, at + width);
        expectClose(step.toFloat32Array(), want, golden.tolerance('y_recurrent'), `sequence ${b}, token ${t}`);
      }
    }
    await model.dispose();
  });
});

describe('constants', () => {
  test.each(['retnet_torchscale', 'retnet_torchscale_tied'])('angles and decays are those saved in %s', (name) => {
    const { tensors } = readGolden(join(modelCase(name).folder, 'model.safetensors'));
    const angle = tensors['retnet_rel_pos.angle']!.data; // each twice
    const decay = tensors['retnet_rel_pos.decay']!.data;
    const exactly = { atol: 1e-9, rtol: 3e-7 };
    expectClose(
      retentionAngles(angle.length),
      angle.filter((_, i) => i % 2 === 0),
      exactly,
    );
    expectClose(retentionDecays(decay.length), decay, exactly);
  });

  test('two keys per head make one angle', () => {
    expect([...retentionAngles(2)]).toEqual([1]);
  });
});
