import { type StoredType, storedTypes } from '../dtype.js';
import type { Dim, Graph, Value, ValueKind, When } from './graph.js';

const MAGIC = 0x47505353; // "SSPG"
const VERSION = 3;
const KINDS: ValueKind[] = ['activation', 'view', 'weight', 'state', 'cache', 'input', 'fixed'];
const DTYPES = Object.keys(storedTypes) as StoredType[];
const WHEN: When[] = ['always', 'whole', 'stream'];
const BATCH_DIMS: Dim[] = ['tokens', 'outputs', 'sequences'];

/** The graph as bytes for the addon; native/program/graph.h describes them. */
export function encodeGraph(g: Graph, output: Value): Uint8Array {
  let bytes = new Uint8Array(1 << 16);
  let view = new DataView(bytes.buffer);
  let at = 0;
  const room = (n: number): number => {
    if (at + n > bytes.length) {
      const larger = new Uint8Array(2 * bytes.length + n);
      larger.set(bytes);
      bytes = larger;
      view = new DataView(bytes.buffer);
    }
    at += n;
    return at - n;
  };
  // Room first: it may move what `view` looks at.
  const put = (n: number, write: (offset: number) => void) => write(room(n));
  const u8 = (x: number) => put(1, (offset) => view.setUint8(offset, x));
  const i32 = (x: number) => put(4, (offset) => view.setInt32(offset, x, true));
  const f32 = (x: number) => put(4, (offset) => view.setFloat32(offset, x, true));
  const f64 = (x: number) => put(8, (offset) => view.setFloat64(offset, x, true));

  i32(MAGIC);
  i32(VERSION);
  i32(g.values.length);
  i32(g.nodes.length);
  i32(output.id);
  for (const v of g.values) {
    u8(KINDS.indexOf(v.kind));
    u8(DTYPES.indexOf(v.dtype));
    u8(v.dims.length);
    u8(v.cleared ? 1 : 0);
    for (const d of v.dims) i32(typeof d === 'number' ? d : -1 - BATCH_DIMS.indexOf(d));
    if (v.kind === 'view') {
      i32(v.parent!.id);
      i32(v.offset!);
    }
    if (v.kind === 'state') {
      i32(v.fill!.length);
      for (const x of v.fill!) f32(x);
    }
  }
  for (const node of g.nodes) {
    u8(node.op.name.length);
    for (const c of Buffer.from(node.op.name, 'latin1')) u8(c);
    u8(WHEN.indexOf(node.when));
    for (const field of node.op.fields) i32(node.inputs[field.name]?.id ?? -1);
    for (const attr of node.op.attrs) f64(node.attrs[attr.name]!);
  }
  return bytes.subarray(0, at);
}
