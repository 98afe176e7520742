// Adapters of a mixture's experts as peft has them where transformers 5 holds all experts in one parameter.
import { readTensorF32, type StoredTensor } from '../checkpoint/open.js';
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
  const ups = kind?.up.filter((name) => shapeOf(weight(0, name))) ?? [];
  if (!kind || ups.length === 0) return undefined;
  const [inner, dModel] = shapeOf(weight(0, ups[0]!))! as [number, number];
  let experts = 1;
  while (shapeOf(weight(experts, kind.down))) experts++;
  const [down, columns] = a.shape as [number, number];
  const rank = down / experts;
  if (!Number.isInteger(rank) || b.shape[1] !== down) return undefined;
  const isUp = columns === dModel && b.shape[0] === ups.length * inner;
  if (!isUp && !(columns === inner && b.shape[0] === dModel)) return undefined;
  const rows = isUp ? inner : dModel;
  const names = isUp ? ups : [kind.down];
  const parts = new Map<string, Halves>();
  const sorted = (values: Float32Array) => expertByExpert(values, experts);
  const read = readFor(experts * names.length, async () => sorted(await readTensorF32(b)));
  const part = (first: number): StoredTensor => {
    const own = (all: Float32Array) => all.slice(first, first + rows * rank);
    const made = computed(b, [rows, rank], async (values) => own(await sorted(values)));
    return { ...made, derived: { ...made.derived!, values: async () => own(await read()) } };
  };
  for (let e = 0; e < experts; e++)
    for (const [i, name] of names.entries())
      parts.set(weight(e, name), {
        a: rowRange(a, e * rank, [rank, columns]),
        b: part((e * names.length + i) * rows * rank),
      });
  return { parameter: isUp ? (ups.length > 1 ? 'gate_up_proj' : 'up_proj') : 'down_proj', parts };
}

/** (rows, rank · experts), rank by rank, as (experts, rows, rank). */
async function expertByExpert(values: Float32Array, experts: number): Promise<Float32Array> {
  const out = new Float32Array(values.length);
  const size = values.length / experts;
  await inPieces(values.length, (from, to) => {
    for (let i = from; i < to; i++) out[(i % experts) * size + Math.floor(i / experts)] = values[i]!;
  });
  return out;
}

/** What `read` gives to `users`, who each ask once: it is read for the first, and let go of behind the last. */
function readFor<T>(users: number, read: () => Promise<T>): () => Promise<T> {
  let reading: Promise<T> | undefined;
  let left = users;
  return () => {
    reading ??= read();
    const mine = reading;
    if (--left === 0) [reading, left] = [undefined, users];
    return mine;
  };
}
