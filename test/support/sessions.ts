// Feeds sessions in pieces.
import { type Session, Tensor } from 'statespace';

/** All output rows of token ids fed in pieces of the given sizes, taken in turn. */
export async function feedTokens(session: Session, ids: Int32Array, sizes: number[]): Promise<Float32Array> {
  const rows: number[] = [];
  for (let at = 0, i = 0; at < ids.length; i++) {
    const n = Math.min(sizes[i % sizes.length]!, ids.length - at);
    rows.push(...(await session.forward(ids.subarray(at, at + n), { logits: 'all' })).toFloat32Array());
    at += n;
  }
  return Float32Array.from(rows);
}

/** The same of float rows (length, features). */
export async function feedRows(
  session: Session,
  x: Float32Array,
  features: number,
  sizes: number[],
): Promise<Float32Array> {
  const rows: number[] = [];
  const length = x.length / features;
  for (let at = 0, i = 0; at < length; i++) {
    const n = Math.min(sizes[i % sizes.length]!, length - at);
    const piece = new Tensor(x.slice(at * features, (at + n) * features), [n, features]);
    rows.push(...(await session.forward(piece, { logits: 'all' })).toFloat32Array());
    at += n;
  }
  return Float32Array.from(rows);
}

/** Values in [-1, 1) that differ from one another. */
export const wave = (count: number, seed = 0): Float32Array =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(i * 0.731 + seed) * Math.cos(i * 0.113 + 2 * seed));
