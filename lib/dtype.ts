/** A tensor's element type; q8_0 and q4_0 are ggml's blocks of 32 values. */
export type DType = 'f32' | 'f16' | 'bf16' | 'i32' | 'q8_0' | 'q4_0';

/** What a model's matrices can be held in: also the other types of ggml that products read as they lie. */
export type HeldType =
  | DType
  | 'q4_1'
  | 'q5_0'
  | 'q5_1'
  | 'q2_k'
  | 'q3_k'
  | 'q4_k'
  | 'q5_k'
  | 'q6_k'
  | 'iq4_nl'
  | 'iq4_xs'
  | 'mxfp4';

/** Every type that rows of weights can be read from. */
export type StoredType =
  | HeldType
  | 'q1_0'
  | 'q2_0'
  | 'tq1_0'
  | 'tq2_0'
  | 'iq1_s'
  | 'iq1_m'
  | 'iq2_xxs'
  | 'iq2_xs'
  | 'iq2_s'
  | 'iq3_xxs'
  | 'iq3_s'
  | 'nvfp4';

/** Values of the last axis in one block, and its bytes; in the order of the addon's numbers (describeTypes()). */
export const storedTypes: { readonly [T in StoredType]: { readonly block: number; readonly bytes: number } } = {
  f32: { block: 1, bytes: 4 },
  f16: { block: 1, bytes: 2 },
  bf16: { block: 1, bytes: 2 },
  i32: { block: 1, bytes: 4 },
  q8_0: { block: 32, bytes: 34 },
  q4_0: { block: 32, bytes: 18 },
  q4_1: { block: 32, bytes: 20 },
  q5_0: { block: 32, bytes: 22 },
  q5_1: { block: 32, bytes: 24 },
  q2_k: { block: 256, bytes: 84 },
  q3_k: { block: 256, bytes: 110 },
  q4_k: { block: 256, bytes: 144 },
  q5_k: { block: 256, bytes: 176 },
  q6_k: { block: 256, bytes: 210 },
  iq4_nl: { block: 32, bytes: 18 },
  iq4_xs: { block: 256, bytes: 136 },
  mxfp4: { block: 32, bytes: 17 },
  q1_0: { block: 128, bytes: 18 },
  q2_0: { block: 64, bytes: 18 },
  tq1_0: { block: 256, bytes: 54 },
  tq2_0: { block: 256, bytes: 66 },
  iq1_s: { block: 256, bytes: 50 },
  iq1_m: { block: 256, bytes: 56 },
  iq2_xxs: { block: 256, bytes: 66 },
  iq2_xs: { block: 256, bytes: 74 },
  iq2_s: { block: 256, bytes: 82 },
  iq3_xxs: { block: 256, bytes: 98 },
  iq3_s: { block: 256, bytes: 110 },
  nvfp4: { block: 64, bytes: 36 },
};

/** The types that matrices can be held in. */
export const heldTypes: readonly HeldType[] = [
  'f32',
  'f16',
  'bf16',
  'q8_0',
  'q4_0',
  'q4_1',
  'q5_0',
  'q5_1',
  'q2_k',
  'q3_k',
  'q4_k',
  'q5_k',
  'q6_k',
  'iq4_nl',
  'iq4_xs',
  'mxfp4',
];

/** What takes the place of a type in rows that are no whole blocks of 256, as llama.cpp's quantize has it. */
export const NARROW = {
  q2_k: 'q4_0',
  q3_k: 'q4_0',
  q4_k: 'q5_0',
  q5_k: 'q5_1',
  q6_k: 'q8_0',
  iq4_xs: 'iq4_nl',
} as const satisfies Partial<Record<HeldType, HeldType>>;

/** The type that rows of this many values are held in where a model's is `dtype`. */
export function fittingType(dtype: HeldType, columns: number): HeldType {
  if (columns % storedTypes[dtype].block === 0) return dtype;
  const narrow = dtype in NARROW ? NARROW[dtype as keyof typeof NARROW] : 'f32';
  return columns % storedTypes[narrow].block === 0 ? narrow : 'f32';
}

/** Values in one block of q8_0 and q4_0. */
export const blockSize = 32;

export function isQuantized<T extends StoredType>(dtype: T): dtype is Exclude<T, 'f32' | 'f16' | 'bf16' | 'i32'> {
  return storedTypes[dtype].block > 1;
}

export function byteLength(dtype: StoredType, count: number): number {
  const { block, bytes } = storedTypes[dtype];
  return Math.ceil(count / block) * bytes;
}
