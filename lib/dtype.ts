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

const scratch = new DataView(new ArrayBuffer(4));

function bitsOf(value: number): number {
  scratch.setFloat32(0, value);
  return scratch.getUint32(0);
}

/** Round to nearest even; a NaN stays a NaN with its sign. */
function bf16FromBits(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** Round to nearest even, denormals included; overflow is infinity; a NaN stays a NaN with its sign. */
function f16FromBits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00 | ((magnitude >>> 13) & 0x3ff);
  if (magnitude >= 0x477ff000) return sign | 0x7c00; // 65520 and above round to infinity
  if (magnitude >= 0x38800000) {
    const rebased = magnitude - 0x38000000; // exponent bias 127 to 15
    return sign | ((rebased + 0xfff + ((rebased >>> 13) & 1)) >>> 13);
  }
  if (magnitude <= 0x33000000) return sign; // up to 2^-25: a tie with zero at most
  const shift = 126 - (magnitude >>> 23); // 14 … 24
  const mantissa = (magnitude & 0x7fffff) | 0x800000;
  const half = 1 << (shift - 1);
  return sign | ((mantissa + half - 1 + ((mantissa >>> shift) & 1)) >>> shift);
}

export function f32ToF16(value: number): number {
  return f16FromBits(bitsOf(value));
}

export function bf16ToF32(half: number): number {
  scratch.setUint32(0, half << 16);
  return scratch.getFloat32(0);
}

export function f16ToF32(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 0x1f;
  const mantissa = half & 0x3ff;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  if (exponent === 31) return mantissa === 0 ? sign * Infinity : NaN;
  return sign * (mantissa + 1024) * 2 ** (exponent - 25);
}

function encodeHalves(values: Float32Array, encode: (bits: number) => number): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(values.length);
  for (let i = 0; i < out.length; i++) out[i] = encode(bits[i]!);
  return out;
}

/** d = max|x| / 127, then 32 × round(x / d), rounding halves away from zero, in f32 as ggml computes it. */
function encodeQ8(values: Float32Array): Uint8Array {
  const out = new Uint8Array(byteLength('q8_0', values.length));
  const view = new DataView(out.buffer);
  for (let start = 0, at = 0; start < values.length; start += blockSize, at += storedTypes.q8_0.bytes) {
    let amax = 0;
    for (let j = 0; j < blockSize; j++) amax = Math.max(amax, Math.abs(values[start + j]!));
    const d = Math.fround(amax / 127);
    const inverse = d === 0 ? 0 : Math.fround(1 / d);
    view.setUint16(at, f32ToF16(d), true);
    for (let j = 0; j < blockSize; j++) {
      const scaled = Math.fround(values[start + j]! * inverse);
      view.setInt8(at + 2 + j, Math.sign(scaled) * Math.floor(Math.abs(scaled) + 0.5));
    }
  }
  return out;
}

/** d = (the value of largest magnitude) / -8, then nibbles x / d + 8: value j low, value j + 16 high. */
function encodeQ4(values: Float32Array): Uint8Array {
  const out = new Uint8Array(byteLength('q4_0', values.length));
  const view = new DataView(out.buffer);
  const half = blockSize / 2;
  for (let start = 0, at = 0; start < values.length; start += blockSize, at += storedTypes.q4_0.bytes) {
    let extreme = 0;
    for (let j = 0; j < blockSize; j++) {
      if (Math.abs(values[start + j]!) > Math.abs(extreme)) extreme = values[start + j]!;
    }
    const d = Math.fround(extreme / -8);
    const inverse = d === 0 ? 0 : Math.fround(1 / d);
    const nibble = (i: number) => Math.min(15, Math.trunc(Math.fround(Math.fround(values[i]! * inverse) + 8.5)));
    view.setUint16(at, f32ToF16(d), true);
    for (let j = 0; j < half; j++) out[at + 2 + j] = nibble(start + j) | (nibble(start + j + half) << 4);
  }
  return out;
}

function decodeQ8(blocks: Uint8Array, count: number): Float32Array {
  const out = new Float32Array(count);
  const view = new DataView(blocks.buffer, blocks.byteOffset, blocks.byteLength);
  for (let i = 0; i < count; i++) {
    const at = Math.floor(i / blockSize) * storedTypes.q8_0.bytes;
    out[i] = f16ToF32(view.getUint16(at, true)) * view.getInt8(at + 2 + (i % blockSize));
  }
  return out;
}

function decodeQ4(blocks: Uint8Array, count: number): Float32Array {
  const out = new Float32Array(count);
  const half = blockSize / 2;
  for (let i = 0; i < count; i++) {
    const at = Math.floor(i / blockSize) * storedTypes.q4_0.bytes;
    const j = i % blockSize;
    const pair = blocks[at + 2 + (j % half)]!;
    const scale = f16ToF32(blocks[at]! | (blocks[at + 1]! << 8));
    out[i] = scale * ((j < half ? pair & 15 : pair >>> 4) - 8);
  }
  return out;
}

/** f32 values in another type's storage. */
export function encode(values: Float32Array, dtype: Exclude<DType, 'i32'>): Float32Array | Uint16Array | Uint8Array {
  switch (dtype) {
    case 'f32':
      return values.slice();
    case 'f16':
      return encodeHalves(values, f16FromBits);
    case 'bf16':
      return encodeHalves(values, bf16FromBits);
    case 'q8_0':
      return encodeQ8(values);
    case 'q4_0':
      return encodeQ4(values);
  }
}

/** A copy of `count` stored values as f32. */
export function decode(
  data: Float32Array | Int32Array | Uint16Array | Uint8Array,
  dtype: DType,
  count: number,
): Float32Array {
  switch (dtype) {
    case 'f32':
    case 'i32':
      return Float32Array.from(data);
    case 'f16':
      return Float32Array.from(data, f16ToF32);
    case 'bf16':
      return Float32Array.from(data, bf16ToF32);
    case 'q8_0':
      return decodeQ8(data as Uint8Array, count);
    case 'q4_0':
      return decodeQ4(data as Uint8Array, count);
  }
}
