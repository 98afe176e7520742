// The tensors of a checkpoint that a model holds, as values: where in the weights of its graph they lie.
import { copied, decodeRows } from '../blocks.js';
import { inPieces } from '../checkpoint/pieces.js';
import { mismatch, StatespaceError, show } from '../errors.js';
import type { Graph, Value } from '../graph/graph.js';
import type { WeightSpec } from '../graph/weight-spec.js';
import { floats, zeroedMemory } from '../memory.js';
import type { NativeHandle, TrainerSource, WeightEntry } from '../native.js';
import { call } from '../native.js';
import { bitsOf, pinned, Tensor, type TensorLike } from '../tensor.js';

/** A tensor by its name in the checkpoint. */
export interface Parameter {
  readonly name: string;
  /** Of 64-bit integers that of their words, (…, 4). */
  readonly shape: readonly number[];
  /** 64-bit integers, as four words of 16 bits each, lowest first. */
  readonly words: boolean;
  /** Stored beside the parameters, not one of them: it is not trained. */
  readonly buffer: boolean;
  /** Where weights have it: its values [first, first + count) begin at `at` there. */
  readonly uses: readonly { weight: Value; spec: WeightSpec; first: number; count: number; at: number }[];
}

const size = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** All tensors that a graph asks for, in its order. */
export function parametersOf(g: Graph): ReadonlyMap<string, Parameter> {
  const found = new Map<string, Parameter & { uses: Parameter['uses'][number][] }>();
  for (const [weight, spec] of g.weights) {
    let at = 0;
    for (const s of spec.sources) {
      const words = spec.words ?? false;
      const shape = words ? [...s.shape, 4] : s.shape;
      const parameter = found.get(s.name) ?? { name: s.name, shape, words, buffer: s.buffer ?? false, uses: [] };
      found.set(s.name, parameter);
      const [first, count] = s.span ?? [0, size(shape)];
      parameter.uses.push({ weight, spec, first, count, at });
      at += count;
    }
  }
  return found;
}

/** The values that a model's weights were made of, read back from where they are held. */
export class HeldParameters {
  readonly list: ReadonlyMap<string, Parameter>;

  constructor(
    private readonly graph: Graph,
    private readonly handle: () => NativeHandle,
    /** Of tensors that weights hold only what was computed of. */
    private readonly originals: Map<string, Float32Array>,
  ) {
    this.list = parametersOf(graph);
  }

  find(name: string): Parameter {
    const parameter = this.list.get(name);
    if (!parameter) throw new StatespaceError('ERR_ARGUMENT', `getParameter: the model has no tensor ${show(name)}`);
    return parameter;
  }

  /** A copy, f32. `held`: weights that were read already. */
  async read(name: string, held: Map<Value, Float32Array> = new Map()): Promise<Tensor> {
    const { shape, uses } = this.find(name);
    const original = this.originals.get(name);
    if (original) return new Tensor(await copied(original), shape);
    const readable = uses.filter((u) => !u.spec.transform);
    const wholeOf = ({ weight }: (typeof uses)[number]) => size(weight.dims as number[]);
    const alone = readable.find((use) => use.count === wholeOf(use) && use.count === size(shape));
    if (alone) {
      const values = floats(alone.count);
      await call((n) => n.readWeight(this.handle(), alone.weight.id, values));
      return new Tensor(values, shape);
    }
    const values = new Float32Array(zeroedMemory(4 * size(shape)));
    for (const use of readable) {
      const { weight, first, count, at } = use;
      const all = held.get(weight) ?? floats(wholeOf(use));
      if (!held.has(weight)) await call((n) => n.readWeight(this.handle(), weight.id, all));
      held.set(weight, all);
      await copied(all.subarray(at, at + count), values, first);
    }
    return new Tensor(values, shape);
  }

  /** Copies of all, each weight read once. */
  async all(): Promise<Map<string, Tensor>> {
    const out = new Map<string, Tensor>();
    const held = new Map<Value, Float32Array>();
    for (const { name, uses } of this.list.values()) {
      out.set(name, await this.read(name, held));
      for (const { weight, spec } of uses) if (spec.sources.at(-1)?.name === name) held.delete(weight);
    }
    return out;
  }

