// What an adapter makes of one case of the corpus: calls of public ops, and what they must give.
import { ops, Tensor } from 'statespace';
import { expect } from 'vitest';
import { expectClose, type KernelCase, type Tolerance } from '../support/golden.js';

type Names = { [K in keyof typeof ops]: K extends `${infer N}Sync` ? N : never }[keyof typeof ops];
/** A public op. */
export type OpName = Names & keyof typeof ops;

export interface Expected {
  data: ArrayLike<number>;
  tolerance: Tolerance;
  /** Of the op's output before it is compared: where the reference holds another view of it. */
  view?: (data: Float32Array) => ArrayLike<number>;
}

export interface Check {
  op: OpName;
  /** Beside the op's name, where a case makes several calls of it. */
  what?: string;
  args: Record<string, unknown>;
  /** By the names of the op's results. */
  expected: Record<string, Expected>;
}

/** The calls that one case of the corpus stands for. */
export type Adapter = (c: KernelCase) => Check[];
/** By the names of the corpus. */
export type Adapters = Record<string, Adapter>;

/** Results by name; those that are in an object, as mamba3's states are, by lastState.angle and the like. */
export type Outputs = Record<string, Tensor>;
export type Nested = Record<string, Tensor | Outputs>;

export function flat(results: Nested): Outputs {
  const all: Outputs = {};
  for (const [name, value] of Object.entries(results))
    if (value instanceof Tensor) all[name] = value;
    else for (const [part, t] of Object.entries(value)) all[`${name}.${part}`] = t;
  return all;
}

export function callSync(op: OpName, args: object): Outputs {
  return flat((ops[`${op}Sync` as keyof typeof ops] as unknown as (a: object) => Nested)(args));
}
export async function callAsync(op: OpName, args: object): Promise<Outputs> {
  return flat(await (ops[op] as unknown as (a: object) => Promise<Nested>)(args));
}

/** Names of all public ops, from their synchronous twins. */
export const opNames = Object.keys(ops).flatMap((name) => (name.endsWith('Sync') ? [name.slice(0, -4) as OpName] : []));

/** Both forms of the call, against the reference and each other, bit for bit. */
export async function runCheck({ op, args, expected }: Check): Promise<void> {
  const sync = callSync(op, args);
  const async = await callAsync(op, args);
  for (const [name, { data, tolerance, view }] of Object.entries(expected)) {
    const values = sync[name]!.data as Float32Array;
    expectClose(view ? view(values) : values, data, tolerance, `${op}Sync ${name}`);
  }
  for (const name of Object.keys(sync)) expect(async[name]).toEqual(sync[name]);
}
