import type { FileHandle } from 'node:fs/promises';
import type { StoredTensor } from '../checkpoint/open.js';
import { lazyFiles } from '../lazy.js';
import type { Tensors } from './bind.js';

const STEP = 1 << 20;

/**
 * The tensors, where a head that holds the values of the embedding once more is the embedding: a config that ties the
 * two is believed if they are equal, and a head of other values is a head of its own (as in transformers 5).
 */
export async function headAsCopy(tensors: Tensors): Promise<Tensors> {
  const name = [...tensors.keys()].find((n) => /(^|\.)lm_head\.weight$/.test(n));
  const head = name === undefined ? undefined : tensors.get(name);
  if (!head || !plain(head)) return tensors;
  for (const [other, t] of tensors)
    if (t !== head && /embed|wte/.test(other) && t.dtype === head.dtype && t.shape.join() === head.shape.join())
      if (plain(t) && (await equal(head, t))) return new Map([...tensors, [name!, t]]);
  return tensors;
}

const plain = (t: StoredTensor) => !(t.parts || t.rows || t.strides || t.derived);

async function equal(a: StoredTensor, b: StoredTensor): Promise<boolean> {
  if (a.file === b.file && a.offset === b.offset) return true;
  const files: FileHandle[] = [];
  try {
    for (const t of [a, b]) files.push(await lazyFiles().open(t.file));
    const [one, two] = [Buffer.alloc(STEP), Buffer.alloc(STEP)];
    for (let at = 0; at < a.byteLength; at += STEP) {
      const length = Math.min(STEP, a.byteLength - at);
      await files[0]!.read(one, 0, length, a.offset + at);
      await files[1]!.read(two, 0, length, b.offset + at);
      if (one.compare(two, 0, length, 0, length) !== 0) return false;
    }
    return true;
  } finally {
    for (const file of files) await file.close();
  }
}
