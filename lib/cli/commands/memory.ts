import type { Command } from 'commander';
import { formatBytes, group } from '../../../bench/format.js';
import { library } from '../../../bench/library.js';
import { labelled, renderTable, wrap } from '../../../bench/table.js';
import { UsageError } from '../errors.js';
import { isCheckpoint, readModelConfig } from '../files.js';
import { parseCount, parseLengths, parsePositive } from '../parse.js';
import { colours, write } from '../terminal.js';

interface Options {
  lengths: number[];
  layers: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  bytes: number;
  batch: number;
  dState: number;
  json?: boolean;
}

// 1,000,000 beside 1M = 2^20: both are called a million.
const LENGTHS = [1024, 4096, 16384, 65536, 131072, 262144, 1_000_000, 1_048_576];

export interface MemoryRow {
  tokens: number;
  /** L² scores of one head of one layer, and of all heads of one layer. */
  matrixOneHead: number;
  matrixOneLayer: number;
  /** Keys and values of all layers when every query head has its own, and with grouped-query attention. */
  kvAllHeads: number;
  kvGrouped: number;
}

export function memoryRow(tokens: number, o: Omit<Options, 'lengths' | 'json' | 'dState'>): MemoryRow {
  const scores = tokens * tokens * o.bytes;
  const perHead = 2 * o.layers * o.headDim * o.bytes * o.batch * tokens;
  return {
    tokens,
    matrixOneHead: scores,
    matrixOneLayer: scores * o.heads * o.batch,
    kvAllHeads: perHead * o.heads,
    kvGrouped: perHead * o.kvHeads,
  };
}

/** State of a Mamba of the same width and depth: f32 states and the inputs that its convolution still needs. */
export function mambaStateBytes(o: Pick<Options, 'layers' | 'heads' | 'headDim' | 'batch' | 'dState'>): number {
  const dInner = 2 * o.heads * o.headDim;
  return o.batch * o.layers * dInner * (o.dState + 3) * 4;
}

export function addMemory(program: Command): void {
  program
    .command('memory [model]')
    .description(
      'Print what attention needs to remember: score matrix and KV cache over length; of a model: weights and sessions.',
    )
    .option('--lengths <list>', 'tokens; K = 1,024, M = 1,048,576, a..b doubles', parseLengths, LENGTHS)
    .option('--layers <n>', 'layers that hold a KV cache', parsePositive, 80)
    .option('--heads <n>', 'query heads', parsePositive, 64)
    .option('--kv-heads <n>', 'key-value heads of grouped-query attention (GQA)', parsePositive, 8)
    .option('--head-dim <n>', 'channels of a head', parsePositive, 128)
    .option('--bytes <n>', 'bytes per number: 2 for FP16 and BF16, 4 for FP32', parsePositive, 2)
    .option('--batch <n>', 'sequences at once', parsePositive, 1)
    .option('--d-state <n>', 'states per channel of the Mamba in the last line', parseCount, 16)
    .option('--json', 'print JSON instead of tables')
    .addHelpText(
      'after',
      `
The defaults are the dimensions of Llama 2 70B. Sizes are binary: 1 MiB = 2^20 bytes (often written MB).

Examples:
  $ statespace memory
  $ statespace memory ./granite-4.q4_K_M.gguf --batch 16
  $ statespace memory --layers 32 --heads 32 --kv-heads 8 --lengths 4K..1M
  $ statespace memory --lengths 1000000 --json`,
    )
    .action((model: string | undefined, options: Options) =>
      model === undefined ? print(options) : ofModel(model, options),
    );
}

