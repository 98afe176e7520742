// Where a graph's weights come from.

/** A tensor of a checkpoint, by its name there. */
export interface WeightSource {
  readonly name: string;
  readonly shape: readonly number[];
  /** Stored with the parameters, but not trained: it does not count as one. */
  readonly buffer?: boolean | undefined;
  /** A part of it: its first value and how many. Default: all. */
  readonly span?: readonly [number, number] | undefined;
}

/** How a new model's values are drawn. uniform: in [-bound, bound); values: computed in f32. */
export type Init =
  | { readonly uniform: number }
  | {
      /** All values of the weight, drawn by `random`, which gives numbers in [0, 1). */
      readonly values: (random: () => number) => Float32Array;
    };

/** Load-time arithmetic in f32, over the values of the sources in their order. */
export type Transform = (sources: Float32Array[]) => Float32Array | Promise<Float32Array>;

/** One of the products that a value is the sum of: `factor`, e to the power of one of the sources' values, others of them. */
export interface Term {
  /** Default: 1. */
  readonly factor?: number | undefined;
  /** Numbers of values, of all sources laid end to end. At most two in `values`. */
  readonly exp?: number | undefined;
  readonly values?: readonly number[] | undefined;
}

/** The sum that value `i` of a weight is. */
export type Terms = (i: number) => readonly Term[];

/** Where a weight comes from: its sources laid end to end along axis 0, or what `transform` makes of them. */
export interface WeightSpec {
  readonly sources: readonly WeightSource[];
  /** Held in the model's dtype; everything else stays f32. */
  readonly matrix: boolean;
  readonly transform?: Transform | undefined;
  /** What `transform` sums up, where it is made of that. */
  readonly terms?: Terms | undefined;
  /** The op that `transform` runs, where it does nothing else. */
  readonly made?: MadeBy | undefined;
  /** Of 64-bit integers, each as four words of 16 bits, lowest first: f32 holds no larger ones exactly. */
  readonly words?: boolean | undefined;
  readonly init: readonly Init[];
  /** Share of it that one token uses (experts). */
  activeShare: number;
}

/** An op whose result is a weight, and what it is made of: training runs it in each step, and its gradient. */
export interface MadeBy {
  readonly op: string;
  readonly attrs: Readonly<Record<string, number | string>>;
  /** Which of its outputs the weight is, and the shapes of all. */
  readonly output: string;
  readonly outputs: Readonly<Record<string, readonly number[]>>;
  /** f32, by the names of the op's fields. */
  readonly inputs: Readonly<Record<string, { readonly spec: WeightSpec; readonly shape: readonly number[] }>>;
}
