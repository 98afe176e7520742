import { StatespaceError } from '../errors.js';
import { opCatalog } from '../graph/catalog.js';
import { call, type NativeTensor } from '../native.js';
import { Tensor } from '../tensor.js';
import type { Input } from './check.js';

/** One native call with all its memory allocated: outputs and states are written in place. */
export interface Plan<R> {
  /** The native op. */
  op: string;
  /** By the names of the op's fields. */
  tensors: Record<string, Input | undefined>;
  attrs?: Record<string, number | boolean | string | undefined>;
  result: R;
}

/** Runs a plan off the event loop. Arguments are read before this returns; what is wrong with them rejects. */
export async function run<R>(make: () => Plan<R>): Promise<R> {
  const { op, tensors, attrs, result } = make();
  await call((n) => n.runOp(op, given(op, tensors), defined(attrs), false));
  return result;
}

/** Runs a plan on the calling thread. */
export function runSync<R>({ op, tensors, attrs, result }: Plan<R>): R {
  call((n) => n.runOp(op, given(op, tensors), defined(attrs), true));
  return result;
}

/** Tensors as the native op takes them: f16 and bf16 become f32 where it has no kernel for them. */
function given(op: string, tensors: Plan<unknown>['tensors']): Record<string, NativeTensor> {
  const fields = opCatalog().get(op)?.fields;
  if (!fields) throw new StatespaceError('ERR_ARGUMENT', `${op}: the loaded addon is of another version and lacks it`);
  const out: Record<string, NativeTensor> = {};
  for (const [name, t] of Object.entries(tensors)) {
    if (!t) continue;
    const dtypes = fields.find((f) => f.name === name)?.dtypes ?? ['f32'];
    out[name] = dtypes.includes(t.dtype) ? t : asF32(t);
  }
  return out;
}

function defined(attrs: Plan<unknown>['attrs'] = {}): Record<string, number | boolean | string> {
  return Object.fromEntries(Object.entries(attrs).filter(([, v]) => v !== undefined)) as Record<string, number>;
}

/** The same values as f32; the input itself when it is f32. */
export function asF32(t: Input): Input {
  if (t.dtype === 'f32') return t;
  return { data: new Tensor(t.data, t.shape, t.dtype).toFloat32Array(), shape: t.shape, dtype: 'f32' };
}

/** A new f32 tensor of zeros. */
export function zeros(op: string, shape: readonly number[]): Tensor {
  const size = shape.reduce((n, s) => n * s, 1);
  return new Tensor(
    allocated(op, () => new Float32Array(size)),
    shape,
  );
}

// Smaller ones are cheaper to make anew. STATESPACE_POISON, for tests: every output begins as NaN.
const poison = process.env.STATESPACE_POISON === '1';
const RECYCLED_BYTES = poison ? 4 : 1 << 20;

/** A new f32 tensor of whatever content, which the op overwrites whole: large ones lie in memory that was used before. */
export function output(op: string, shape: readonly number[]): Tensor {
  const bytes = shape.reduce((n, s) => n * s, 4);
  const memory = bytes >= RECYCLED_BYTES ? call((n) => n.outputMemory(bytes)) : undefined;
  if (!memory) return zeros(op, shape);
  const data = new Float32Array(memory);
  if (poison) data.fill(Number.NaN);
  return new Tensor(data, shape);
}

/** What `make` allocates; too much of it is a typed error. */
export function allocated<T>(op: string, make: () => T): T {
  try {
    return make();
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new StatespaceError('ERR_OUT_OF_MEMORY', `${op}: no memory for its output`, { cause });
  }
}

/** A copy of the initial state for the op to write in, or zeros. */
export function stateFrom(initial: Input | undefined, op: string, shape: readonly number[]): Tensor {
  if (!initial) return zeros(op, shape);
  const { data } = asF32(initial);
  return new Tensor(data === initial.data ? data.slice() : data, shape);
}

/** The same values under another shape of as many. */
export function reshape<T extends Input | undefined>(t: T, ...shape: number[]): T {
  return (t ? { data: t.data, shape, dtype: t.dtype } : undefined) as T;
}

/** (B, L, …) as (B·L, …): the packed tokens that native ops take. */
export function tokens<T extends Input | undefined>(t: T): T {
  return t ? reshape(t, t.shape[0]! * t.shape[1]!, ...t.shape.slice(2)) : t;
}