/** Weights as a model holds them, and its sessions over length. Headers are read. */
async function ofModel(path: string, { lengths, batch, json }: Options): Promise<void> {
  const config = await readModelConfig(path);
  const { describeModel } = library();
  const checkpoint = (await isCheckpoint(path)) ? await describeModel(path) : undefined;
  const model = checkpoint ?? describeModel(config);
  const weights = checkpoint?.bytes ?? null;
  const rows = lengths.map((tokens) => {
    const { state, kvCache, total } = model.sessionBytes(tokens);
    return { tokens, state: batch * state, kvCache: batch * kvCache, sessions: batch * total };
  });
  if (json) {
    write(JSON.stringify({ modelType: model.modelType, batch, weights, rows }, null, 2));
    return;
  }
  const held = weights?.held ?? 0;
  const table = renderTable(
    ['tokens', 'state', 'KV cache', 'sessions', ...(weights ? ['with weights'] : [])].map((title) => ({ title })),
    rows.map((r) => [
      group(r.tokens),
      ...[r.state, r.kvCache, r.sessions, ...(weights ? [r.sessions + held] : [])].map(formatBytes),
    ]),
  );
  const { bold, dim } = colours();
  const told = weights ? `${formatBytes(weights.stored)} in files, ${formatBytes(held)} held` : 'none there';
  const sequences = batch === 1 ? 'one session' : `${batch} sessions`;
  write(
    [bold(path), labelled('weights', told, 9, 100), '', dim(`${sequences} after so many tokens each`), table].join(
      '\n',
    ),
  );
}

function print(o: Options): void {
  if (o.heads % o.kvHeads !== 0) {
    throw new UsageError(`--heads ${o.heads} is no multiple of --kv-heads ${o.kvHeads}`);
  }
  const rows = o.lengths.map((tokens) => memoryRow(tokens, o));
  const state = mambaStateBytes(o);
  const { lengths: _, json, ...assumptions } = o;
  if (json) {
    write(JSON.stringify({ assumptions, rows, mambaState: state }, null, 2));
    return;
  }
  const { bold, dim } = colours();
  const precision = { 1: 'INT8', 2: 'FP16', 4: 'FP32' }[o.bytes] ?? `${o.bytes}-byte numbers`;
  const sequences = o.batch === 1 ? 'one sequence' : `${o.batch} sequences`;
  const matrix = renderTable(
    [{ title: 'tokens L' }, { title: 'one head' }, { title: `${o.heads} heads, ${sequences}` }],
    rows.map((row) => [group(row.tokens), formatBytes(row.matrixOneHead), formatBytes(row.matrixOneLayer)]),
  );
  const cache = renderTable(
    [{ title: 'tokens L' }, { title: `all ${o.heads} heads` }, { title: `GQA, ${o.kvHeads} KV heads` }],
    rows.map((row) => [group(row.tokens), formatBytes(row.kvAllHeads), formatBytes(row.kvGrouped)]),
  );
  const note = (text: string) => dim(wrap(text, 100));
  write(
    [
      bold(wrap(`Attention matrix of one layer, ${precision}`)),
      note(
        `Assumes that all scores exist at once: L² · ${o.bytes} bytes per head and sequence, no mask saved, one layer at ` +
          `a time. Tiled attention never holds them: its working memory does not grow with L².`,
      ),
      '',
      matrix,
      '',
      bold(`KV cache of the whole model, ${precision}`),
      note(
        `Assumes 2 (keys and values) · ${o.layers} layers · heads · ${o.headDim} channels · ${o.bytes} bytes per token, ` +
          `${sequences}, no sliding window. All heads: ${o.heads}; grouped-query attention stores ${o.kvHeads}.`,
      ),
      '',
      cache,
      '',
      note(
        `For comparison, a Mamba of this width and depth remembers ${formatBytes(state)} at any length: ${o.layers} layers · ` +
          `${group(2 * o.heads * o.headDim)} channels (expand 2) · (${o.dState} states + 3 conv inputs) · 4 bytes, ${sequences}.`,
      ),
      note('1 MiB = 2^20 bytes (often written MB); 1 GiB = 1,024 MiB, 1 TiB = 1,024 GiB.'),
    ].join('\n'),
  );
}
