// What an architecture of llama.cpp says of itself: its keys, and which of its tensors are which of Hugging Face's.
import { type Change, changed } from '../pieces.js';
import type { StoredTensor } from '../stored.js';
import { computed, inRowOrder, joined, reshaped, rowRange, transposed } from '../views.js';
import type { ArchitectureKeys } from './keys.js';

export type Config = Record<string, unknown>;
export type Tensors = ReadonlyMap<string, StoredTensor>;

/** Tensors of a GGUF file and the tensors of a Hugging Face checkpoint that they are, and how to turn one into the other. */
export interface Pairing {
  readonly gguf: readonly string[];
  /** Asked for where the tensors are there: how many experts a key claims is work only then. */
  hf(): readonly string[];
  toHf(tensors: readonly StoredTensor[]): StoredTensor[];
  toGguf(tensors: readonly StoredTensor[]): StoredTensor[];
}

export interface Architecture {
  /** general.architecture, the prefix of its keys. */
  readonly name: string;
  /** Hugging Face's model_type of the models that are written as it. */
  readonly modelTypes: readonly string[];
  /** The config that Hugging Face would have of such a file; tensors by their names in the file. */
  config(keys: ArchitectureKeys, tensors: Tensors): Config | Promise<Config>;
  /** For such a config, whichever of its tensors are there. */
  pairings(config: Config, layers: number): Pairing[];
  /** Tensors of a file that say nothing that the config does not. */
  readonly unread?: (name: string, config: Config) => boolean;
}

/** One for one; what differs is in the views. */
export function pair(
  gguf: string,
  hf: string,
  toHf: (t: StoredTensor) => StoredTensor = (t) => t,
  toGguf: (t: StoredTensor) => StoredTensor = (t) => t,
): Pairing {
  return { gguf: [gguf], hf: () => [hf], toHf: ([t]) => [toHf(t!)], toGguf: ([t]) => [toGguf(t!)] };
}

/** A weight and, where there is one, its bias. */
export function withBias(gguf: string, hf: string): Pairing[] {
  return [pair(`${gguf}.weight`, `${hf}.weight`), pair(`${gguf}.bias`, `${hf}.bias`)];
}

/** Other shapes around the same values: `hf` and `gguf` from the shape on the other side. */
export function shaped(
  gguf: string,
  hf: string,
  hfShape: (shape: readonly number[]) => readonly number[],
  ggufShape: (shape: readonly number[]) => readonly number[],
): Pairing {
  return pair(
    gguf,
    hf,
    (t) => reshaped(t, hfShape(t.shape)),
    (t) => reshaped(t, ggufShape(t.shape)),
  );
}

/** (channels, kernel) of a depthwise convolution, whose middle axis of 1 the file leaves out. */
export const conv = (gguf: string, hf: string): Pairing =>
  shaped(
    gguf,
    hf,
    ([channels, kernel]) => [channels!, 1, kernel!],
    (shape) => [shape[0]!, shape[shape.length - 1]!],
  );

/** A vector that the file keeps as a matrix: (groups, n / groups), or where `groups` says so (n, 1). */
export const vector = (gguf: string, hf: string, groups: number | 'each'): Pairing =>
  shaped(
    gguf,
    hf,
    (shape) => [shape.reduce((a, b) => a * b, 1)],
    ([n]) => (groups === 'each' ? [n!, 1] : [groups, n! / groups]),
  );

const logOfNegative: Change = (values, from, to) => {
  for (let i = from; i < to; i++) values[i] = Math.log(-values[i]!);
};

const negativeExp: Change = (values, from, to) => {
  for (let i = from; i < to; i++) values[i] = -Math.exp(values[i]!);
};

const added =
  (by: number): Change =>
  (values, from, to) => {
    for (let i = from; i < to; i++) values[i] = values[i]! + by;
  };

/** A = -exp(A_log) is stored, A_log is wanted; trailing: as (heads, 1). */
export function decay(gguf: string, hf: string, trailing = false): Pairing {
  return pair(
    gguf,
    hf,
    (t) => computed(t, trailing ? [t.shape[0]!] : t.shape, (a) => changed(a, logOfNegative)),
    (t) => computed(t, trailing ? [t.shape[0]!, 1] : t.shape, (log) => changed(log, negativeExp)),
  );
}

