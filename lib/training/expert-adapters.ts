// Adapters of single experts as peft takes them where transformers 5 holds all experts of a layer in one parameter.
import type { StoredTensor } from '../checkpoint/open.js';
import { readTensorF32 } from '../checkpoint/open.js';
import { inPieces } from '../checkpoint/pieces.js';
import { Tensor } from '../tensor.js';
import type { Trained } from './network.js';

/** Models whose experts peft 0.21 joins by itself, where both matrices of a parameter have adapters; those of others it leaves out. */
const JOINED_BY_PEFT = new Set(['mixtral', 'minimax', 'qwen3_next']);

const EXPERT = /^(.+\.experts)\.(\d+)\.(w1|w2|w3|gate_proj|up_proj|down_proj)\.weight$/;

/** transformers' name in memory of a module of the checkpoint. */
const inMemory = (module: string): string => module.replace('.block_sparse_moe.', '.mlp.');

/** Without the first part, which may be another in memory. */
const fromLayers = (module: string): string => inMemory(module).replace(/^.*?(?=layers\.)/, '');

/** All adapters of one parameter: gate_up_proj, up_proj or down_proj of a layer's experts. */
export interface Joined {
  /** transformers' name of it. */
  readonly parameter: string;
  /** What peft calls the module: where two parameters of one have adapters, one wraps the other. */
  readonly name: string;
  readonly experts: number;
  /** Of each matrix in the parameter the halves by expert, if it has adapters; its rows of all. */
  readonly matrices: readonly { readonly row: number; readonly adapters: readonly (Halves | undefined)[] }[];
  readonly rows: number;
  readonly columns: number;
  /** Of one adapter, and of an expert: that of all its matrices. */
  readonly rank: number;
  readonly ranks: number;
}

interface Halves {
  readonly A: Trained;
  readonly B: Trained;
}

/** What is to be joined of these parameters; all of the model's are among them. */
export function joinedAdapters(modelType: string, parameters: readonly Trained[]): Joined[] {
  const halves = new Map<string, Partial<Record<'A' | 'B', Trained>>>();
  for (const p of parameters) if (p.base && p.half) halves.set(p.base, { ...halves.get(p.base), [p.half]: p });
  const modules = new Map<string, Map<string, Trained[]>>();
  for (const p of parameters) {
    const [, module, expert, matrix] = (p.base === undefined && EXPERT.exec(p.name)) || [];
    if (module === undefined) continue;
    const matrices = modules.get(module) ?? new Map<string, Trained[]>();
    modules.set(module, matrices);
    const list = matrices.get(matrix!) ?? [];
    matrices.set(matrix!, list);
    list[Number(expert)] = p;
  }
  return [...modules].flatMap(([module, matrices]) => {
    const list = (names: readonly string[]) => names.flatMap((name) => matrices.get(name) ?? []);
    const isAdapted = (names: readonly string[]) => list(names).some(({ name }) => halves.has(name));
    const ups = [...matrices.keys()].filter((name) => !/^(w2|down_proj)$/.test(name)).sort();
    const downs = [...matrices.keys()].filter((name) => !ups.includes(name));
    const isWhole = list(ups).every(({ name }) => halves.has(name)) || !isAdapted(ups);
    if (JOINED_BY_PEFT.has(modelType) && isWhole) return [];
    return [ups, downs].filter(isAdapted).map((names, _, adapted): Joined => {
      const all = names.map((name) => matrices.get(name)!);
      const [rows, columns] = all[0]![0]!.shape as [number, number];
      const own = all
        .map((experts, i) => ({
          row: i * rows,
          adapters: experts.map(({ name }) => halves.get(name) as Halves | undefined),
        }))
        .filter(({ adapters }) => adapters.some((a) => a !== undefined));
      const rank = own[0]!.adapters.find((a) => a !== undefined)!.A.shape[0]!;
      return {
        parameter: `${fromLayers(module)}.${names === downs ? 'down_proj' : names.length > 1 ? 'gate_up_proj' : 'up_proj'}`,
        name: `base_model.model.${inMemory(module)}${names === ups && adapted.length > 1 ? '.base_layer' : ''}`,
        ...{ experts: all[0]!.length, matrices: own, rows: rows * all.length, columns, rank },
        ranks: rank * own.length,
      };
    });
  });
}

/** Calls `visit` for each pair of halves with where they begin: rows of A; rows of B, and the first of its columns, which lie an expert apart. */
async function eachOf(joined: Joined, visit: (halves: Halves, a: number, row: number, column: number) => void) {
  const { experts, matrices, rank, ranks, rows } = joined;
  const work = (from: number, to: number) => {
    for (let e = from; e < to; e++)
      for (const [i, { row, adapters }] of matrices.entries())
        if (adapters[e]) visit(adapters[e]!, e * ranks + i * rank, row, i * rank * experts + e);
  };
  await inPieces(experts, work, ranks * rows);
}

/** A (experts · ranks, columns), expert by expert, B (rows, ranks · experts), rank by rank: zeros where a matrix has no adapter. */
export async function joinHalves(joined: Joined, values: ReadonlyMap<string, Tensor>): Promise<Map<string, Tensor>> {
  const { experts, ranks, rows, columns, rank, name } = joined;
  const [a, b] = [new Float32Array(experts * ranks * columns), new Float32Array(rows * ranks * experts)];
  await eachOf(joined, ({ A, B }, first, row, column) => {
    a.set(values.get(A.name)!.data as Float32Array, first * columns);
    const own = values.get(B.name)!.data;
    for (let i = 0; i < own.length; i++)
      b[(row + Math.floor(i / rank)) * ranks * experts + column + (i % rank) * experts] = own[i]!;
  });
  return new Map([
    [`${name}.lora_A.weight`, new Tensor(a, [experts * ranks, columns])],
    [`${name}.lora_B.weight`, new Tensor(b, [rows, ranks * experts])],
  ]);
}

/** The halves by their names, back out of what joinHalves() gives; undefined where a tensor of it is missing or of another shape. */
export async function partHalves(
  joined: Joined,
  stored: ReadonlyMap<string, StoredTensor>,
): Promise<Map<string, Float32Array> | undefined> {
  const { experts, ranks, rows, columns, rank, name } = joined;
  const [a, b] = ['A', 'B'].map((half) => stored.get(`${name}.lora_${half}.weight`));
  if (a?.shape.join() !== `${experts * ranks},${columns}` || b?.shape.join() !== `${rows},${ranks * experts}`)
    return undefined;
  const [down, up] = [await readTensorF32(a), await readTensorF32(b)];
  const values = new Map<string, Float32Array>();
  await eachOf(joined, ({ A, B }, first, row, column) => {
    values.set(A.name, down.slice(first * columns, (first + rank) * columns));
    const own = new Float32Array(B.shape[0]! * rank);
    for (let i = 0; i < own.length; i++)
      own[i] = up[(row + Math.floor(i / rank)) * ranks * experts + column + (i % rank) * experts]!;
    values.set(B.name, own);
  });
  return values;
}
