import type { HeldType } from '../dtype.js';
import { mismatch, StatespaceError, show } from '../errors.js';
import { Turns } from '../turns.js';
import { compute } from './compute.js';
import type { Graph, Value } from './graph.js';
import type { Init, MadeBy, Term, Terms, Transform, WeightSource, WeightSpec } from './weight-spec.js';

/** Values of a sum between looks at the clock. */
const SUMMED = 1 << 12;

/** Load-time arithmetic that says what it is, so that its gradient is known. */
function sumOf(terms: Terms, size: number): Transform {
  return async (sources) => {
    const all = joined(sources);
    const product = ({ factor = 1, exp, values = [] }: Term) =>
      values.reduce((p, v) => p * all[v]!, exp === undefined ? factor : factor * Math.exp(all[exp]!));
    const out = new Float32Array(size);
    const turns = new Turns();
    for (let i = 0; i < size; i++) {
      let sum = 0;
      for (const term of terms(i)) sum += product(term);
      out[i] = sum;
      const pause = (i + 1) % SUMMED === 0 ? turns.due() : undefined;
      if (pause) await pause;
    }
    return out;
  };
}

/** A tensor of the checkpoint that a weight is made of, and how a new one is drawn. */
export type Part = WeightSource & { readonly init?: WeightOptions['init'] };

/** An input of an op that makes a weight: sources laid end to end, or what becomes of them. */
export interface MadeInput {
  readonly parts: readonly Part[];
  readonly shape: readonly number[];
  readonly transform?: Transform | undefined;
  readonly terms?: Terms | undefined;
}

/** How a weight is held and drawn. */
export interface WeightOptions {
  /** Held in the model's dtype (large, read by products). Default: rank 2 and more. */
  matrix?: boolean | undefined;
  /** Load-time arithmetic, in f32, over the values of the sources. */
  transform?: Transform | undefined;
  /** Load-time arithmetic as sums of products, in place of `transform`. */
  terms?: Terms | undefined;
  /** Distinguishes weights that different transforms make of the same sources. */
  part?: string | number | undefined;
  /** The source's 64-bit integers as four words of 16 bits each, lowest first: (…, 4). */
  words?: boolean | undefined;
  /** Shape in the checkpoint where it is not the weight's own. */
  stored?: readonly number[] | undefined;
  init?: Init | 'ones' | 'zeros' | undefined;
  activeShare?: number | undefined;
}

const count = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** Sources end to end. */
function joined(sources: readonly Float32Array[]): Float32Array {
  if (sources.length === 1) return sources[0]!;
  const all = new Float32Array(sources.reduce((n, s) => n + s.length, 0));
  let at = 0;
  for (const s of sources) {
    all.set(s, at);
    at += s.length;
  }
  return all;
}

/** Runs the op at load; `sources` are those of all inputs, in their order. */
async function madeOf(by: MadeBy, sources: readonly Float32Array[]): Promise<Float32Array> {
  const given: Record<string, { data: Float32Array; shape: readonly number[] }> = {};
  let at = 0;
  for (const [name, { spec, shape }] of Object.entries(by.inputs)) {
    const own = sources.slice(at, at + spec.sources.length);
    at += own.length;
    given[name] = { data: spec.transform ? await spec.transform(own) : joined(own), shape };
  }
  return (await compute(by.op, given, by.attrs, by.outputs))[by.output]!;
}

function readInit(init: WeightOptions['init'], shape: readonly number[]): Init {
  if (init === 'ones') return { values: () => new Float32Array(count(shape)).fill(1) };
  if (init === 'zeros') return { values: () => new Float32Array(count(shape)) };
  // Keeps the variance of what passes through a product, as Linear layers are initialised in the references.
  return init ?? { uniform: 1 / Math.sqrt(shape[shape.length - 1] ?? 1) };
}

/** What a checkpoint calls the weights, and the shapes that it holds of them. */
export interface CheckpointNames {
  readonly rename?: ((name: string) => string) | undefined;
  readonly shape?: (name: string) => readonly number[] | undefined;
  /** What is the same object for names of one tensor; undefined where it lacks the name. */
  readonly identity?: ((name: string) => unknown) | undefined;
  /** Tensors that it holds: a network that asks for many more is not the one that was saved. */
  readonly tensors?: number | undefined;
  /** What errors about the network as a whole call its config. Default: config. */
  readonly config?: string | undefined;
}

/** What a safetensors file calls its own text. */
const RESERVED = '__metadata__';
/** Of a network: the largest published ones have some 200,000. */
const MOST_SOURCES = 300_000;
/** Parts that weights are laid together of, rows of heads for instance, over all weights: memory before any is read. */
const MOST_PARTS = 300_000;
/** What a network may lack of a checkpoint before it is given up: names are sorted out after it is built. */
const SLACK = 1000;

