import { mismatch, StatespaceError, show } from '../errors.js';
import { call } from '../native.js';
import { outTensor, type Tensor, type TensorLike } from '../tensor.js';

/** What an op that gives R also takes. */
export interface Out<R> {
  /**
   * Tensors of the result to write to, any of them by name: of the result's shape, f32, f16 or bf16. They are returned in
   * the result and nothing is allocated for them. One that overlaps an input or another is ERR_ARGUMENT; after a call
   * that fails or is aborted, its values are undefined.
   */
  out?: { readonly [K in keyof R]?: TensorLike | undefined } | undefined;
}

/** The `out` of one call. */
export class Outs {
  /** Whether a result that was made lies in memory of ours: the others then do too, as V8 may collect when it makes one. */
  ours = false;
  private readonly given: Readonly<Record<string, unknown>>;
  private readonly taken = new Map<string, Tensor>();

  constructor(
    private readonly op: string,
    private readonly args: { readonly out?: unknown },
  ) {
    const given = args.out ?? {};
    if (typeof given !== 'object' || ArrayBuffer.isView(given) || Array.isArray(given))
      throw mismatch('ERR_ARGUMENT', `${op}: out`, 'an object of tensors by the names of the result', show(given));
    this.given = flattened(given as Record<string, unknown>);
  }

  /** The caller's tensor for this one of the result, checked; undefined where there is none. */
  take(name: string, shape: readonly number[]): Tensor | undefined {
    const value = this.given[name];
    if (value === undefined || value === null) return undefined;
    const out = outTensor(`${this.op}: out.${name}`, value, shape);
    this.taken.set(name, out);
    return out;
  }

  /** Throws ERR_ARGUMENT for an `out` that is none of the result's, or whose memory another tensor of the call uses. */
  finish(result: object): void {
    const names = Object.keys(flattened(result as Record<string, unknown>));
    const unknown = Object.keys(this.given).find((name) => !names.includes(name));
    if (unknown !== undefined)
      throw new StatespaceError(
        'ERR_ARGUMENT',
        `${this.op}: out: unknown name ${show(unknown)}; the result has ${names.join(', ')}`,
      );
    if (this.taken.size === 0) return;
    const outs = [...this.taken].map(([name, t]) => [`out.${name}`, t.data] as const);
    const inputs = arrays(this.args as Readonly<Record<string, unknown>>, '', 2);
    const all = [...outs, ...inputs];
    const pair = call((n) =>
      n.overlap(
        outs.map(([, data]) => data),
        inputs.map(([, data]) => data),
      ),
    );
    if (pair)
      throw new StatespaceError(
        'ERR_ARGUMENT',
        `${this.op}: ${all[pair[0]]![0]}: expected memory of its own, received memory of ${all[pair[1]]![0]}`,
      );
  }
}

/** Tensors by name; those of an object among them (a state of several parts) by `object.part`. */
function flattened(given: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const parts = Object.entries(given).map(([name, value]): [string, unknown][] => {
    const nested = typeof value === 'object' && value !== null && !('data' in value);
    return nested ? Object.entries(value).map(([part, t]) => [`${name}.${part}`, t]) : [[name, value]];
  });
  return Object.fromEntries(parts.flat());
}

/** The typed arrays among a call's arguments, in tensors and objects of them, by name. */
function arrays(args: Readonly<Record<string, unknown>>, prefix: string, depth: number): [string, ArrayBufferView][] {
  return Object.entries(args).flatMap(([name, value]): [string, ArrayBufferView][] => {
    if (name === 'out' && prefix === '') return [];
    if (ArrayBuffer.isView(value)) return [[prefix + name, value]];
    if (typeof value !== 'object' || value === null || Array.isArray(value) || depth === 0) return [];
    const { data } = value as { data?: unknown };
    if (ArrayBuffer.isView(data)) return [[prefix + name, data]];
    return arrays(value as Record<string, unknown>, `${prefix}${name}.`, depth - 1);
  });
}
