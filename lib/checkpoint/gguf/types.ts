// The numbers that GGUF files give element types and metadata types.
import type { StoredDType } from '../stored.js';

/** ggml's ids of element types; 4, 5, 31 to 33 and 36 to 38 were types once. */
const ids: Readonly<Record<number, StoredDType>> = {
  0: 'f32',
  1: 'f16',
  2: 'q4_0',
  3: 'q4_1',
  6: 'q5_0',
  7: 'q5_1',
  8: 'q8_0',
  10: 'q2_k',
  11: 'q3_k',
  12: 'q4_k',
  13: 'q5_k',
  14: 'q6_k',
  16: 'iq2_xxs',
  17: 'iq2_xs',
  18: 'iq3_xxs',
  19: 'iq1_s',
  20: 'iq4_nl',
  21: 'iq3_s',
  22: 'iq2_s',
  23: 'iq4_xs',
  24: 'i8',
  25: 'i16',
  26: 'i32',
  27: 'i64',
  28: 'f64',
  29: 'iq1_m',
  30: 'bf16',
  34: 'tq1_0',
  35: 'tq2_0',
  39: 'mxfp4',
  40: 'nvfp4',
  41: 'q1_0',
  42: 'q2_0',
};
const removed = new Set([4, 5, 31, 32, 33, 36, 37, 38]);

/** The type of an id, or why there is none. */
export function typeOfId(id: number): StoredDType | { reason: string } {
  const name = Object.hasOwn(ids, id) ? ids[id] : undefined;
  return name ?? { reason: removed.has(id) ? 'which the format no longer has' : 'which is not known' };
}

/** The id of a type that files hold; -1 for one that they do not. */
export function idOfType(type: StoredDType): number {
  const id = Object.keys(ids).find((key) => ids[Number(key)] === type);
  return id === undefined ? -1 : Number(id);
}

/** Metadata types by their number. */
export const valueTypes = [
  'u8',
  'i8',
  'u16',
  'i16',
  'u32',
  'i32',
  'f32',
  'bool',
  'string',
  'array',
  'u64',
  'i64',
  'f64',
] as const;
export type ValueType = (typeof valueTypes)[number];
export type ScalarType = Exclude<ValueType, 'string' | 'array'>;

export const scalarBytes: Readonly<Record<ScalarType, number>> = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  f32: 4,
  bool: 1,
  u64: 8,
  i64: 8,
  f64: 8,
};