/**
 * Names weights under a prefix, as checkpoints do: `w.scope('layers', 0).matrix('in_proj.weight', [2 * E, d])`. Asking
 * for a weight declares it: that list serves loading, checks, random values and parameter counts alike.
 */
export class Weights {
  constructor(
    readonly graph: Graph,
    private readonly prefix = '',
    private readonly checkpoint: CheckpointNames = {},
    private readonly taken: Map<string, Value> = new Map(),
    private readonly asked: Map<string, string> = new Map(),
    private readonly tally = { parts: 0 },
    private readonly own?: string,
  ) {}

  /** The same declarations under a longer prefix. */
  scope(...path: (string | number)[]): Weights {
    const longer = `${path.join('.')}.`;
    return this.under(this.prefix + longer, this.own === undefined ? undefined : this.own + longer);
  }

  /** These weights as a layer reads them that shares them: `own` is where they would be its own. */
  sharedWith(own: Weights): Weights {
    return own.prefix === this.prefix ? this : this.under(this.prefix, own.prefix);
  }

  private under(prefix: string, own: string | undefined): Weights {
    return new Weights(this.graph, prefix, this.checkpoint, this.taken, this.asked, this.tally, own);
  }

  /** The shape that the checkpoint being loaded holds under a name; undefined where it lacks it, or there is none. */
  stored(name: string): readonly number[] | undefined {
    return this.checkpoint.shape?.(this.rename(name));
  }

  /** Whether the checkpoint holds a tensor under this name beside the one that `other` is read from. */
  storedApart(name: string, other: Value): boolean {
    const identity = (full: string) => this.checkpoint.identity?.(full);
    const [own, source] = [identity(this.rename(name)), this.graph.weights.get(other)?.sources[0]];
    const read = source && identity(source.name);
    return own !== undefined && read !== undefined && own !== read;
  }

  private ask({ name, shape }: WeightSource): void {
    if (name === RESERVED) throw mismatch('ERR_ARGUMENT', 'weight', 'a name of its own', `${name}, safetensors'`);
    const [wanted, before] = [shape.join(', '), this.asked.get(name)];
    if (before !== undefined && before !== wanted)
      throw mismatch('ERR_SHAPE', `weight ${name}`, `shape (${before}), as it was asked for before`, `(${wanted})`);
    this.asked.set(name, wanted);
    const { tensors } = this.checkpoint;
    const most = tensors === undefined ? MOST_SOURCES : Math.min(MOST_SOURCES, tensors + SLACK);
    if (this.asked.size <= most) return;
    const held = tensors === undefined ? '' : `, the checkpoint holds ${tensors}`;
    throw new StatespaceError(
      tensors === undefined ? 'ERR_UNSUPPORTED_MODEL' : 'ERR_CHECKPOINT',
      `${this.asker}: asks for more than ${most} tensors (the last: ${name})${held}`,
    );
  }

  private get asker(): string {
    return this.checkpoint.config ?? 'config';
  }

  private rename(name: string, prefix = this.prefix): string {
    const full = prefix + name;
    return this.checkpoint.rename?.(full) ?? full;
  }

  private noteShared(name: string): void {
    if (this.own === undefined) return;
    const { shared } = this.graph;
    const first = this.rename(name);
    shared.set(first, (shared.get(first) ?? new Set()).add(this.rename(name, this.own)));
  }

  /** A weight of this shape; asked for twice, the same one (tied embeddings). */
  tensor(name: string, shape: readonly number[], options: WeightOptions = {}): Value {
    return this.combined([{ name, shape: options.stored ?? shape }], shape, options);
  }

  /** Several tensors of the checkpoint as one weight, laid end to end along axis 0. */
  stacked(names: readonly string[], part: readonly number[], options: WeightOptions = {}): Value {
    const shape = [names.length * part[0]!, ...part.slice(1)];
    return this.combined(
      names.map((name) => ({ name, shape: part })),
      shape,
      options,
    );
  }

  /**
   * Rows of a matrix (or values of a vector) of the checkpoint in another order: `ranges` are first rows and numbers of
   * them, laid end to end. Nothing is computed: a checkpoint's rows are read where they lie.
   */
  rows(
    name: string,
    stored: readonly number[],
    ranges: readonly (readonly [number, number])[],
    options: WeightOptions = {},
  ): Value {
    const width = stored.length > 1 ? stored[stored.length - 1]! : 1;
    const total = ranges.reduce((n, [, rows]) => n + rows, 0);
    return this.combined(
      ranges.map(([first, rows]) => ({ name, shape: stored, span: [first * width, rows * width] as const })),
      stored.length > 1 ? [total, width] : [total],
      options,
    );
  }

