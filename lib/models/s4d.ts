import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import { linear } from '../layers/linear.js';
import { layerNorm } from '../layers/norms.js';
import { meanPool } from '../layers/pooling.js';
import { s4d as s4dLayer } from '../layers/s4d.js';
import type { ConfigReader } from './config.js';
import type { ModelDefinition } from './definition.js';

const EPS = 1e-5; // LayerNorm's default: not in the config

interface S4dConfig {
  dInput: number;
  dOutput: number;
  dModel: number;
  nLayers: number;
  dState: number;
  prenorm: boolean;
}

function readConfig(c: ConfigReader): S4dConfig {
  const dState = c.size('d_state', 64);
  if (dState % 2 !== 0) throw c.error(`d_state ${dState} is odd; expected an even number, conjugate pairs are kept`);
  // Of training alone.
  c.ignore('lr', 'dt_min', 'dt_max', 'weight_decay');
  c.only('transposed', true);
  return {
    dInput: c.size('d_input'),
    dOutput: c.size('d_output', 10),
    dModel: c.size('d_model', 256),
    nLayers: c.size('n_layers', 4),
    dState,
    prenorm: c.boolean('prenorm', false),
  };
}

function build(g: Graph, w: Weights, c: S4dConfig): Value {
  let x = linear(g, g.input(c.dInput), w, 'encoder', c.dModel, { bias: true }); // (tokens, d_model)
  for (let i = 0; i < c.nLayers; i++) {
    const norm = (v: Value) => layerNorm(g, v, w.scope('norms'), String(i), { eps: EPS });
    const layer = w.scope('s4_layers', i);
    x = c.prenorm
      ? s4dLayer(g, norm(x), layer, { dState: c.dState, residual: x })
      : norm(s4dLayer(g, x, layer, { dState: c.dState, residual: x }));
  }
  const mean = meanPool(g, x); // (sequences, d_model)
  return linear(g, mean, w, 'decoder', c.dOutput, { bias: true });
}

/**
 * The sequence classifier of the s4 repository's example.py: float rows in, one row of `d_output` out for a sequence.
 * run() convolves whole sequences; a session goes step by step and answers for all rows so far.
 */
export const s4d: ModelDefinition<S4dConfig> = { modelTypes: ['s4d_example'], config: readConfig, build };
