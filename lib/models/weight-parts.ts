import type { StoredTensor } from '../checkpoint/open.js';
import { type StoredType, storedTypes } from '../dtype.js';
import type { WeightSpec } from '../graph/weight-spec.js';
import type { WeightEntry } from '../native.js';
import type { Adapters } from './adapters.js';

// The readers of checkpoints, loaded at their first use.
const lazyRead = (): typeof import('../checkpoint/read.js') => require('../checkpoint/read.js');
const lazyAdapters = (): typeof import('./adapters.js') => require('./adapters.js');
const lazyViews = (): typeof import('../checkpoint/views.js') => require('../checkpoint/views.js');

type Parts = Extract<WeightEntry, { parts: unknown }>['parts'];

/** Types that native code reads from a file by itself. */
const mapped: ReadonlySet<string> = new Set(Object.keys(storedTypes).filter((t) => t !== 'i32'));

/** Where native code finds a weight's values: places in `files`, which grows, or values that are computed here. */
export async function weightParts(
  spec: WeightSpec,
  stored: readonly StoredTensor[],
  files: string[],
  originals: Map<string, Float32Array>,
  adapters?: Adapters,
): Promise<Parts> {
  const { readTensorF32 } = lazyRead();
  const { transform } = spec;
  if (transform || spec.sources.some((s) => adapters?.has(s.name))) {
    const values = await Promise.all(
      stored.map(async (t, i) => {
        const { name, span, shape } = spec.sources[i]!;
        const own = adapters?.get(name);
        const read = async () =>
          own ? lazyAdapters().merged(name, await readTensorF32(t), shape, own) : readTensorF32(t);
        const all = originals.get(name) ?? (await read());
        if (transform) originals.set(name, all);
        return span ? all.subarray(span[0], span[0] + span[1]) : all;
      }),
    );
    return transform ? [{ data: await transform(values) }] : values.map((data) => ({ data }));
  }
  const sources = stored.map((t, i) => {
    const span = spec.sources[i]!.span;
    return span ? lazyViews().valueRange(t, span[0], span[1]) : t;
  });
  if (spec.words) return Promise.all(sources.map(async (t) => ({ data: await lazyRead().readWords(t) })));
  const parts: Parts = [];
  for (const t of sources.flatMap(pieces)) {
    if (t.strides || t.derived || !mapped.has(t.dtype)) {
      parts.push({ data: await readTensorF32(t) });
      continue;
    }
    if (!files.includes(t.file)) files.push(t.file);
    const count = t.shape.reduce((a, b) => a * b, 1);
    parts.push({ file: files.indexOf(t.file), offset: t.offset, count, dtype: t.dtype as StoredType, rows: t.rows });
  }
  return parts;
}

const pieces = (t: StoredTensor): StoredTensor[] => t.parts?.flatMap(pieces) ?? [t];
