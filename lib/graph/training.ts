import { StatespaceError } from '../errors.js';
import type { OpDescription, OpField } from './catalog.js';
import { type Dim, Graph, type Node, readAttrs, type Value } from './graph.js';
import { defaults, describe, inChunks, isRead, overWhole } from './op-forms.js';
import { blocksOf, cheapOf, type DerivedNode, isWritten, repeated } from './recompute.js';
import type { MadeBy, WeightSpec } from './weight-spec.js';

/** A graph that ends in a loss, and the values that its runner fills or reads. */
export interface TrainingGraph {
  readonly graph: Graph;
  /** (1). */
  readonly loss: Value;
  /** (1): the number of targets that the loss divides by; or */
  readonly divisor?: Value;
  /** (1): what the loss is multiplied by before it is differentiated. */
  readonly dloss?: Value;
  /** The weights that the checkpoint's tensors become, where they are, and the values whose sums are their gradients. */
  readonly weights: readonly TrainedWeight[];
}

export interface TrainedWeight {
  readonly spec: WeightSpec;
  readonly value: Value;
  readonly gradients: readonly Value[];
}

const widthOf = (v: Value): number => v.dims.slice(1).reduce<number>((n, d) => n * (d as number), 1);

/** Columns [from, to) of a value that is no view. */
interface Span {
  root: Value;
  from: number;
  to: number;
}

/** The gradient of a value: rows of the same width, and which columns hold something yet. */
interface Gradient {
  value: Value;
  written: [number, number][];
}

/** Writes the backward ops of a graph behind it. What an op's gradient is, its native struct says (core/fields.h). */
class Derivation {
  readonly graph: Graph;
  readonly copies = new Map<Value, Value>();
  readonly weights: { spec: WeightSpec; value: Value; gradients: Value[] }[] = [];
  /** What makes weights of the checkpoint's tensors; and all else. */
  private readonly making: DerivedNode[] = [];
  private readonly nodes: DerivedNode[] = [];
  private readonly gradients = new Map<Value, Gradient>();
  /** Weights that are trained, and activations that depend on one. */
  private readonly varying = new Set<Value>();
  private readonly uses = new Map<Value, number>();
  /** Of a value that is computed again: the one that it repeats, whose gradient is its own. */
  private readonly originals = new Map<Value, Value>();
  /** Of what costs little to compute: by what, and where it is once more. */
  private readonly cheap = new Map<Value, DerivedNode>();
  private readonly again = new Map<Value, Value>();

  constructor(
    private readonly of: Graph,
    private readonly output: Value,
    private readonly trains: (spec: WeightSpec) => boolean,
  ) {
    this.graph = new Graph(of.dtype);
  }

  /** The forward's ops over whole sequences, recurrences in chunks: no rows are left out, no cache stands between keys and queries. */
  forward(): void {
    const cached = new Map<Value, Value>();
    for (const node of this.of.nodes) {
      if (node.when === 'stream') continue;
      const { inputs, attrs } = node;
      const op = overWhole(node.op);
      if (op.name === 'cacheAppend') {
        cached.set(inputs.kPages!, this.copy(inputs.k!)).set(inputs.vPages!, this.copy(inputs.v!));
        continue;
      }
      if (op.name === 'selectRows') {
        this.copies.set(inputs.y!, this.copy(inputs.x!));
        continue;
      }
      const copied = Object.fromEntries(
        Object.entries(inputs).flatMap(([name, v]) =>
          op.fields.some((f) => f.name === name) ? [[name, cached.get(v) ?? this.copy(v)]] : [],
        ),
      );
      const derived = { op, inputs: copied, attrs: { ...attrs, ...inChunks(op) } };
      this.nodes.push(derived);
      this.note(derived);
    }
    for (const weight of this.of.weights.keys()) this.copy(weight);
  }

  /** What an op reads is used, and what it writes varies with what it reads. */
  private note({ op, inputs }: DerivedNode): void {
    const depends = op.fields.some((f) => inputs[f.name] && !isWritten(f) && this.varies(inputs[f.name]!));
    for (const f of op.fields) {
      const v = inputs[f.name];
      if (!v) continue;
      if (!isWritten(f)) this.uses.set(this.spanOf(v).root, (this.uses.get(this.spanOf(v).root) ?? 0) + 1);
      else if (depends) this.varying.add(this.spanOf(v).root);
    }
  }

  private copy(v: Value): Value {
    const known = this.copies.get(v);
    if (known) return known;
    const spec = this.of.weights.get(v);
    let copied: Value;
    if (spec?.made) copied = this.made(spec.made);
    else if (spec) copied = this.weight(spec, v);
    else {
      const parent = v.parent && this.copy(v.parent);
      const dims = v.dims.map((d): Dim => (d === 'outputs' ? 'tokens' : d));
      copied = this.graph.add({ ...v, dims, parent });
    }
    this.copies.set(v, copied);
    return copied;
  }

