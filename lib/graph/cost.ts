import { byteLength } from '../dtype.js';
import { mismatch, show } from '../errors.js';
import type { Graph, Node, Value } from './graph.js';

/** What a model costs, read off its graph; nothing is allocated. */

const size = (v: Value): number => v.dims.reduce<number>((n, d) => n * (typeof d === 'number' ? d : 1), 1);
const PAGE_TOKENS = 64;

/** Parameters of the checkpoint; active: those that one token uses (top-k experts only). */
export function countParameters(g: Graph): { total: number; active: number } {
  let total = 0;
  let active = 0;
  const counted = new Set<string>();
  for (const spec of g.weights.values()) {
    for (const source of spec.sources) {
      if (source.buffer || counted.has(source.name)) continue;
      counted.add(source.name);
      const n = source.shape.reduce((a, b) => a * b, 1);
      total += n;
      active += n * spec.activeShare;
    }
  }
  return { total, active: Math.round(active) };
}

/** ERR_ARGUMENT where a number of tokens is none. */
export function checkContext(of: string, context: number): number {
  if (!(Number.isFinite(context) && context >= 0))
    throw mismatch('ERR_ARGUMENT', `${of}: context`, 'a number of tokens', show(context));
  return context;
}

/** Keys that a token sees of the last `most`, itself among them. */
type Seen = (most: number) => number;

/** FLOPs of one token whose sequence has `context` tokens, a multiply-add as two. */
export function flopsPerToken(g: Graph, context: number): number {
  let flops = 0;
  for (const node of g.nodes) if (node.when !== 'whole') flops += nodeFlops(g, node, (most) => Math.min(most, context));
  return flops;
}

/** FLOPs of a sequence's first `tokens` in one call that wants the last one's output. */
export function promptFlops(g: Graph, tokens: number): number {
  // A token in the middle sees so many on the average.
  const seen: Seen = (most) => (most >= tokens ? (tokens + 1) / 2 : most - (most * (most - 1)) / (2 * tokens));
  let flops = 0;
  for (const node of g.nodes)
    if (node.when !== 'whole') flops += nodeFlops(g, node, seen) * (perOutput(node) ? 1 : tokens);
  return flops;
}

const perOutput = ({ inputs }: Node): boolean => inputs.x?.dims[0] === 'outputs';

/** Bytes that one more token after `context` reads: the weights that it uses, states and the keys that it sees, once. */
export function stepBytes(g: Graph, context: number): number {
  let bytes = 0;
  const multiplied = new Set(g.nodes.flatMap(({ op, inputs }) => (byId(op) ? [] : Object.values(inputs))));
  for (const [value, { activeShare }] of g.weights) {
    // Of a table that no product shares, a row.
    if (multiplied.has(value)) bytes += byteLength(value.dtype, size(value)) * activeShare;
  }
  const rows = new Map<Value, number>();
  for (const { op, inputs, attrs } of g.nodes) {
    if (op.name === 'cacheAppend') continue;
    for (const [name, value] of Object.entries(inputs)) {
      if (value.kind === 'state') rows.set(value, 1);
      if (value.kind !== 'cache') continue;
      const chosen = inputs.indexQ && name !== 'indexKeys' ? attrs.topBlocks! * attrs.blockSize! : attrs.window;
      rows.set(value, Math.max(rows.get(value) ?? 0, Math.min(context, chosen || context)));
    }
  }
  for (const [value, count] of rows) bytes += count * byteLength(value.dtype, size(value));
  return bytes;
}

const byId = (op: Node['op']): boolean => op.name === 'embedding' || op.name === 'ngramEmbedding';

