// A model in several files, as llama.cpp's gguf-split names and marks them.
import { basename, dirname, join } from 'node:path';
import { i32, type Pair, u16 } from '../checkpoint/gguf/pairs.js';
import { FileSize, type OutTensor } from '../checkpoint/gguf/write.js';
import { mismatch, StatespaceError, show } from '../errors.js';

export interface SplitOptions {
  /**
   * Bytes of one file at most: `OUT-00001-of-0000N.gguf` and so on, each as full as can be; a tensor that is larger has one
   * of its own. Where all fits into one file, that is `OUT`. Default: one file.
   */
  splitMaxSize?: number | undefined;
  /** Tensors of one file at most. Default: one file. */
  splitMaxTensors?: number | undefined;
}

export interface Part<T> {
  readonly path: string;
  readonly pairs: ReadonlyMap<string, Pair>;
  readonly tensors: readonly T[];
}

/** What the format counts parts in: five digits of a name. */
const MOST_PARTS = 65_535;

export function checkSplit({ splitMaxSize, splitMaxTensors }: SplitOptions): void {
  for (const [name, value] of Object.entries({ splitMaxSize, splitMaxTensors }))
    if (value !== undefined && !(Number.isSafeInteger(value) && value > 0))
      throw mismatch('ERR_ARGUMENT', `quantize: ${name}`, 'a positive integer', show(value));
}

/** The files that tensors go into, in their order. Keys are the first one's; the others know that they are parts. */
export function partsOf<T extends OutTensor>(
  out: string,
  pairs: ReadonlyMap<string, Pair>,
  tensors: readonly T[],
  options: SplitOptions,
): Part<T>[] {
  const groups = grouped(pairs, tensors, options);
  if (groups.length === 1) return [{ path: out, pairs, tensors }];
  if (groups.length > MOST_PARTS)
    throw new StatespaceError(
      'ERR_ARGUMENT',
      `quantize: ${groups.length} files, and at most ${MOST_PARTS} can be numbered: let them be larger`,
    );
  const stem = join(dirname(out), basename(out).replace(/\.gguf$/, ''));
  const digits = (n: number) => String(n).padStart(5, '0');
  return groups.map((group, i) => ({
    path: `${stem}-${digits(i + 1)}-of-${digits(groups.length)}.gguf`,
    pairs: new Map([...(i === 0 ? pairs : []), ...marks(i, groups.length, tensors.length)]),
    tensors: group,
  }));
}

const marks = (no: number, count: number, tensors: number): [string, Pair][] => [
  ['split.no', u16(no)],
  ['split.count', u16(count)],
  ['split.tensors.count', i32(tensors)],
];

function grouped<T extends OutTensor>(
  pairs: ReadonlyMap<string, Pair>,
  tensors: readonly T[],
  { splitMaxSize = Infinity, splitMaxTensors = Infinity }: SplitOptions,
): T[][] {
  const own = marks(0, 1, 1);
  const later = new FileSize(new Map(own));
  const groups: T[][] = [[]];
  let size = new FileSize(new Map([...pairs, ...own]));
  for (const tensor of tensors) {
    let group = groups.at(-1)!;
    if (group.length > 0 && (group.length >= splitMaxTensors || size.with(tensor).bytes > splitMaxSize)) {
      group = [];
      groups.push(group);
      size = later;
    }
    group.push(tensor);
    size = size.with(tensor);
  }
  return groups;
}
