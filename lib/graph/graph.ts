import { fittingType, type HeldType } from '../dtype.js';
import { mismatch, StatespaceError, show } from '../errors.js';
import { type OpDescription, type OpField, opCatalog } from './catalog.js';
import type { WeightSource, WeightSpec } from './weight-spec.js';

/** A size, or what the batch decides: all its tokens, the rows that a head is computed for, its sequences. */
export type Dim = number | 'tokens' | 'outputs' | 'sequences';

export type ValueKind = 'activation' | 'view' | 'weight' | 'state' | 'cache' | 'input' | 'fixed';

/** Something an op reads or writes. Made by a Graph, used with that Graph. */
export interface Value {
  readonly id: number;
  readonly kind: ValueKind;
  readonly dims: readonly Dim[];
  /** view: the value it looks into, and its first column there. */
  readonly parent?: Value;
  readonly offset?: number;
  /** state: what a new session holds, one value per row of the first axis. */
  readonly fill?: readonly number[];
  readonly dtype: HeldType;
  /** activation: zeros before the first op that writes a part of it. */
  cleared?: boolean;
}

/**
 * Work with two forms: one over whole sequences (Model.run: they start anew, come in one piece and are not continued)
 * and one that carries a state (sessions).
 */
export type When = 'always' | 'whole' | 'stream';

/** One op of a graph. */
export interface Node {
  /** In which of the two forms it runs. */
  readonly when: When;
  readonly op: OpDescription;
  /** By the names of the op's fields; states are among them. */
  readonly inputs: Readonly<Record<string, Value>>;
  readonly attrs: Readonly<Record<string, number>>;
}

type Attrs = Record<string, number | boolean | string | undefined>;
type Inputs = Record<string, Value | undefined>;

const SIZES: ReadonlySet<Dim> = new Set(['tokens', 'outputs', 'sequences']);
const isSize = (d: unknown, least: number): boolean =>
  SIZES.has(d as Dim) || (Number.isInteger(d) && (d as number) >= least && (d as number) < 2 ** 31);
const rowSize = (dims: readonly Dim[]): number => dims.slice(1).reduce<number>((n, d) => n * (d as number), 1);
const showDims = (dims: readonly Dim[]): string => `(${dims.join(', ')})`;

/**
 * A model as a list of ops over values: pure data, built once by a model file and run by native code. Nothing is
 * allocated and nothing computed here; shapes are inferred from what each op declares.
 */
export class Graph {
  readonly values: Value[] = [];
  readonly nodes: Node[] = [];
  readonly weights = new Map<Value, WeightSpec>();
  /** Tensors that layers share, by their names in the checkpoint: what the other layers call them. */
  readonly shared = new Map<string, Set<string>>();
  /** Kinds of layers that no single op stands for, one entry a layer. */
  readonly layers: string[] = [];
  /** Tokens that a session may hold, where what computes them is right no further; `of`: what that is. */
  longest: { readonly tokens: number; readonly of: string } | undefined;
  /** Where rotations are those of longer sequences than by default: which ones. States of both do not mix. */
  stretched: string | undefined;
  private now: When = 'always';

  constructor(
    /** Type that matrices (and with halves, the KV cache) are held in. */
    readonly dtype: HeldType = 'f32',
    /** The type of one matrix, where it has its own. */
    private readonly typeOf: (spec: WeightSpec) => HeldType | undefined = () => undefined,
  ) {}

  /** @internal */
  add(value: Omit<Value, 'id'>): Value {
    const sizes: readonly unknown[] = Array.isArray(value.dims) ? value.dims : [];
    const least = value.kind === 'state' ? 0 : 1; // a window of one token remembers none
    if (sizes.length === 0 || !sizes.every((d) => isSize(d, least)))
      throw mismatch('ERR_SHAPE', `graph: ${value.kind}`, `sizes from ${least} to 2^31 - 1`, show([...value.dims]));
    const added = { ...value, id: this.values.length };
    this.values.push(added);
    return added;
  }

  /** @internal That it is a value of this graph: native code finds others nowhere. */
  own(op: string, name: string, value: Value): void {
    if (!value || this.values[value.id] !== value)
      throw mismatch('ERR_ARGUMENT', `${op}: ${name}`, 'a value of this graph', show(value));
  }

  /** Sessions hold at most so many tokens; `of` says what is defined no further. */
  limitTo(tokens: number, of: string): void {
    if (tokens < (this.longest?.tokens ?? Number.POSITIVE_INFINITY)) this.longest = { tokens, of };
  }

