import { InputFile } from '../checkpoint/files.js';
import type { StoredTensor } from '../checkpoint/open.js';
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
  return InputFile.use(a.file, (fileA) =>
    InputFile.use(b.file, async (fileB) => {
      for (let at = 0; at < a.byteLength; at += STEP) {
        const length = Math.min(STEP, a.byteLength - at);
        const [one, two] = [
          await fileA.read(a.offset + at, length, a.name),
          await fileB.read(b.offset + at, length, b.name),
        ];
        if (!one.equals(two)) return false;
      }
      return true;
    }),
  );
}
