// Adapters of a mixture's experts as peft has them where transformers 5 holds all experts in one parameter.
import type { StoredTensor } from '../checkpoint/open.js';
import { inPieces } from '../checkpoint/pieces.js';
import { computed, rowRange } from '../checkpoint/views.js';

interface Halves {
  readonly a: StoredTensor;
  readonly b: StoredTensor;
}

/** Names of an expert's matrices in checkpoints: the two that lie in `gate_up_proj`, one after the other, and `down_proj`. */
const KINDS = [
  { up: ['w1', 'w3'], down: 'w2' },
  { up: ['gate_proj', 'up_proj'], down: 'down_proj' },
] as const;

/**
 * What an adapter of all experts of a module is of each expert's matrices. A is (experts · rank, in), expert by expert, B (out, rank ·
 * experts), rank by rank. Undefined where the shapes are of neither parameter. `shapeOf`: of a tensor of the checkpoint.
 */
export function splitExperts(
  module: string,
  { a, b }: Halves,
  shapeOf: (name: string) => readonly number[] | undefined,
): { parameter: string; parts: Map<string, Halves> } | undefined {
  const weight = (expert: number, name: string) => `${module}.${expert}.${name}.weight`;
  const kind = KINDS.find(({ down }) => shapeOf(weight(0, down)));
  if (!kind) return undefined;
  const [inner, dModel] = shapeOf(weight(0, kind.up[0]))! as [number, number];
  let experts = 1;
  while (shapeOf(weight(experts, kind.down))) experts++;
  const [down, columns] = a.shape as [number, number];
  const rank = down / experts;
  if (!Number.isInteger(rank) || b.shape[1] !== down) return undefined;
  const isUp = columns === dModel && b.shape[0] === 2 * inner;
  if (!isUp && !(columns === inner && b.shape[0] === dModel)) return undefined;
  const rows = isUp ? inner : dModel;
  const parts = new Map<string, Halves>();
  for (let e = 0; e < experts; e++)
    for (const [i, name] of (isUp ? kind.up : [kind.down]).entries())
      parts.set(weight(e, name), {
        a: rowRange(a, e * rank, [rank, columns]),
        b: computed(rowRange(b, i * rows, [rows, down]), [rows, rank], (v) => columnsOf(v, e, experts)),
      });
  return { parameter: isUp ? 'gate_up_proj' : 'down_proj', parts };
}

/** Of (rows, rank · experts), rank by rank, the columns of one expert: (rows, rank). */
async function columnsOf(values: Float32Array, expert: number, experts: number): Promise<Float32Array> {
  const out = new Float32Array(values.length / experts);
  await inPieces(out.length, (from, to) => {
    for (let i = from; i < to; i++) out[i] = values[i * experts + expert]!;
  });
  return out;
}