  /**
   * Gives a trainer's parameters, by their numbers, the values of all; what the weights do not hold is left to writeTrainer():
   * those are the result.
   */
  async seed(trainer: NativeHandle, numbers: ReadonlyMap<string, number>): Promise<Map<string, Float32Array>> {
    const sources: TrainerSource[] = [];
    const rest = new Map<string, Float32Array>();
    for (const { name, uses } of this.list.values()) {
      const original = this.originals.get(name);
      if (original) rest.set(name, original);
      else
        for (const { weight, spec, first, count, at } of uses)
          if (!spec.transform) sources.push({ parameter: numbers.get(name)!, first, count, value: weight.id, at });
    }
    await call((n) => n.seedTrainer(trainer, this.handle(), sources));
    return rest;
  }

  /** What native code is to load so that these tensors become the model's; checked, and nothing is changed yet. */
  async replace(given: ReadonlyMap<string, TensorLike>): Promise<{ entries: WeightEntry[]; commit: () => void }> {
    const values = await floatsOf('setParameters', given, this.list);
    const weights = new Set([...values.keys()].flatMap((name) => this.find(name).uses.map((u) => u.weight)));
    const entries: WeightEntry[] = [];
    for (const weight of weights) {
      const spec = this.graph.weights.get(weight)!;
      const parts: Float32Array[] = [];
      for (const s of spec.sources) {
        const all = values.get(s.name) ?? ((await this.read(s.name)).data as Float32Array);
        parts.push(s.span ? all.subarray(s.span[0], s.span[0] + s.span[1]) : all);
      }
      const made = spec.transform ? [await spec.transform(parts)] : parts;
      entries.push({ value: weight.id, parts: made.map((data) => ({ data })) });
    }
    const commit = () => {
      for (const [name, data] of values) if (this.originals.has(name)) this.originals.set(name, data);
    };
    return { entries, commit };
  }
}

/** Copies of all tensors by their names in the checkpoint; and how many values they have, active those one token uses. */
export interface Parameters {
  (): Promise<ReadonlyMap<string, Tensor>>;
  readonly total: number;
  readonly active: number;
}

/** A function with the counts as its properties, which JSON shows as they are. */
export function callable(
  counts: { total: number; active: number },
  read: () => Promise<ReadonlyMap<string, Tensor>>,
): Parameters {
  const parameters = Object.assign(() => read(), counts);
  Object.defineProperty(parameters, 'toJSON', { value: () => counts });
  return parameters;
}

/**
 * Copies of the values by name, as f32, made off the event loop or in turns of it; ERR_ARGUMENT for a name that is not among
 * `known`, ERR_SHAPE.
 */
export async function floatsOf(
  op: string,
  given: ReadonlyMap<string, TensorLike>,
  known: ReadonlyMap<string, Parameter>,
): Promise<Map<string, Float32Array>> {
  if (typeof given?.[Symbol.iterator] !== 'function' || typeof given.get !== 'function')
    throw mismatch('ERR_ARGUMENT', op, 'a Map of tensors by their names', show(given));
  const tensors = new Map<string, Tensor>();
  for (const [name, t] of given) {
    const parameter = known.get(name);
    if (!parameter) throw new StatespaceError('ERR_ARGUMENT', `${op}: the model has no tensor ${show(name)}`);
    if (t?.shape?.join() !== parameter.shape.join()) {
      const received = t?.shape ? `(${t.shape.join(', ')})` : show(t);
      throw mismatch('ERR_SHAPE', `${op}: ${name}`, `shape (${parameter.shape.join(', ')})`, received);
    }
    tensors.set(name, new Tensor(pinned(bitsOf(t.data)), t.shape, t.dtype));
  }
  const values = new Map<string, Float32Array>();
  for (const [name, t] of tensors) values.set(name, await floatsIn(t));
  return values;
}

async function floatsIn({ data, dtype, shape }: Tensor): Promise<Float32Array> {
  if (data.length === 0) return new Float32Array(0);
  if (dtype === 'f32') return copied(data as Float32Array);
  if (dtype === 'i32') {
    const values = floats(data.length);
    await inPieces(data.length, (from, to) => values.set(data.subarray(from, to), from), 1 / 16);
    return values;
  }
  const columns = shape.at(-1) ?? 1;
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return decodeRows(dtype, bytes, size(shape) / columns, columns);
}
