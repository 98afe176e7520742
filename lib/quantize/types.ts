// Which type each tensor of a file gets: that of its name, more bits where llama.cpp's mixes give more, floats where a
// block would cost more than it saves.
import { NARROW, type StoredType, storedTypes } from '../dtype.js';
import { mismatch, show } from '../errors.js';
import { misspelt } from '../options.js';

interface Mix {
  readonly type: StoredType;
  /** general.file_type. */
  readonly id: number;
}

const mixes = {
  f32: { type: 'f32', id: 0 },
  f16: { type: 'f16', id: 1 },
  bf16: { type: 'bf16', id: 32 },
  q8_0: { type: 'q8_0', id: 7 },
  q4_0: { type: 'q4_0', id: 2 },
  q4_1: { type: 'q4_1', id: 3 },
  q5_0: { type: 'q5_0', id: 8 },
  q5_1: { type: 'q5_1', id: 9 },
  q2_K: { type: 'q2_k', id: 10 },
  q2_K_S: { type: 'q2_k', id: 21 },
  q3_K_S: { type: 'q3_k', id: 11 },
  q3_K_M: { type: 'q3_k', id: 12 },
  q3_K_L: { type: 'q3_k', id: 13 },
  q4_K_S: { type: 'q4_k', id: 14 },
  q4_K_M: { type: 'q4_k', id: 15 },
  q5_K_S: { type: 'q5_k', id: 16 },
  q5_K_M: { type: 'q5_k', id: 17 },
  q6_K: { type: 'q6_k', id: 18 },
  iq4_nl: { type: 'iq4_nl', id: 25 },
  iq4_xs: { type: 'iq4_xs', id: 30 },
  tq1_0: { type: 'tq1_0', id: 36 },
  tq2_0: { type: 'tq2_0', id: 37 },
  mxfp4_moe: { type: 'mxfp4', id: 38 },
} as const satisfies Record<string, Mix>;

export type MixName = keyof typeof mixes;
export const mixNames = Object.keys(mixes) as MixName[];

/** In any case; q3_K, q4_K and q5_K are the mixes with an M. */
export function mixNamed(name: unknown): MixName {
  const wanted = String(name).toLowerCase();
  const found = mixNames.find((mix) => mix.toLowerCase() === wanted || mix.toLowerCase() === `${wanted}_m`);
  if (typeof name !== 'string' || !found) {
    const meant = typeof name === 'string' ? misspelt(name, mixNames) : undefined;
    const guess = meant === undefined ? '' : `; did you mean '${meant}'?`;
    throw mismatch('ERR_ARGUMENT', 'quantize: type', `one of ${mixNames.join(', ')}`, `${show(name)}${guess}`);
  }
  return found;
}

export const fileTypeOf = (mix: MixName): number => mixes[mix].id;
export const mainTypeOf = (mix: MixName): StoredType => mixes[mix].type;

/** What llama.cpp chooses by. */
export interface Sizes {
  readonly architecture: string;
  readonly layers: number;
  readonly experts: number;
  readonly heads: number;
  /** Of the first layer; 0 where that does not attend. */
  readonly headsKv: number;
  /** Whether columns are weighted by what a text feeds them. */
  readonly weighted: boolean;
}

interface Named {
  readonly name: string;
  readonly shape: readonly number[];
}

/** Matrices that llama.cpp leaves as they are, by their names. */
const FLOATS = new RegExp(
  [
    '_norm\\.weight$',
    'ffn_gate_inp(_shexp)?\\.weight$',
    'ssm_conv1d|shortconv\\.conv\\.weight',
    'time_mix_(first|w[012]|v[012]|a[012]|g[12]|decay_w[12]|lerp_fused)\\.weight$',
  ].join('|'),
);
/** What dt is made of: a step that is off a little is off in every state, and the matrices are small. */
const STEPS = /ssm_dt\.weight$|ssm_ba\.weight$/;

type Part = 'output' | 'embedding' | 'v' | 'k' | 'qkv' | 'out' | 'down' | 'other';
const parts: readonly [RegExp, Part][] = [
  [/^output\.weight$/, 'output'],
  [/^token_embd\.weight$/, 'embedding'],
  [/attn_qkv\.weight/, 'qkv'],
  [/attn_v\.weight/, 'v'],
  [/attn_k\.weight/, 'k'],
  [/attn_output\.weight/, 'out'],
  [/ffn_down/, 'down'],
];
const partOf = (name: string): Part => parts.find(([pattern]) => pattern.test(name))?.[1] ?? 'other';
const layerOf = (name: string): number => Number(/^blk\.(\d+)\./.exec(name)?.[1] ?? -1);

/** The type of every tensor, by its name. */
export function chooseTypes(mix: MixName, tensors: readonly Named[], sizes: Sizes): Map<string, StoredType> {
  const isValue = (name: string) => partOf(name) === 'v' || partOf(name) === 'qkv';
  const chooser = new Chooser(mix, sizes, {
    values: tensors.filter((t) => isValue(t.name)).length,
    tied: !tensors.some((t) => t.name === 'output.weight'),
  });
  // Mixes count layers as they pass.
  const inOrder = [...tensors].sort((a, b) => layerOf(a.name) - layerOf(b.name) || (a.name < b.name ? -1 : 1));
  return new Map(inOrder.map((t) => [t.name, chooser.of(t)]));
}

