// A checkpoint folder out of tensors and a config, as Hugging Face lays it out.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readTensorF32, type StoredTensor } from '../../dist/lib/checkpoint/open.js';
import { safetensors } from './checkpoint-files.js';

/** Writes config.json and model.safetensors (f32) into a folder. */
export async function writeCheckpoint(
  folder: string,
  config: object,
  tensors: Iterable<StoredTensor | { name: string; shape: readonly number[]; values: Float32Array }>,
): Promise<void> {
  const header: Record<string, object> = {};
  const data: Uint8Array[] = [];
  let at = 0;
  for (const t of tensors) {
    const values = 'values' in t ? t.values : await readTensorF32(t);
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    header[t.name] = { dtype: 'F32', shape: t.shape, data_offsets: [at, at + bytes.length] };
    data.push(bytes);
    at += bytes.length;
  }
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  writeFileSync(join(folder, 'model.safetensors'), safetensors(header, Buffer.concat(data)));
}
