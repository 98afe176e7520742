// What native code is told of a model that is to be trained: its two graphs, its parameters, how weights follow from them.
import { StatespaceError } from '../errors.js';
import { encodeGraph } from '../graph/encode.js';
import type { Graph } from '../graph/graph.js';
import { trainingGraph } from '../graph/training.js';
import type { WeightSpec } from '../graph/weight-spec.js';
import { type Parameter, parametersOf } from '../models/held.js';
import type { Model } from '../models/model.js';
import { moduleOf, tiedTables } from '../models/peft-names.js';
import type { TrainerLayout } from '../native.js';
import { Derivations } from './derived.js';
import type { Reading } from './given.js';
import type { LoraOptions, ReadOptions } from './options.js';

/** A tensor that a trainer holds: one of the checkpoint, or half of an adapter. */
export interface Trained {
  readonly name: string;
  readonly shape: readonly number[];
  readonly trained: boolean;
  /** Of an adapter: the tensor of the checkpoint that it adds to, and which half of it this is. */
  readonly base?: string;
  readonly half?: 'A' | 'B';
  /** Of an adapter of a table of embeddings: peft has it transposed, A for B. */
  readonly table?: boolean;
}

export interface TrainedNetwork {
  readonly reading: Reading;
  readonly parameters: readonly Trained[];
  /** Tensors that layers share, and their other names. */
  readonly shared: Graph['shared'];
  /** Tables of embeddings that are the head as well. */
  readonly tied: readonly string[];
  /** What chose the matrices that have adapters. */
  readonly targetNames: readonly string[];
  /** Asked for when all else is known to be right: it runs the weights' load-time arithmetic. */
  encoded(): Promise<{ training: Uint8Array; evaluation: Uint8Array; layout: TrainerLayout }>;
}

const size = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** What peft calls the halves of an adapter. */
export function loraName(name: string, half: 'A' | 'B', table = false): string {
  const module = `base_model.model.${moduleOf(name)}`;
  return table ? `${module}.lora_embedding_${half === 'A' ? 'B' : 'A'}` : `${module}.lora_${half}.weight`;
}

const isTable = (graph: Graph, name: string): boolean =>
  graph.nodes.some(
    ({ op, inputs }) =>
      op.name === 'embedding' && graph.weights.get(inputs.weight!)!.sources.some((s) => s.name === name),
  );

/** The matrices that adapters add to, and by what names they were chosen. */
function loraTargets(list: ReadonlyMap<string, Parameter>, lora: LoraOptions) {
  const matrices = [...list.values()].filter((p) => p.shape.length === 2 && /\.weight$/.test(p.name) && !p.buffer);
  const pick = (names: readonly string[]) => ({
    names,
    targets: matrices.filter((p) => names.some((name) => isCalled(p.name, name))),
  });
  if (!lora.targets) {
    const found = [pick(['q_proj', 'v_proj']), pick(['in_proj'])].find((of) => of.targets.length > 0);
    if (found) return found;
    throw new StatespaceError('ERR_ARGUMENT', 'createTrainer: lora.targets: this model has no usual ones; name some');
  }
  const missing = lora.targets.find((t) => !matrices.some((p) => isCalled(p.name, t)));
  if (missing !== undefined)
    throw new StatespaceError('ERR_ARGUMENT', `createTrainer: lora.targets: no matrix is called '${missing}'`);
  return pick(lora.targets);
}

/** Whether a target, as peft reads it, means the module of this tensor. */
export const isCalled = (tensor: string, target: string): boolean => `.${moduleOf(tensor)}`.endsWith(`.${target}`);

/**
 * @throws StatespaceError ERR_UNSUPPORTED_MODEL where an op or a weight's arithmetic has no gradient, ERR_ARGUMENT for targets
 *   that the model does not have.
 */
