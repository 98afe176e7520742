// Names of a state_dict() of transformers 5, which save_pretrained() writes otherwise: a training script that saves the
// dict itself keeps them.
import type { StoredTensor } from '../checkpoint/open.js';
import type { Graph } from '../graph/graph.js';
import { sourceNames, type Tensors } from './bind.js';

const lazyViews = (): typeof import('../checkpoint/views.js') => require('../checkpoint/views.js');

/** What stands in a file, and in the dict. */
const OTHERWISE: readonly [file: RegExp, dict: string][] = [
  [/^backbone\./, 'model.'],
  [/\.router\.layer\.weight$/, '.router.weight'],
  [/\.input_linear\.weight$/, '.experts.gate_up_proj'],
  [/\.output_linear\.weight$/, '.experts.down_proj'],
  [/\.block_sparse_moe\./, '.mlp.'],
  [/\.self_attn\.(?=f_[ab]_proj\.|dt_bias$|A_log$)/, '.self_attn.forget_gate.'],
];
/** Convolutions of queries, keys and values, which the dict has as one. */
const CONVOLUTION = /^(.*\.)([qkv])_(conv1d\.weight)$/;
/** A matrix of one expert, which the dict has with those of all the others in one tensor. */
const EXPERT = /^(.*\.experts)\.(\d+)\.(gate_proj|up_proj|down_proj|w1|w2|w3)\.weight$/;
/** The tensor that it lies in, and which part of an expert's rows there it is, of how many. */
const TOGETHER: Readonly<Record<string, readonly [name: string, part: number, parts: number][]>> = {
  gate_proj: [['gate_up_proj', 0, 2]],
  up_proj: [
    ['gate_up_proj', 1, 2],
    ['up_proj', 0, 1],
  ],
  down_proj: [['down_proj', 0, 1]],
  w1: [['gate_up_proj', 0, 2]],
  w3: [['gate_up_proj', 1, 2]],
  w2: [['down_proj', 0, 1]],
};

/** The tensors under the names that the graph asks for, where the checkpoint is such a dict; undefined where it is not. */
export function underDictNames(graph: Graph, tensors: Tensors): Tensors | undefined {
  const found = new Map<string, StoredTensor>();
  const used = new Set<string>();
  for (const name of sourceNames(graph)) {
    if (tensors.has(name) || found.has(name)) continue;
    for (const other of namesInDict(name)) {
      const [key, tensor] = whole(tensors, other) ?? expertOf(tensors, other) ?? convolutionOf(tensors, other) ?? [];
      if (key === undefined || tensor === undefined) continue;
      found.set(name, lazyViews().renamed(tensor, name));
      used.add(key);
      break;
    }
  }
  if (found.size === 0) return undefined;
  return new Map([...[...tensors].filter(([name]) => !used.has(name)), ...found]);
}

/** The name itself, and with any of the parts that are written otherwise. */
function namesInDict(name: string): string[] {
  const names = [name];
  for (const [file, dict] of OTHERWISE)
    for (const known of [...names]) if (file.test(known)) names.push(known.replace(file, dict));
  return names;
}

type Found = [name: string, tensor: StoredTensor];

function whole(tensors: Tensors, name: string): Found | undefined {
  const tensor = tensors.get(name);
  return tensor && [name, tensor];
}

function expertOf(tensors: Tensors, name: string): Found | undefined {
  const [, experts, index, matrix] = EXPERT.exec(name) ?? [];
  for (const [of, part, parts] of TOGETHER[matrix ?? ''] ?? []) {
    const key = `${experts}.${of}`;
    const tensor = tensors.get(key);
    const [count, rows, columns] = tensor?.shape ?? [];
    if (!tensor || columns === undefined || Number(index) >= count! || rows! % parts !== 0) continue;
    const own = rows! / parts;
    const { reshaped, valueRange } = lazyViews();
    const values = valueRange(tensor, (Number(index) * parts + part) * own * columns, own * columns);
    return [key, reshaped(values, [own, columns])];
  }
  return undefined;
}

function convolutionOf(tensors: Tensors, name: string): Found | undefined {
  const [, scope, of, rest] = CONVOLUTION.exec(name) ?? [];
  const key = `${scope}${rest}`;
  const tensor = tensors.get(key);
  const [rows, ...others] = tensor?.shape ?? [];
  if (!tensor || rows === undefined || rows % 3 !== 0) return undefined;
  const { reshaped, valueRange } = lazyViews();
  const shape = [rows / 3, ...others];
  const size = shape.reduce((a, b) => a * b, 1);
  return [key, reshaped(valueRange(tensor, 'qkv'.indexOf(of!) * size, size), shape)];
}