  /** Float rows fed from outside: (tokens, features). The same rows each time; a network reads them or ids. */
  input(features: number): Value {
    const before = this.fed();
    const rows = this.add({ kind: 'input', dims: ['tokens', features], dtype: 'f32' });
    if (before && before.dims[1] !== features)
      throw mismatch('ERR_SHAPE', 'graph: input', `${before.dims[1]} features, as before`, show(features));
    if (this.nodes.some((n) => readsIds(n.op))) throw bothRead();
    return rows;
  }

  private fed(): Value | undefined {
    return this.values.find((v) => v.kind === 'input');
  }

  /** A tensor of the checkpoint; model files declare it through Weights. */
  weight(spec: WeightSpec, shape: readonly number[]): Value {
    const dtype = spec.matrix ? fittingType(this.typeOf(spec) ?? this.dtype, shape[shape.length - 1]!) : 'f32';
    const value = this.add({ kind: 'weight', dims: shape, dtype });
    this.weights.set(value, spec);
    return value;
  }

  /** The type that a matrix of these tensors is held in by itself; undefined: that of all. */
  ownType(sources: readonly WeightSource[]): HeldType | undefined {
    return this.typeOf({ sources, matrix: true, init: [], activeShare: 1 });
  }

  /** Memory of a session, f32; zeros at its start, or `fill`: a value for each row of the first axis. */
  state(shape: readonly number[], fill: readonly number[] = []): Value {
    if (fill.length > 0 && fill.length !== shape[0]) {
      throw new StatespaceError('ERR_SHAPE', `state ${showDims(shape)}: ${fill.length} values to fill its rows with`);
    }
    return this.add({ kind: 'state', dims: shape, dtype: 'f32', fill });
  }

  /** Rows remembered for every token of a session: (heads, headdim) each. Default dtype: halves where the model's is. */
  cache(nheads: number, headdim: number, dtype?: 'f32' | 'f16' | 'bf16'): Value {
    const halves = this.dtype === 'f16' || this.dtype === 'bf16';
    return this.add({ kind: 'cache', dims: [nheads, headdim], dtype: dtype ?? (halves ? this.dtype : 'f32') });
  }

  /** Columns of a value, from `offset`, as rows of shape `dims` (axes after the first). Nothing is copied. */
  view(x: Value, offset: number, ...dims: number[]): Value {
    this.own('view', 'x', x);
    const all: Dim[] = [x.dims[0]!, ...dims];
    if (!Number.isSafeInteger(offset) || offset < 0 || offset + rowSize(all) > rowSize(x.dims)) {
      throw new StatespaceError(
        'ERR_SHAPE',
        `view: columns ${offset} to ${offset + rowSize(all)} of ${showDims(x.dims)}`,
      );
    }
    return this.add({ kind: 'view', dims: all, parent: x, offset, dtype: 'f32' });
  }

  /** The same rows with other inner axes. */
  reshape(x: Value, ...dims: number[]): Value {
    return this.view(x, 0, ...dims);
  }

  /** Views of neighbouring columns, of the given widths (a number: that many equal parts). */
  split(x: Value, sizes: readonly number[] | number): Value[] {
    const width = rowSize(x.dims);
    const widths = typeof sizes === 'number' ? new Array<number>(sizes).fill(width / sizes) : sizes;
    if (widths.reduce((a, b) => a + b, 0) !== width) {
      throw new StatespaceError('ERR_SHAPE', `split: ${showDims(x.dims)} into ${widths.join(' + ')}`);
    }
    let at = 0;
    return widths.map((w) => {
      at += w;
      return this.view(x, at - w, w);
    });
  }

  /** Room for rows that several ops write parts of, each through a view as its `into`. */
  buffer(rows: Dim, ...dims: number[]): Value {
    return this.add({ kind: 'activation', dims: [rows, ...dims], dtype: 'f32' });
  }

  /** The ops that `build` appends run over whole sequences only, or over streams only. Both forms write one buffer. */
  when(form: 'whole' | 'stream', build: () => void): void {
    const outer = this.now;
    if (outer !== 'always' && outer !== form) {
      throw new StatespaceError('ERR_ARGUMENT', `when: '${form}' inside '${outer}' would never run`);
    }
    this.now = form;
    try {
      build();
    } finally {
      this.now = outer;
    }
  }

