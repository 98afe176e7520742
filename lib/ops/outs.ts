import { mismatch, StatespaceError, show } from '../errors.js';
import { call } from '../native.js';
import { outTensor, type Tensor, type TensorLike } from '../tensor.js';

/** Where one of the result is written to: a tensor, or of a state of several those of its parts that are given. */
type OutOf<T> = T extends Tensor ? TensorLike : { readonly [P in keyof T]?: TensorLike | undefined };

/** What an op that gives R also takes. */
export interface Out<R> {
  /**
   * Tensors of the result to write to, any of them by name: of the result's shape, f32, f16 or bf16. They are returned in
   * the result and nothing is allocated for them. One that overlaps an input or another is ERR_ARGUMENT; after a call
   * that fails or is aborted, its values are undefined.
   */
  out?: { readonly [K in keyof R]?: OutOf<NonNullable<R[K]>> | undefined } | undefined;
}

/** The `out` of one call. */
export class Outs {
  /** Whether a result that was made lies in memory of ours: the others then do too, as V8 may collect when it makes one. */
  ours = false;
  private readonly given: Readonly<Record<string, unknown>> | undefined;
  private readonly taken: [name: string, tensor: Tensor][] = [];

  constructor(
    private readonly op: string,
    private readonly args: { readonly out?: unknown },
  ) {
    const given = args.out;
    if (given === undefined || given === null) return;
    if (typeof given !== 'object' || ArrayBuffer.isView(given) || Array.isArray(given))
      throw mismatch('ERR_ARGUMENT', `${op}: out`, 'an object of tensors by the names of the result', show(given));
    this.given = flattened(given as Record<string, unknown>);
  }

  /** The caller's tensor for this one of the result, checked; undefined where there is none. */
  take(name: string, shape: readonly number[]): Tensor | undefined {
    const value = this.given?.[name];
    if (value === undefined || value === null) return undefined;
    const out = outTensor(`${this.op}: out.${name}`, value, shape);
    this.taken.push([`out.${name}`, out]);
    return out;
  }

  /** Throws ERR_ARGUMENT for an `out` that is none of the result's, or whose memory another tensor of the call uses. */
  finish(result: object): void {
    if (!this.given) return;
    const known = flattened(result as Record<string, unknown>);
    for (const name of Object.keys(this.given)) {
      if (Object.hasOwn(known, name)) continue;
      const names = Object.keys(known).join(', ');
      throw new StatespaceError('ERR_ARGUMENT', `${this.op}: out: unknown name ${show(name)}; the result has ${names}`);
    }
    if (this.taken.length === 0) return;
    const names = this.taken.map(([name]) => name);
    const inputs: ArrayBufferView[] = [];
    gather(this.args as Readonly<Record<string, unknown>>, '', 2, names, inputs);
    const outs = this.taken.map(([, tensor]) => tensor.data);
    const pair = call((n) => n.overlap(outs, inputs));
    if (pair)
      throw new StatespaceError(
        'ERR_ARGUMENT',
        `${this.op}: ${names[pair[0]]}: expected memory of its own, received memory of ${names[pair[1]]}`,
      );
  }
}

// Loops, as calls for each entry and lists of lists were a fifth of what a call costs in JavaScript.

/** Tensors by name; those of an object among them (a state of several parts) by `object.part`. */
function flattened(given: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const flat: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(given)) {
    if (typeof value !== 'object' || value === null || 'data' in value) flat[name] = value;
    else for (const [part, tensor] of Object.entries(value)) flat[`${name}.${part}`] = tensor;
  }
  return flat;
}

/** The typed arrays among a call's arguments, in tensors and objects of them, and their names. */
function gather(
  args: Readonly<Record<string, unknown>>,
  prefix: string,
  depth: number,
  names: string[],
  found: ArrayBufferView[],
): void {
  for (const [name, value] of Object.entries(args)) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) continue;
    if (name === 'out' && prefix === '') continue;
    const { data } = value as { data?: unknown };
    const array = ArrayBuffer.isView(value) ? value : ArrayBuffer.isView(data) ? data : undefined;
    if (array) {
      names.push(prefix + name);
      found.push(array);
    } else if (depth > 0) gather(value as Record<string, unknown>, `${prefix}${name}.`, depth - 1, names, found);
  }
}