  private weight(spec: WeightSpec, like: Pick<Value, 'dims' | 'dtype'>): Value {
    const value = this.graph.add({ kind: 'weight', dims: like.dims, dtype: like.dtype });
    this.graph.weights.set(value, spec);
    this.weights.push({ spec, value, gradients: [] });
    if (this.trains(spec)) this.varying.add(value);
    return value;
  }

  /** A weight that an op makes of others, once for all that read it. */
  private made({ op: name, attrs, output, outputs, inputs: of }: MadeBy): Value {
    const op = describe(name);
    const inputs: Record<string, Value> = {};
    for (const [field, { spec, shape }] of Object.entries(of))
      inputs[field] = this.weight(spec, { dims: shape, dtype: 'f32' });
    for (const [field, dims] of Object.entries(outputs))
      inputs[field] = this.graph.add({ kind: 'fixed', dims, dtype: 'f32' });
    const node = { op, inputs, attrs: readAttrs(op, attrs) };
    this.making.push(node);
    this.note(node);
    return inputs[output]!;
  }

  /** Where a value's gradient lies: one that is computed again has that of the first. */
  private spanOf(v: Value): Span {
    let [root, from] = [v, 0];
    for (; root.kind === 'view'; root = root.parent!) from += root.offset!;
    return { root: this.originals.get(root) ?? root, from, to: from + widthOf(v) };
  }

  private varies(v: Value): boolean {
    return this.varying.has(this.spanOf(v).root);
  }

  /** The loss of what the network gives: cross-entropy, which takes a last product in and never holds the logits whole. */
  loss(squared: boolean): Pick<TrainingGraph, 'loss' | 'divisor' | 'dloss'> {
    const output = this.copies.get(this.output)!;
    const loss = this.graph.add({ kind: 'fixed', dims: [1], dtype: 'f32' });
    const factor = this.graph.add({ kind: 'fixed', dims: [1], dtype: 'f32' });
    if (output.dims.length !== 2)
      throw new StatespaceError('ERR_UNSUPPORTED_MODEL', 'training: the network must give rows of one axis');
    if (squared) {
      const inputs = { y: output, divisor: factor, loss };
      this.nodes.push({ op: describe('squaredError'), inputs, attrs: {} });
      return { loss, divisor: factor };
    }
    const last = this.nodes.at(-1);
    const product =
      last?.op.name === 'linear' && last.inputs.y === output && !last.attrs.activation && !last.inputs.residual;
    if (!product || (this.uses.get(output) ?? 0) > 0) {
      const inputs = { logits: output, loss };
      this.nodes.push({ op: describe('crossEntropy'), inputs, attrs: defaults('crossEntropy') });
      return { loss, dloss: factor };
    }
    this.nodes.pop();
    const { x, weight, bias } = last.inputs;
    const inputs = given({ x, weight, bias, divisor: factor, loss });
    this.nodes.push({ op: describe('linearCrossEntropy'), inputs, attrs: defaults('linearCrossEntropy') });
    return { loss, divisor: factor };
  }

  /** Backwards through the ops, from the loss. */
  backward(dloss: Value | undefined, recompute: boolean): void {
    const forward = [...this.nodes];
    const last = forward.pop()!;
    if (last.op.name !== 'crossEntropy') this.wanted(last, last.op, last.inputs, last.attrs);
    else this.gradientNode(last, new Map([['loss', dloss!]]));
    const blocks = recompute ? blocksOf(forward) : [forward];
    if (!recompute) for (const node of cheapOf(forward)) this.cheap.set(node.inputs.y!, node);
    for (const block of blocks.reverse()) {
      const again = block === blocks[0] ? block : repeated(this.graph, block, this.originals);
      if (again !== block) this.nodes.push(...again.slice(0, -1));
      this.backwardThrough(again);
    }
    this.backwardThrough(this.making);
  }

  private backwardThrough(block: readonly DerivedNode[]): void {
    for (const node of [...block].reverse()) {
      const above = new Map<string, Value>();
      for (const f of node.op.fields) {
        const v = node.inputs[f.name];
        const dy = v && f.kind === 'out' ? this.above(v) : undefined;
        if (dy) above.set(f.name, dy);
      }
      if (above.size > 0) this.gradientNode(node, above);
    }
  }

