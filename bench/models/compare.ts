/** What architectures of equal size cost, from their configurations alone: nothing is allocated or run. */
import type { DType, Library } from '../library.js';
import type { Sized } from './families.js';

export interface Costs {
  context: number;
  flopsPerToken: number;
  stateBytes: number;
  kvCacheBytes: number;
  sessionBytes: number;
}

export interface Comparison {
  name: string;
  label: string;
  kind: string;
  layers: { kind: string; count: number }[];
  parameters: { total: number; active: number };
  prefill: string;
  decode: string;
  memory: string;
  costs: Costs[];
  /** Against the first model with attention only: the context from which this one needs less; null where never. */
  wins: { memory: number | null; flops: number | null } | null;
}

export function compareModels(
  library: Library,
  models: readonly Sized[],
  contexts: readonly number[],
  dtype: DType,
): Comparison[] {
  const reference = models.find((model) => model.family.kind === 'attention');
  const referred = reference && library.describeModel(reference.config);
  return models.map((model) => {
    const { family } = model;
    const described = library.describeModel(model.config);
    const wins =
      referred === undefined || family.kind === 'attention'
        ? null
        : {
            memory: firstBelow(
              (n) => described.sessionBytes(n, dtype).total,
              (n) => referred.sessionBytes(n, dtype).total,
            ),
            flops: firstBelow(
              (n) => described.flopsPerToken(n),
              (n) => referred.flopsPerToken(n),
            ),
          };
    return {
      name: family.name,
      label: family.label,
      kind: family.kind,
      layers: described.layers,
      parameters: described.parameters,
      prefill: family.prefill,
      decode: family.decode,
      memory: family.memory,
      costs: contexts.map((context) => {
        const { state, kvCache, total } = described.sessionBytes(context, dtype);
        const flopsPerToken = described.flopsPerToken(context);
        return { context, flopsPerToken, stateBytes: state, kvCacheBytes: kvCache, sessionBytes: total };
      }),
      wins,
    };
  });
}

const LONGEST = 2 ** 40;

/** The smallest context from which `cost` stays below `other`; both grow at most linearly, so they cross once. */
export function firstBelow(cost: (n: number) => number, other: (n: number) => number): number | null {
  if (cost(LONGEST) >= other(LONGEST)) return null;
  let [low, high] = [0, LONGEST];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (cost(middle) < other(middle)) high = middle;
    else low = middle;
  }
  return high;
}
