import type { Graph, Value } from '../graph/graph.js';
import type { Weights } from '../graph/weights.js';

export interface MoeOptions {
  experts: number;
  topK: number;
  dFf: number;
  /** Divide the chosen experts' weights by their sum (Mixtral), or keep them (Jamba). */
  renormalize: boolean;
  names: { router: string; experts: string; gate: string; up: string; down: string };
}

/**
 * Mixture of top-k routed SwiGLU experts (Shazeer et al. 2017): x (tokens, d_model) to (tokens, d_model). Weights, by
 * `names`: the router (experts, D), and for each expert gate and up (dFf, D) and down (D, dFf).
 */
export function moe(g: Graph, x: Value, w: Weights, o: MoeOptions): Value {
  const { experts, dFf, names } = o;
  const dModel = x.dims[1] as number;
  const each = Array.from({ length: experts }, (_, e) => `${names.experts}.${e}`);
  const activeShare = o.topK / experts;
  const gateUp = w.combined(
    each.flatMap((e) => [names.gate, names.up].map((p) => ({ name: `${e}.${p}.weight`, shape: [dFf, dModel] }))),
    [experts, 2, dFf, dModel],
    { activeShare },
  );
  const down = w.combined(
    each.map((e) => ({ name: `${e}.${names.down}.weight`, shape: [dModel, dFf] })),
    [experts, dModel, dFf],
    { activeShare },
  );
  // The router decides between near equals: it stays f32.
  const router = w.tensor(`${names.router}.weight`, [experts, dModel], { matrix: false });
  return g.op('moe', { x, router, gateUp, down }, { topK: o.topK, renormalize: o.renormalize });
}
