import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';
import {
  checkKinds,
  finite,
  flag,
  type Kinds,
  name,
  needed,
  nested,
  notNegative,
  oneOf,
  size,
  value,
} from './kinds.js';
import { type Activation, activation, linearBy } from './linear.js';

/** How a router makes weights of its logits, where it is not a softmax over all; see the op expertWeights. */
export interface RoutingOptions {
  score: 'softmax' | 'sigmoid';
  /** Renormalised weights are divided by their sum plus this. */
  eps?: number | undefined;
  scale?: number | undefined;
  groups?: number | undefined;
  topkGroups?: number | undefined;
  /** The name of the bias (experts) that is added for the choice alone. */
  bias?: string | undefined;
}

/** Of {@link moe}. */
export interface MoeOptions {
  experts: number;
  topK: number;
  dFf: number;
  /** Divide the chosen experts' weights by their sum (Mixtral), or keep them (Jamba). */
  renormalize: boolean;
  /** Default: a softmax over all experts. */
  routing?: RoutingOptions | undefined;
  /** What the router reads, where that is not what the experts read. */
  routerInput?: Value | undefined;
  /** Of the experts; default silu. */
  activation?: Activation | undefined;
  /** > 0: clamps the experts' gate from above and up from both sides. */
  limit?: number | undefined;
  /** Names of the projections of an expert, `experts.E.gate.weight` …; without `gate` it has none: down(act(up x)). */
  names: { router: string; experts: string; gate?: string | undefined; up: string; down: string };
  /** Names of tensors that hold all experts: gate and up as (experts, 2 dFf, D), down as (experts, D, dFf). */
  packed?: { gateUp: string; down: string } | undefined;
}

const MOE: Kinds<MoeOptions> = {
  experts: needed(size),
  topK: needed(size),
  dFf: needed(size),
  renormalize: needed(flag),
  routing: nested<RoutingOptions>({
    score: needed(oneOf('softmax', 'sigmoid')),
    eps: notNegative,
    scale: finite,
    groups: size,
    topkGroups: size,
    bias: name,
  }),
  routerInput: value,
  activation,
  limit: notNegative,
  names: needed(
    nested<MoeOptions['names']>({
      router: needed(name),
      experts: needed(name),
      gate: name,
      up: needed(name),
      down: needed(name),
    }),
  ),
  packed: nested<MoeOptions['packed']>({ gateUp: needed(name), down: needed(name) }),
};

/** Stacked weights of all experts: gate and up (experts, 2, dFf, D), or up (experts, 1, dFf, D), and down. */
function expertWeights(w: Weights, o: MoeOptions, d: number): { gateUp: Value; down: Value } {
  const { experts, dFf, names, packed } = o;
  const activeShare = o.topK / experts;
  const first = names.gate ? [names.gate, names.up] : [names.up];
  const each = Array.from({ length: experts }, (_, e) => `${names.experts}.${e}`);
  const gateUp = packed
    ? [{ name: packed.gateUp, shape: [experts, first.length * dFf, d] }]
    : each.flatMap((e) => first.map((p) => ({ name: `${e}.${p}.weight`, shape: [dFf, d] })));
  const down = packed
    ? [{ name: packed.down, shape: [experts, d, dFf] }]
    : each.map((e) => ({ name: `${e}.${names.down}.weight`, shape: [d, dFf] }));
  return {
    gateUp: w.combined(gateUp, [experts, first.length, dFf, d], { activeShare }),
    down: w.combined(down, [experts, d, dFf], { activeShare }),
  };
}

/**
 * Mixture of top-k routed experts (Shazeer et al. 2017), SwiGLU where they have a gate: x (tokens, d_model) to (tokens,
 * d_model). Weights, by `names`: the router (experts, D), and for each expert gate and up (dFf, D) and down (D, dFf).
 */
export function moe(g: Graph, x: Value, w: Weights, o: MoeOptions): Value {
  checkKinds('layers.moe', o, MOE);
  const { experts, topK, renormalize, routing, activation, limit } = o;
  const { gateUp, down } = expertWeights(w, o, x.dims[1] as number);
  const routed = o.routerInput ?? x;
  // The router decides between near equals: it stays f32.
  const router = w.tensor(`${o.names.router}.weight`, [experts, routed.dims[1] as number], { matrix: false });
  if (!routing && routed === x)
    return g.op('moe', { x, router, gateUp, down }, { topK, renormalize, activation, limit });
  const { score, eps, scale, groups, topkGroups, bias } = routing ?? { score: 'softmax' };
  const weights = g.op(
    'expertWeights',
    {
      logits: linearBy(g, routed, router),
      // Not trained by gradients: the balance of loads moves it.
      bias:
        bias === undefined
          ? undefined
          : w.combined([{ name: bias, shape: [experts], buffer: true }], [experts], { init: 'zeros' }),
    },
    { score, topK, renormalize, eps, scale, groups, topkGroups },
  );
  return g.op('moe', { x, weights, gateUp, down }, { topK, activation, limit });
}

/**
 * One expert that every token has, times a weight of the token: x (tokens, d_model), weight (tokens, 1), to (tokens,
 * d_model). Weights: `gate_proj` and `up_proj` (dFf, D), `down_proj` (D, dFf).
 */
export function weightedExpert(g: Graph, x: Value, w: Weights, weight: Value, dFf: number): Value {
  const d = x.dims[1] as number;
  const gateUp = w.combined(
    ['gate_proj.weight', 'up_proj.weight'].map((name) => ({ name, shape: [dFf, d] })),
    [1, 2, dFf, d],
  );
  const down = w.tensor('down_proj.weight', [1, d, dFf], { stored: [d, dFf] });
  return g.op('moe', { x, weights: weight, gateUp, down }, { topK: 1 });
}
