/**
 * What each contender must hold besides its inputs and its output (working), and what it must keep to go on with the
 * next token (kept), by formula.
 */
import { type Contender, EXPAND, F32_BYTES, type Shape } from './preset.js';

/** Tiles of the attention kernel: so many query rows meet so many keys at a time (native/kernels/attention_tile.h). */
export const TILE_QUERIES = 224;
export const TILE_KEYS = 512;
export const TILE_PANEL = 14;
/** Inputs that a convolution of width 4 keeps. */
const CONV_KEPT = 3;

export function attentionContenders(shape: Shape, threads: number): Contender[] {
  const { dModel, heads, batch } = shape;
  const headDim = dModel / heads;
  const kept = (length: number) => 2 * batch * length * dModel * F32_BYTES;
  const keptText = `KV cache: 2 · batch ${batch} · N · ${dModel} channels · 4 B`;
  const tiles = threads * (2 * (TILE_QUERIES + TILE_KEYS) * headDim + TILE_PANEL * TILE_KEYS) * F32_BYTES;
  const matrix = (length: number) => length * length * F32_BYTES;
  return [
    {
      id: 'tiled',
      label: 'attention, tiled',
      family: 'attention',
      order: 2,
      memory: (length) => ({ working: tiles, kept: kept(length) }),
      counted: {
        working: `tiles of ${TILE_QUERIES} queries and ${TILE_KEYS} keys in each of ${threads} threads, never an (N, N) matrix`,
        kept: keptText,
      },
    },
    {
      id: 'materialised',
      label: 'attention, N×N matrix',
      family: 'attention',
      order: 2,
      memory: (length) => ({ working: matrix(length), kept: kept(length) }),
      counted: {
        working:
          `one score matrix, N² · 4 B, used for one head after the other ` +
          `(frameworks hold batch ${batch} · ${heads} heads of them); softmax in TypeScript on one thread`,
        kept: keptText,
      },
      // The matrix, and as much again for copies that the matrix product may make while packing.
      needs: (length) => 2 * matrix(length),
    },
  ];
}

export function scanContender(shape: Shape, label: string): Contender {
  const { dModel, dState, batch } = shape;
  const dInner = EXPAND * dModel;
  const state = batch * dInner * dState * F32_BYTES;
  const conv = batch * dInner * CONV_KEPT * F32_BYTES;
  return {
    id: 'scan',
    label,
    family: 'scan',
    order: 1,
    memory: () => ({ working: state, kept: state + conv }),
    counted: {
      working: `state: batch ${batch} · ${dInner} channels · ${dState} · 4 B (blocks that stay in cache left out)`,
      kept: `state and the last ${CONV_KEPT} inputs of the convolution, at any length`,
    },
  };
}
