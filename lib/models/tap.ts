// Looks into a network: another output than its own, made of values on the way to it.
import type { Graph, Value } from '../graph/graph.js';
import type { LoadOptions } from './load-options.js';
import type { ResolvedModel } from './registry.js';

export type Tap = (graph: Graph, output: Value) => Value;
const taps = new WeakMap<LoadOptions, Tap>();

/** Options with which loadModel() gives a network whose output is what `tap` returns. */
export function withTap(options: LoadOptions, tap: Tap): LoadOptions {
  const own = { ...options };
  taps.set(own, tap);
  return own;
}

/** The model as the options want it built. */
export function tapped(resolved: ResolvedModel, options: LoadOptions): ResolvedModel {
  const tap = taps.get(options);
  if (!tap) return resolved;
  const { definition } = resolved;
  return { ...resolved, definition: { ...definition, build: (g, w, c) => tap(g, definition.build(g, w, c)) } };
}