  /** The same list, cut where a checkpoint's types change: what can be held as one matrix as it lies. */
  byTypes<P extends WeightSource>(parts: readonly P[]): P[][] {
    const typeOf = (part: P) => this.graph.ownType([{ ...part, name: this.rename(part.name) }]);
    const groups: { type: HeldType | undefined; parts: P[] }[] = [];
    for (const part of parts) {
      const type = typeOf(part);
      if (groups.length > 0 && groups.at(-1)!.type === type) groups.at(-1)!.parts.push(part);
      else groups.push({ type, parts: [part] });
    }
    return groups.map((group) => group.parts);
  }

  /** Values that no checkpoint holds: the same in every model of this graph. */
  constant(values: () => Float32Array, shape: readonly number[]): Value {
    return this.graph.weight({ sources: [], matrix: false, transform: values, init: [], activeShare: 1 }, shape);
  }

  /**
   * A matrix that a native op makes of the checkpoint's tensors when they are loaded: its output `output` of those in
   * `outputs`, which have these shapes. `part` tells it from others of the same tensors. It is trained through the op's gradient.
   */
  made(
    op: string,
    inputs: Readonly<Record<string, MadeInput | undefined>>,
    {
      output,
      outputs,
      attrs = {},
      part,
    }: Pick<MadeBy, 'output' | 'outputs'> & {
      attrs?: MadeBy['attrs'];
      part?: string | number;
    },
  ): Value {
    const given = Object.entries(inputs).flatMap(([name, input]) => (input ? [{ name, input }] : []));
    const specOf = ({ parts, shape, terms, ...input }: MadeInput): WeightSpec => ({
      sources: parts.map((p) => this.source(p)),
      matrix: false,
      transform: input.transform ?? (terms && sumOf(terms, count(shape))),
      terms,
      init: [],
      activeShare: 1,
    });
    const by: MadeBy = {
      ...{ op, attrs, output, outputs },
      inputs: Object.fromEntries(given.map(({ name, input }) => [name, { spec: specOf(input), shape: input.shape }])),
    };
    const parts = given.flatMap(({ input }) => input.parts);
    const transform = (sources: Float32Array[]) => madeOf(by, sources);
    return this.weightOf(parts, outputs[output]!, { part: part ?? output, transform }, by);
  }

  /** A weight of `shape` from sources of any shape: laid end to end, or through options.transform or terms. */
  combined(parts: readonly Part[], shape: readonly number[], options: WeightOptions = {}): Value {
    return this.weightOf(parts, shape, options);
  }

  private source(p: Part): WeightSource {
    return { name: this.rename(p.name), shape: p.shape, buffer: p.buffer, span: p.span };
  }

  private weightOf(parts: readonly Part[], shape: readonly number[], options: WeightOptions, made?: MadeBy): Value {
    const { terms } = options;
    const transform = options.transform ?? (terms && sumOf(terms, count(shape)));
    const sources = parts.map((p) => this.source(p));
    for (const { name } of parts) this.noteShared(name);
    const key = `${sources.map((s) => s.name + (s.span ? `[${s.span}]` : '')).join('+')}:${shape.join(',')}:${transform ? `derived ${options.part ?? ''}` : ''}`;
    const known = this.taken.get(key);
    if (known) return known;
    for (const source of sources) this.ask(source);
    this.tally.parts += sources.length;
    if (this.tally.parts > MOST_PARTS)
      throw new StatespaceError(
        'ERR_UNSUPPORTED_MODEL',
        `${this.asker}: asks for weights of more than ${MOST_PARTS} parts`,
      );
    const shapes = [shape, ...sources.map((source) => source.shape)];
    const wrong = shapes.find((sizes) => !sizes.every((n) => Number.isInteger(n) && n >= 1 && n < 2 ** 31));
    if (wrong !== undefined)
      throw mismatch('ERR_SHAPE', `weight ${sources[0]?.name}`, 'sizes from 1 to 2^31 - 1', show(wrong));
    if (
      !transform &&
      !options.words &&
      sources.reduce((n, s) => n + (s.span?.[1] ?? count(s.shape)), 0) !== count(shape)
    ) {
      throw new StatespaceError('ERR_SHAPE', `weight ${sources[0]!.name}: (${shape.join(', ')}) from other sizes`);
    }
    const value = this.graph.weight(
      {
        sources,
        matrix: options.matrix ?? (shape.length >= 2 && !transform),
        transform,
        terms,
        made,
        words: options.words,
        init: parts.map((p) => readInit(p.init ?? options.init, p.shape)),
        activeShare: options.activeShare ?? 1,
      },
      shape,
    );
    this.taken.set(key, value);
    return value;
  }
}
