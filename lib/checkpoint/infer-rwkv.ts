// Official RWKV releases are a .pth without config.json: names tell the version, shapes the sizes.
import { StatespaceError, show } from '../errors.js';
import { checkpointError, type StoredTensor } from './stored.js';

type Tensors = ReadonlyMap<string, StoredTensor>;

/** The config of an official RWKV checkpoint, or undefined where the names are not RWKV's. */
export function inferRwkvConfig(tensors: Tensors): Record<string, unknown> | undefined {
  if (!tensors.has('emb.weight') || !tensors.has('blocks.0.ln0.weight')) return undefined;
  const [vocabSize, width] = matrix(tensors, 'emb.weight');
  const [dimFfn] = matrix(tensors, 'blocks.0.ffn.key.weight');
  const [dimAtt] = matrix(tensors, 'blocks.0.att.key.weight');
  const version = versionOf(tensors);
  return {
    model_type: `rwkv${version}`,
    n_layer: countLayers(tensors),
    n_embd: width,
    vocab_size: vocabSize,
    ...(dimAtt !== width && { dim_att: dimAtt }),
    head_size: headSize(tensors, version, dimAtt),
    dim_ffn: dimFfn,
    // RWKV-5 and 6 divide the heads' output by 8 before the group norm; no file records it.
    head_size_divisor: version === 5 || version === 6 ? 8 : null,
    ...ranks(tensors, version),
  };
}

/** Matrices (width, rank) of a low-rank product, and the config key of that rank. */
const lowRank: Partial<Record<number, Record<string, string>>> = {
  6: { d_mix_lora: 'time_maa_w1', d_decay_lora: 'time_decay_w1' },
  7: { d_decay_lora: 'w1', d_aaa_lora: 'a1', d_mv_lora: 'v1', d_gate_lora: 'g1' },
};

/** The ranks that all layers share; of others each layer's shapes tell. */
function ranks(tensors: Tensors, version: number): Record<string, number> {
  const found: Record<string, number> = {};
  for (const [key, matrix] of Object.entries(lowRank[version] ?? {})) {
    const columns = new Set<number | undefined>();
    for (const { name, shape } of tensors.values()) if (name.endsWith(`.att.${matrix}`)) columns.add(shape[1]);
    const [rank] = columns;
    // The five mixes of RWKV-6 lie side by side.
    const of = rank === undefined ? 0 : key === 'd_mix_lora' ? rank / 5 : rank;
    if (columns.size === 1 && Number.isInteger(of) && of > 0) found[key] = of;
  }
  return found;
}

/** Each version brought a tensor that the others lack. */
function versionOf(tensors: Tensors): 4 | 5 | 6 | 7 {
  const has = (name: string) => tensors.has(`blocks.0.att.${name}`);
  if (has('r_k')) return 7;
  if (has('time_maa_x')) return 6;
  if (has('time_faaaa') && has('gate.weight')) return 5;
  if (has('ln_x.weight')) {
    throw new StatespaceError(
      'ERR_UNSUPPORTED_MODEL',
      `${tensors.get('emb.weight')!.file}: expected RWKV 4, 5.2, 6 or 7, received an RWKV 5.0 or 5.1 (att.ln_x without att.time_faaaa and att.gate)`,
    );
  }
  if (has('time_first')) return 4;
  throw new StatespaceError(
    'ERR_UNSUPPORTED_MODEL',
    `${tensors.get('emb.weight')!.file}: expected one of blocks.0.att.r_k (RWKV-7), time_maa_x (6), time_faaaa (5), time_first (4), received none`,
  );
}

function headSize(tensors: Tensors, version: 4 | 5 | 6 | 7, dimAtt: number): number | null {
  if (version === 4) return null;
  const name = `blocks.0.att.${version === 7 ? 'r_k' : 'time_faaaa'}`;
  const [heads, size] = matrix(tensors, name); // (heads, head size)
  if (heads * size !== dimAtt) {
    throw mismatchOf(tensors, name, `heads × size to be the ${dimAtt} rows of blocks.0.att.key.weight`);
  }
  return size;
}

function countLayers(tensors: Tensors): number {
  let layers = 0;
  while (tensors.has(`blocks.${layers}.ln1.weight`)) layers++;
  for (const name of tensors.keys()) {
    const index = /^blocks\.(\d+)\./.exec(name)?.[1];
    if (index !== undefined && Number(index) >= layers) {
      throw mismatchOf(tensors, name, `a blocks.${layers}.ln1.weight before it`);
    }
  }
  return layers;
}

function matrix(tensors: Tensors, name: string): [number, number] {
  const tensor = tensors.get(name);
  const [rows, columns, ...rest] = tensor?.shape ?? [];
  if (rows === undefined || columns === undefined || rest.length > 0) {
    throw mismatchOf(tensors, name, 'a matrix');
  }
  return [rows, columns];
}

function mismatchOf(tensors: Tensors, name: string, wanted: string) {
  const shape = tensors.get(name)?.shape;
  return checkpointError(
    `${tensors.get('emb.weight')!.file}: tensor ${show(name)}`,
    `expected ${wanted}, received ${shape === undefined ? 'no such tensor' : `shape ${show(shape)}`}`,
  );
}