/** The first and the last eighth of the layers, and every third between. */
const isFavoured = (i: number, n: number): boolean => {
  const eighth = Math.floor(n / 8);
  return i < eighth || i >= Math.floor((7 * n) / 8) || (i - eighth) % 3 === 2;
};

class Chooser {
  private passedValues = 0;
  private passedDowns = 0;
  private readonly main: StoredType;

  constructor(
    private readonly mix: MixName,
    private readonly sizes: Sizes,
    private readonly all: { values: number; tied: boolean },
  ) {
    this.main = mixes[mix].type;
  }

  of({ name, shape }: Named): StoredType {
    if (shape.length < 2 || !name.endsWith('weight') || FLOATS.test(name)) return 'f32';
    if (storedTypes[this.main].block === 1) return this.main;
    if (STEPS.test(name)) return 'f16';
    return fitting(this.wanted(partOf(name), name, shape), shape[shape.length - 1]!);
  }

  private wanted(part: Part, name: string, shape: readonly number[]): StoredType {
    const { mix, main, sizes } = this;
    if (part === 'output' || (part === 'embedding' && this.all.tied)) {
      if (mix === 'mxfp4_moe' || shape[shape.length - 1]! % storedTypes[main].block !== 0) return 'q8_0';
      return main === 'q8_0' ? main : 'q6_k';
    }
    if (mix === 'mxfp4_moe') return shape.length > 2 ? 'mxfp4' : 'q8_0';
    if (part === 'embedding') return main === 'tq1_0' || main === 'tq2_0' ? 'q4_k' : main;
    if (part === 'v' || part === 'qkv') return this.ofValues(this.passedValues++);
    if (part === 'k') return sizes.experts === 8 ? 'q8_0' : main;
    if (part === 'down') {
      const i = this.passedDowns++;
      return this.ofDown(sizes.experts > 1 ? layerOf(name) : i);
    }
    if (part === 'out') return this.ofOutput();
    return main;
  }

  private ofValues(i: number): StoredType {
    const { mix, main, sizes } = this;
    const shared = sizes.headsKv > 0 ? sizes.heads / sizes.headsKv : 0;
    const chosen = ((): StoredType => {
      switch (mix) {
        case 'q2_K':
          return shared >= 4 ? 'q4_k' : 'q3_k';
        case 'q2_K_S':
          return shared >= 4 ? 'q4_k' : main;
        case 'q3_K_M':
          return i < 2 ? 'q5_k' : 'q4_k';
        case 'q3_K_L':
          return 'q5_k';
        case 'iq4_nl':
        case 'iq4_xs':
          return shared >= 4 ? 'q5_k' : main;
        case 'q4_K_M':
        case 'q5_K_M':
          return isFavoured(i, this.all.values) ? 'q6_k' : main;
        case 'q4_K_S':
          return i < 4 ? 'q5_k' : main;
        default:
          return main;
      }
    })();
    if (sizes.experts === 8) return 'q8_0';
    const is70B = sizes.architecture === 'llama' && sizes.layers === 80 && shared > 1;
    return is70B && (chosen === 'q3_k' || chosen === 'q4_k') ? 'q5_k' : chosen;
  }

  private ofDown(i: number): StoredType {
    const { mix, main } = this;
    const { layers, weighted } = this.sizes;
    const early = i < Math.floor(layers / 8);
    switch (mix) {
      case 'q2_K':
        return 'q3_k';
      case 'q2_K_S':
        return early ? 'q4_k' : main;
      case 'q3_K_M':
        return i < Math.floor(layers / 16) ? 'q5_k' : 'q4_k';
      case 'q3_K_L':
        return 'q5_k';
      case 'q4_K_M':
      case 'q5_K_M':
        return isFavoured(i, layers) ? 'q6_k' : main;
      case 'q4_K_S':
        return early ? 'q5_k' : main;
      case 'iq4_nl':
      case 'iq4_xs':
        return early && !weighted ? 'q5_k' : main;
      case 'q4_0':
        return early && weighted ? 'q4_1' : main;
      case 'q5_0':
        return early && weighted ? 'q5_1' : main;
      default:
        return main;
    }
  }

  private ofOutput(): StoredType {
    const { mix, main, sizes } = this;
    if (sizes.experts === 8) {
      const few: readonly MixName[] = ['q2_K', 'q3_K_S', 'q3_K_M', 'iq4_nl', 'iq4_xs', 'q4_K_S', 'q4_K_M'];
      return few.includes(mix) ? 'q5_k' : main;
    }
    if (mix === 'q2_K') return 'q3_k';
    if (mix === 'q3_K_M') return 'q4_k';
    return mix === 'q3_K_L' ? 'q5_k' : main;
  }
}

/** For rows that are no whole blocks of a type: one of smaller blocks, then halves. */
const smaller: Partial<Record<StoredType, StoredType>> = {
  ...NARROW,
  tq1_0: 'q4_0',
  tq2_0: 'q4_0',
};
function fitting(type: StoredType, columns: number): StoredType {
  if (columns % storedTypes[type].block === 0) return type;
  const next = smaller[type] ?? type;
  return columns % storedTypes[next].block === 0 ? next : 'f16';
}