export function trainedNetwork(model: Model, o: ReadOptions): TrainedNetwork {
  const { graph, output } = model.blueprint.rebuild(o.dtype);
  const list = parametersOf(graph);
  const { names: targetNames, targets } = o.lora ? loraTargets(list, o.lora) : { names: [], targets: [] };
  const adapted = new Set(targets.map((t) => t.name));
  const halves = targets.flatMap((t) => {
    const table = isTable(graph, t.name);
    return (['A', 'B'] as const).map((half): Trained => {
      const shape = half === 'A' ? [o.lora!.rank, t.shape[1]!] : [t.shape[0]!, o.lora!.rank];
      return { name: loraName(t.name, half, table), shape, trained: true, base: t.name, half, table };
    });
  });
  const trains = ({ sources }: WeightSpec): boolean => sources.some((s) => (o.lora ? adapted.has(s.name) : !s.buffer));
  const squared = o.loss === 'mse';
  const recompute = o.recompute === 'blocks';
  const training = trainingGraph(graph, output, { gradients: true, recompute, squared, trains });
  const bySequence = output.dims[0] === 'sequences';
  // What only chooses (an indexer of keys) stays as it is: without a gradient it is not decayed either.
  const reached = new Set(
    training.weights.flatMap(({ spec, gradients }) => (gradients.length > 0 ? spec.sources.map((s) => s.name) : [])),
  );
  const parameters: Trained[] = [
    ...[...list.values()].map((p) => ({
      name: p.name,
      shape: p.shape,
      trained: !o.lora && !p.buffer && reached.has(p.name),
    })),
    ...halves,
  ];
  const index = new Map(parameters.map((p, i) => [p.name, i]));
  const halfOf = (base: string, half: 'A' | 'B') =>
    index.get(halves.find((h) => h.base === base && h.half === half)!.name)!;
  return {
    reading: {
      loss: o.loss,
      features: model.features,
      idRows: model.embeddingRows,
      outputs: model.outputFeatures,
      bySequence,
      longest: graph.longest,
    },
    parameters,
    shared: graph.shared,
    tied: tiedTables(graph),
    targetNames,
    async encoded() {
      const turn = () => new Promise((resume) => setImmediate(resume));
      await turn();
      const bytes = encodeGraph(training.graph, training.loss);
      await turn();
      const evaluation = trainingGraph(graph, output, { gradients: false, squared, trains });
      await turn();
      const evaluationBytes = encodeGraph(evaluation.graph, evaluation.loss);
      const weights: TrainerLayout['weights'] = [];
      const derivations = new Derivations();
      for (const { spec, value, gradients } of training.weights) {
        const parts = spec.sources.map((s) => ({
          parameter: index.get(s.name)!,
          first: s.span?.[0] ?? 0,
          count: s.span?.[1] ?? size(list.get(s.name)!.shape),
        }));
        const derived = Object.fromEntries(
          Object.entries(await derivations.of(spec, size(value.dims as number[]))).filter(([, v]) => v !== undefined),
        );
        weights.push({
          value: value.id,
          parts,
          gradients: gradients.map((g) => g.id),
          ...(derived as { map: 'copy' }),
        });
      }
      const layout: TrainerLayout = {
        parameters: parameters.map((p) => ({
          count: size(p.shape),
          decayed: p.shape.length >= 2,
          trained: p.trained,
        })),
        weights,
        adapters: targets.map((t) => ({
          base: index.get(t.name)!,
          a: halfOf(t.name, 'A'),
          b: halfOf(t.name, 'B'),
          rows: t.shape[0]!,
          columns: t.shape[1]!,
          rank: o.lora!.rank,
          scale: o.lora!.alpha / o.lora!.rank,
        })),
        loss: training.loss.id,
        divisor: training.divisor?.id ?? -1,
        dloss: training.dloss?.id ?? -1,
        bySequence,
        targetWidth: squared ? model.outputFeatures : 1,
      };
      return { training: bytes, evaluation: evaluationBytes, layout };
    },
  };
}