  /**
   * Appends an op. Inputs, states and attributes are named as its struct names them; the result is its output, a new
   * value or `into`.
   */
  op(name: string, inputs: Inputs, attrs: Attrs = {}, into?: Value): Value {
    const op = opCatalog().get(name);
    if (!op) throw new StatespaceError('ERR_ARGUMENT', `graph: unknown op '${name}'`);
    if (readsIds(op) && this.fed()) throw bothRead();
    const given: Record<string, Value> = {};
    const sizes = new Map<string, Dim>();
    for (const [key, value] of Object.entries(inputs)) {
      if (!op.fields.some((f) => f.name === key && f.kind !== 'out')) {
        throw new StatespaceError('ERR_ARGUMENT', `${name}: has no tensor '${key}'`);
      }
      if (value === undefined) continue;
      this.own(name, key, value);
      given[key] = value;
    }
    for (const field of op.fields) {
      const value = given[field.name];
      if (value) bind(op, field, value, sizes);
      else if (field.kind === 'in' || field.kind === 'state') {
        throw new StatespaceError('ERR_ARGUMENT', `${name}: ${field.name} is missing`);
      }
    }
    let result: Value | undefined;
    for (const field of op.fields.filter((f) => f.kind === 'out')) {
      const dims = field.shapes[0]!.map((axis): Dim => {
        const dim = sizes.get(axis) ?? (SIZES.has(axis as Dim) ? (axis as Dim) : Number(axis));
        if (Number.isNaN(dim)) throw new StatespaceError('ERR_SHAPE', `${name}: ${field.name}: ${axis} is not known`);
        return dim;
      });
      if (into) this.own(name, 'into', into);
      const out = into ?? this.add({ kind: 'activation', dims, dtype: 'f32' });
      if (into && showDims(into.dims) !== showDims(dims)) {
        throw new StatespaceError(
          'ERR_SHAPE',
          `${name}: ${field.name}: expected ${showDims(dims)}, received ${showDims(into.dims)}`,
        );
      }
      given[field.name] = out;
      result ??= out;
    }
    this.nodes.push({ op, when: this.now, inputs: given, attrs: readAttrs(op, attrs) });
    return result ?? given[op.fields[0]!.name]!;
  }
}

const readsIds = (op: OpDescription): boolean => op.fields.some((f) => f.kind === 'runtime' && f.name === 'ids');
const bothRead = () =>
  mismatch('ERR_ARGUMENT', 'graph', 'a network of float rows (input) or of token ids (embedding)', 'one of both');

/** Of an op that is told where sequences lie: what it reads by token it reads as far as they go. */
const byToken = (op: OpDescription, axis: string | undefined): boolean =>
  (axis === 'tokens' || axis === 'keys') && op.fields.some((f) => f.kind === 'runtime');

/** Matches a value against a field's shapes; on success its symbols get sizes. */
function bind(op: OpDescription, { name: field, shapes }: OpField, value: Value, sizes: Map<string, Dim>): void {
  const pool: Dim[] = value.kind === 'state' ? [-1] : [];
  const dims: Dim[] = value.kind === 'cache' ? [-1, value.dims[0]!, -1, value.dims[1]!] : [...pool, ...value.dims];
  const fit = shapes.find(
    (axes) =>
      axes.length === dims.length &&
      axes.every((axis, i) => {
        const known = sizes.get(axis) ?? (Number.isNaN(Number(axis)) ? undefined : Number(axis));
        return dims[i] === -1 || known === undefined || known === dims[i];
      }),
  );
  if (!fit) {
    const wanted = shapes.map((axes) => `(${axes.map((a) => (sizes.has(a) ? `${a}=${sizes.get(a)}` : a)).join(', ')})`);
    throw new StatespaceError(
      'ERR_SHAPE',
      `${op.name}: ${field}: expected ${wanted.join(' or ')}, received ${showDims(value.dims)}`,
    );
  }
  if (byToken(op, fit[0]) && dims[0] !== 'tokens')
    throw mismatch('ERR_SHAPE', `${op.name}: ${field}`, 'a row for each token', showDims(value.dims));
  fit.forEach((axis, i) => {
    if (dims[i] !== -1) sizes.set(axis, dims[i]!);
  });
}

/** An op's attributes as numbers: choices by their places, absent ones by default. */
export function readAttrs(op: OpDescription, attrs: Attrs): Record<string, number> {
  const read: Record<string, number> = {};
  for (const key of Object.keys(attrs)) {
    if (!op.attrs.some((a) => a.name === key))
      throw new StatespaceError('ERR_ARGUMENT', `${op.name}: has no attribute '${key}'`);
  }
  for (const attr of op.attrs) {
    const value = attrs[attr.name];
    if (value === undefined) read[attr.name] = attr.default;
    else if (attr.type === 'choice') {
      const index = attr.choices.indexOf(String(value));
      if (index < 0) {
        throw new StatespaceError(
          'ERR_ARGUMENT',
          `${op.name}: ${attr.name}: expected one of ${attr.choices.join(', ')}, received ${value}`,
        );
      }
      read[attr.name] = index;
    } else {
      read[attr.name] = Number(value);
      if (Number.isNaN(read[attr.name]))
        throw mismatch('ERR_ARGUMENT', `${op.name}: ${attr.name}`, 'a number', show(value));
    }
  }
  return read;
}