  private gradientNode(node: DerivedNode, above: Map<string, Value>): void {
    const { op, inputs } = node;
    if (!op.fields.some((f) => isRead(f) && inputs[f.name] && this.varies(inputs[f.name]!))) return;
    const gradient = op.gradient ? describe(op.gradient) : undefined;
    if (!gradient) {
      throw new StatespaceError('ERR_UNSUPPORTED_MODEL', `training: the op ${op.name} has no gradient`);
    }
    for (const f of op.fields) {
      const given = isRead(f) && inputs[f.name] && this.varies(inputs[f.name]!);
      if (!given || f.name === gradient.passesOn || gradient.chosenBy?.includes(f.name)) continue;
      if (!gradient.fields.some((d) => d.name === `d${f.name}`))
        throw new StatespaceError('ERR_UNSUPPORTED_MODEL', `training: the op ${op.name} has no gradient of ${f.name}`);
    }
    const taken: Record<string, Value> = {};
    for (const f of gradient.fields) {
      const own = op.fields.find((o) => o.name === f.name);
      if (!isRead(f) || own?.kind === 'state') continue; // sequences begin without one
      if (own?.kind === 'wanted') inputs[f.name] ??= this.result(node, own);
      const value = own ? inputs[f.name] && this.atHand(inputs[f.name]!) : above.get(f.name.slice(1));
      if (value) taken[f.name] = value;
      else if (f.kind === 'in') {
        throw new StatespaceError('ERR_UNSUPPORTED_MODEL', `training: ${gradient.name} needs ${f.name}`);
      }
    }
    const attrs = Object.fromEntries(gradient.attrs.map((a) => [a.name, node.attrs[a.name] ?? a.default]));
    this.wanted(node, gradient, taken, attrs);
    if (gradient.passesOn) this.passOn(inputs[gradient.passesOn], inputs.y!, above.get('y'));
  }

  /** A value of the forward, or the same computed once more: it is not kept until the way back. */
  private atHand(v: Value): Value {
    const { root, from } = this.spanOf(v);
    const node = this.cheap.get(root);
    if (!node) return v;
    let once = this.again.get(root);
    if (!once) {
      once = this.graph.add({ ...root });
      this.again.set(root, once);
      const inputs: Record<string, Value> = { ...node.inputs, y: once };
      for (const f of node.op.fields) if (isRead(f) && inputs[f.name]) inputs[f.name] = this.atHand(inputs[f.name]!);
      this.nodes.push({ ...node, inputs });
    }
    return v === root ? once : this.columns(once, from, v.dims.slice(1) as number[]);
  }

  /** Asks an op for the gradients of what varies among the forward's inputs, and appends it unless it is there already. */
  private wanted(
    node: DerivedNode,
    op: OpDescription,
    inputs: Record<string, Value>,
    attrs: Record<string, number>,
  ): void {
    const after: (() => void)[] = [];
    const biased = node.inputs.bias !== undefined && this.varies(node.inputs.bias);
    let any = false;
    for (const f of op.fields) {
      const of = f.kind === 'wanted' && f.name.startsWith('d') ? node.inputs[f.name.slice(1)] : undefined;
      if (!of || !this.varies(of)) continue;
      any = true;
      if (of.kind === 'weight') {
        const { gradients } = this.weights.find((w) => w.value === of)!;
        // One switch for both: a bias that is not shared could not be added to.
        const adds = op.attrs.some((a) => a.name === 'accumulate') && f.name === 'dweight' && !biased;
        if (adds && gradients.length > 0) {
          inputs[f.name] = gradients[0]!;
          attrs.accumulate = 1;
          continue;
        }
        const value = this.graph.add({ kind: 'fixed', dims: of.dims, dtype: 'f32' });
        gradients.push(value);
        inputs[f.name] = value;
        continue;
      }
      const { into, finish } = this.target(of);
      inputs[f.name] = into;
      after.push(finish);
    }
    if (any && op !== node.op) this.nodes.push({ op, inputs, attrs });
    for (const finish of after) finish();
  }

  /** Where an op writes a contribution to the gradient of x, and what is to be done after it. */
  private target(x: Value): { into: Value; finish: () => void } {
    const { root, from, to } = this.spanOf(x);
    const gradient = this.gradientOf(root);
    const there = this.columns(gradient.value, from, x.dims.slice(1) as number[]);
    if (!gradient.written.some(([a, b]) => a < to && from < b)) {
      gradient.written.push([from, to]);
      return { into: there, finish: () => {} };
    }
    if (!covers(gradient.written, from, to)) gradient.value.cleared = true;
    gradient.written.push([from, to]);
    const into = this.room(x);
    const finish = () => {
      const [a, b] = [this.columns(there, 0, [to - from]), this.columns(into, 0, [to - from])];
      this.nodes.push({ op: describe('add'), inputs: { a, b, y: a }, attrs: defaults('add') });
    };
    return { into, finish };
  }