/** (out, in) here, (in, out) there. */
export const turned = (gguf: string, hf: string): Pairing => pair(gguf, hf, transposed, transposed);

/**
 * Queries and keys of Llama: the file holds the rows of each head for the rotation of neighbours, (2j, 2j + 1), Hugging
 * Face for that of halves, (j, j + headDim / 2). Weights and biases alike.
 */
export function rotated(gguf: string, hf: string, headDim: number): Pairing {
  const half = headDim / 2;
  const place = (row: number): [number, number] => [Math.floor(row / headDim) * headDim, row % headDim];
  // Row r of Hugging Face's is which row of the file's, and the reverse.
  const fromFile = (row: number): number => {
    const [head, at] = place(row);
    return head + 2 * (at % half) + Math.floor(at / half);
  };
  const toFile = (row: number): number => {
    const [head, at] = place(row);
    return head + (at % 2) * half + Math.floor(at / 2);
  };
  const by = (order: (row: number) => number) => (t: StoredTensor) => {
    const rows = Int32Array.from({ length: t.shape[0]! }, (_, i) => order(i));
    if (t.shape.length > 1) return inRowOrder(t, rows, t.shape);
    return computed(t, t.shape, (values) => Float32Array.from(rows, (row) => values[row]!));
  };
  return pair(gguf, hf, by(fromFile), by(toFile));
}

/** Experts, stacked along a leading axis in the file, one by one in the checkpoint. */
export function experts(gguf: string, count: number, hf: (expert: number) => string): Pairing {
  return {
    gguf: [gguf],
    hf: () => Array.from({ length: count }, (_, e) => hf(e)),
    toHf: ([t]) => {
      const [stored, rows, columns] = t!.shape;
      if (stored !== count || columns === undefined) throw new Error(`expected ${count} matrices`);
      return Array.from({ length: count }, (_, e) => rowRange(t!, e * rows!, [rows!, columns]));
    },
    toGguf: (tensors) => [joined(gguf, tensors, [tensors.length, ...tensors[0]!.shape])],
  };
}

/** Two matrices of the file as the two halves of the rows of one, of each expert where there are several. */
export function interleaved(gguf: readonly [string, string], hf: string): Pairing {
  return {
    gguf,
    hf: () => [hf],
    toHf: ([first, second]) => {
      const [rows, columns] = first!.shape.slice(-2) as [number, number];
      const outer = first!.shape.slice(0, -2);
      const count = outer[0] ?? 1;
      const parts = Array.from({ length: count }, (_, e) =>
        [first!, second!].map((t) => rowRange(t, e * rows, [rows, columns])),
      );
      return [joined(hf, parts.flat(), [...outer, 2 * rows, columns])];
    },
    toGguf: ([t]) => {
      const [both, columns] = t!.shape.slice(-2) as [number, number];
      const outer = t!.shape.slice(0, -2);
      const rows = both / 2;
      return [0, 1].map((half) => {
        const order = Int32Array.from({ length: (outer[0] ?? 1) * rows }, (_, i) => {
          return Math.floor(i / rows) * both + half * rows + (i % rows);
        });
        return inRowOrder(t!, order, [...outer, rows, columns]);
      });
    },
  };
}

/** Values to which the file has `by` added. */
export function shifted(gguf: string, hf: string, by: number): Pairing {
  return pair(
    gguf,
    hf,
    (t) => computed(t, t.shape, (values) => changed(values, added(-by))),
    (t) => computed(t, t.shape, (values) => changed(values, added(by))),
  );
}

/** Vectors that the file keeps side by side in one tensor of shape (n, 1, 1, channels). */
export function fused(gguf: string, hf: readonly string[]): Pairing {
  return {
    gguf: [gguf],
    hf: () => hf,
    toHf: ([t]) => {
      const channels = t!.shape[t!.shape.length - 1]!;
      const rows = reshaped(t!, [hf.length, channels]);
      return hf.map((_, i) => reshaped(rowRange(rows, i, [1, channels]), [1, 1, channels]));
    },
    toGguf: (tensors) => {
      const channels = tensors[0]!.shape.reduce((a, b) => a * b, 1);
      return [joined(gguf, tensors, [tensors.length, 1, 1, channels])];
    },
  };
}
