import { Cancellation, checkCall } from '../cancellation.js';
import { StatespaceError } from '../errors.js';
import { opCatalog } from '../graph/catalog.js';
import { allocated, collectDropped, LARGE, memoryOf } from '../memory.js';
import { call, type NativeTensor } from '../native.js';
import { checkKnown } from '../options.js';
import { Tensor } from '../tensor.js';
import type { Input, Sizes } from './check.js';

/** How an op is called, whatever its arguments. */
export interface CallOptions {
  /** Ends the op early: the promise rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** One native call with all its memory allocated: outputs and states are written in place. */
export interface Plan<R> {
  /** The native op. */
  op: string;
  /** Of the checked arguments. */
  sizes: Sizes;
  /** By the names of the op's fields. */
  tensors: Record<string, Input | undefined>;
  attrs?: Record<string, number | boolean | string | undefined> | undefined;
  result: R;
}

/** Runs a plan off the event loop. Arguments are read before this returns; what is wrong with them rejects. */
export async function run<R>(make: () => Plan<R>, options?: CallOptions): Promise<R> {
  const { op, sizes, tensors, attrs, result } = make();
  sizes.outs.finish(result as object);
  const [inputs, settings] = [given(op, tensors), defined(attrs)];
  await cancellable(sizes.op, options, (flag) => call((n) => n.runOp(op, inputs, settings, false, false, flag)));
  return result;
}

/** Runs a plan on the calling thread. */
export function runSync<R>({ op, sizes, tensors, attrs, result }: Plan<R>): R {
  sizes.outs.finish(result as object);
  call((n) => n.runOp(op, given(op, tensors), defined(attrs), true));
  return result;
}

/** Native work that a signal ends: `work` hands the flag on to the addon. */
export async function cancellable<T>(
  op: string,
  options: CallOptions | undefined,
  work: (flag?: Int32Array) => Promise<T>,
): Promise<T> {
  if (options === undefined) return work();
  checkCall(op, options);
  checkKnown(op, options, ['signal']);
  if (!options.signal) return work();
  const cancellation = new Cancellation(options.signal);
  return cancellation.run(() => work(cancellation.flag));
}

/** Tensors as the native op takes them, and what its states begin with. */
function given(op: string, tensors: Plan<unknown>['tensors']): Record<string, NativeTensor> {
  const fields = opCatalog().get(op)?.fields;
  if (!fields) throw new StatespaceError('ERR_ARGUMENT', `${op}: the loaded addon is of another version and lacks it`);
  const out: Record<string, NativeTensor> = {};
  for (const [name, t] of Object.entries(tensors)) {
    if (!t) continue;
    const initial = firstValues.get(t.data);
    out[name] = initial === undefined ? t : { data: t.data, shape: t.shape, dtype: t.dtype, initial };
  }
  return out;
}

function defined(attrs: Plan<unknown>['attrs'] = {}): Record<string, number | boolean | string> {
  const out: Record<string, number | boolean | string> = {};
  for (const [name, value] of Object.entries(attrs)) if (value !== undefined) out[name] = value;
  return out;
}

/** The same values as f32; the input itself when it is f32. */
export function asF32(t: Input): Input {
  if (t.dtype === 'f32') return t;
  return { data: new Tensor(t.data, t.shape, t.dtype).toFloat32Array(), shape: t.shape, dtype: 'f32' };
}

let poison: boolean | undefined;

/** STATESPACE_POISON=1, for tests: every output begins as NaN. Read late: a runtime may ask for leave to read it. */
const poisoned = (): boolean => {
  poison ??= process.env.STATESPACE_POISON === '1';
  return poison;
};

/**
 * The tensor of the result with this name, for the op to overwrite whole: the caller's, or a new one of whatever content.
 * Large ones lie in memory that was used before.
 */
export function output({ op, outs }: Sizes, name: string, shape: readonly number[]): Tensor {
  const theirs = outs.take(name, shape);
  if (theirs) return theirs;
  const bytes = shape.reduce((n, s) => n * s, 4);
  const data = allocated(op, () => {
    if (bytes === 0 || (bytes < LARGE && !outs.ours && !poisoned())) return new Float32Array(bytes / 4);
    if (!outs.ours) collectDropped();
    outs.ours = true;
    return new Float32Array(memoryOf(bytes) as ArrayBuffer);
  });
  if (poisoned()) data.fill(Number.NaN);
  return new Tensor(data, shape);
}

/** By the state's own array: the caller's initial state, which the op copies before it begins; null for zeros. */
const firstValues = new WeakMap<object, Input | null>();

/** The state of the result with this name, which the op begins with `initial`, or with zeros. */
export function stateFrom(initial: Input | undefined, sizes: Sizes, name: string, shape: readonly number[]): Tensor {
  const state = output(sizes, name, shape);
  firstValues.set(state.data, initial ?? null);
  return state;
}

/** The same values under another shape of as many. */
export function reshape<T extends Input | undefined>(t: T, ...shape: number[]): T {
  return (t ? { data: t.data, shape, dtype: t.dtype } : undefined) as T;
}

/** (B, L, …) as (B·L, …): the packed tokens that native ops take. */
export function tokens<T extends Input | undefined>(t: T): T {
  const shape = t?.shape.slice(1) ?? [];
  if (t) shape[0] = t.shape[0]! * t.shape[1]!;
  return (t ? { data: t.data, shape, dtype: t.dtype } : undefined) as T;
}