  /** dy is the gradient of x as it stands: the same memory where nothing else has been there. */
  private passOn(x: Value | undefined, y: Value, dy: Value | undefined): void {
    if (!x || !dy || !this.varies(x)) return;
    const [to, from] = [this.spanOf(x), this.spanOf(y)];
    const whole = (s: Span) => s.from === 0 && s.to === widthOf(s.root);
    if (whole(to) && whole(from) && !this.gradients.has(to.root)) {
      const { value } = this.gradients.get(from.root)!;
      this.gradients.set(to.root, { value, written: [[0, to.to]] });
      return;
    }
    const { into, finish } = this.target(x);
    const flat = (v: Value) => this.columns(v, 0, [widthOf(v)]);
    this.nodes.push({ op: describe('activate'), inputs: { x: flat(dy), y: flat(into) }, attrs: defaults('activate') });
    finish();
  }

  private gradientOf(root: Value): Gradient {
    let gradient = this.gradients.get(root);
    if (!gradient) {
      gradient = { value: this.room(root), written: [] };
      this.gradients.set(root, gradient);
    }
    return gradient;
  }

  /** For a gradient of x: of what weights are made into, beside those of weights. */
  private room({ kind, dims }: Value): Value {
    return this.graph.add({ kind: kind === 'fixed' ? kind : 'activation', dims, dtype: 'f32' });
  }

  /** The gradient that has reached a value; undefined where none has. */
  private above(y: Value): Value | undefined {
    const { root, from, to } = this.spanOf(y);
    const gradient = this.gradients.get(root);
    if (!gradient?.written.some(([a, b]) => a < to && from < b)) return undefined;
    if (!covers(gradient.written, from, to)) gradient.value.cleared = true;
    return this.columns(gradient.value, from, y.dims.slice(1) as number[]);
  }

  private columns(x: Value, from: number, dims: number[]): Value {
    return from === 0 && x.dims.slice(1).join() === dims.join() ? x : this.graph.view(x, from, ...dims);
  }

  /** A new value for an output that the forward could do without. Its axes are those of inputs, attributes or numbers. */
  private result({ op, inputs, attrs }: DerivedNode, field: OpField): Value {
    const sizes = new Map<string, Dim>();
    for (const f of op.fields) {
      const v = inputs[f.name];
      if (!v || v.kind === 'state') continue;
      const axes = f.shapes.find((s) => s.length === v.dims.length);
      axes?.forEach((axis, i) => {
        sizes.set(axis, v.dims[i]!);
      });
    }
    const size = (axis: string): Dim => sizes.get(axis) ?? attrs[axis] ?? Number(axis);
    const dims = field.shapes.map((axes) => axes.map(size)).find((all) => !all.some(Number.isNaN))!;
    return this.graph.add({ kind: 'activation', dims, dtype: 'f32' });
  }

  /** Appends what was derived to the graph. */
  finish(): void {
    for (const { op, inputs, attrs } of [...this.making, ...this.nodes]) {
      const node: Node = { op, inputs, attrs, when: 'always' };
      this.graph.nodes.push(node);
    }
  }
}

/** Whether intervals together hold all of [from, to). */
function covers(intervals: readonly [number, number][], from: number, to: number): boolean {
  let at = from;
  for (const [a, b] of [...intervals].sort((x, y) => x[0] - y[0])) if (a <= at && b > at) at = b;
  return at >= to;
}

const given = (values: Record<string, Value | undefined>): Record<string, Value> =>
  Object.fromEntries(Object.entries(values).filter(([, v]) => v)) as Record<string, Value>;

/**
 * The loss of a network as a graph of its own: over whole sequences, the mean cross-entropy of its logits, and with
 * `gradients` the backward program of every weight that `trains` names; with `recompute` blocks of the forward run again in it, and
 * only what stands between them is kept. Values of both forms have the same ids.
 *
 * @throws StatespaceError ERR_UNSUPPORTED_MODEL, naming the op that has no gradient.
 */
export function trainingGraph(
  of: Graph,
  output: Value,
  o: { gradients: boolean; recompute?: boolean; squared?: boolean; trains: (spec: WeightSpec) => boolean },
): TrainingGraph {
  const derivation = new Derivation(of, output, o.trains);
  derivation.forward();
  const ends = derivation.loss(o.squared ?? false);
  if (o.gradients) derivation.backward(ends.dloss, o.recompute ?? false);
  derivation.finish();
  return { graph: derivation.graph, weights: derivation.weights, ...ends };
}