function nodeFlops(g: Graph, { op, inputs, attrs }: Node, seen: Seen): number {
  const weight = (v: Value | undefined): number => (v ? size(v) * (g.weights.get(v)?.activeShare ?? 1) : 0);
  switch (op.name) {
    case 'linear':
      return 2 * weight(inputs.weight);
    case 'moe':
      return 2 * (weight(inputs.router) + weight(inputs.gateUp) + weight(inputs.down));
    case 'causalConv1d':
      return 2 * weight(inputs.weight);
    case 'shortConv':
      return 2 * weight(inputs.weight) + 2 * size(inputs.x!);
    case 'rgLru':
      return 2 * (weight(inputs.inputGateWeight) + weight(inputs.recurrentGateWeight)) + 4 * size(inputs.x!);
    case 'attention': // q·k and the weighted sum of v
      return 4 * size(inputs.q!) * seen(attrs.window || Number.POSITIVE_INFINITY);
    case 'sparseAttention': {
      const all = attrs.window || Number.POSITIVE_INFINITY;
      if (!inputs.indexQ) return 4 * size(inputs.q!) * seen(all);
      // Every complete block has a score, the best ones are attended to.
      const blocks = seen(Number.POSITIVE_INFINITY) / attrs.blockSize!;
      return 2 * size(inputs.indexQ) * blocks + 4 * size(inputs.q!) * seen(attrs.topBlocks! * attrs.blockSize!);
    }
    case 'selectiveScan':
      return 9 * size(inputs.A!); // dt·A, exp, decay·h, dt·u·B, +, C·h (Mamba, appendix D counts the same terms)
    case 'longConv': // a step is the direct sum
      return 2 * size(inputs.x!) * seen(inputs.kernel!.dims[0] as number);
    case 'denseScan':
      return 2 * size(inputs.A!);
    case 'mamba3': // a rank writes into the state twice (its own token and the one before) and reads it once
      return 6 * size(inputs.ssm!) * (inputs.mimoX ? (inputs.mimoX.dims[1] as number) : 1);
    case 'tokenShift':
      return 0;
    case 'tokenShiftMix':
      return 3 * size(inputs.mix!);
    case 'wkv7':
      return 9 * size(inputs.state!); // S·a, the decay, two outer products, S·r
    default:
      // Recurrences: a decay, an outer product and a read-out for every value of the state.
      return inputs.state ? 6 * size(inputs.state) : 0;
  }
}

/** Bytes that a session holds after `context` tokens; a KV cache in whole pages of 64 tokens. */
export function sessionBytes(g: Graph, context: number): { state: number; kvCache: number; total: number } {
  const aligned = (n: number): number => Math.ceil(n / 64) * 64;
  let state = 0;
  let page = 0;
  for (const v of g.values) {
    if (v.kind === 'state') state += aligned(size(v) * 4);
    if (v.kind === 'cache') page += aligned(byteLength(v.dtype, size(v) * PAGE_TOKENS));
  }
  const window = cacheWindow(g);
  const first = window ? Math.floor(Math.max(0, context - window + 1) / PAGE_TOKENS) : 0;
  const kvCache = page * (Math.ceil(context / PAGE_TOKENS) - first);
  return { state, kvCache, total: state + kvCache };
}

/** Keys that the widest cached attention looks back; 0: all of them. */
function cacheWindow(g: Graph): number {
  if (g.nodes.some((n) => n.op.name === 'longConv')) return 0;
  const windows = g.nodes
    .filter((n) => n.op.name === 'attention' && n.inputs.k?.kind === 'cache')
    .map((n) => n.attrs.window!);
  return windows.length === 0 || windows.includes(0) ? 0 : Math.max(...windows);
}

/** What a model is made of: mixers and feed-forwards by kind. */
export function layerCounts(g: Graph): { kind: string; count: number }[] {
  const counts = new Map<string, number>();
  for (const kind of g.layers) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  for (const node of g.nodes) {
    const kind = layerKind(node);
    if (kind) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  return [...counts].map(([kind, count]) => ({ kind, count }));
}

/** The layer that a node stands for, if it is the one op that such a layer has exactly once. */
function layerKind({ op, inputs, attrs }: Node): string | undefined {
  if (op.name === 'wkv6' && inputs.w!.kind === 'weight') return 'rwkv5'; // its decay does not vary with the token
  if (op.name === 'moe' && inputs.down!.dims[0] === 1) return undefined; // a shared expert beside the routed ones
  if (op.name === 'gatedDeltaRule') return !inputs.g ? 'delta' : inputs.g.dims.length === 3 ? 'kda' : 'gated-delta';
  if (op.name === 'retention' && attrs.scale === 1) return 'lightning-attention';
  return LAYER_OF_OP[op.name];
}

const LAYER_OF_OP: Readonly<Record<string, string>> = {
  attention: 'attention',
  selectiveScan: 'mamba',
  ssd: 'mamba2',
  moe: 'moe',
  s4Recurrent: 's4',
  denseScan: 'simple-ssm',
  denseConv: 'simple-ssm',
  wkv4: 'rwkv4',
  wkv6: 'rwkv6',
  wkv7: 'rwkv7',
  retention: 'retention',
  gla: 'gla',
  mamba3: 'mamba3',
  rgLru: 'rg-lru',
  shortConv: 'short-conv',
};
