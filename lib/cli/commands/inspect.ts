import { basename, resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { formatBytes, formatCount, group } from '../../../bench/format.js';
import { type CheckpointDescription, type DType, library, type ModelDescription } from '../../../bench/library.js';
import { availableMemory } from '../../../bench/machine.js';
import { labelled, renderTable, wrap } from '../../../bench/table.js';
import { isCheckpoint, readModelConfig } from '../files.js';
import { parseLengths } from '../parse.js';
import { colours, write } from '../terminal.js';

interface Options {
  lengths: number[];
  dtype: DType;
  json?: boolean;
}

const CONTEXTS = [4096, 16384, 65536, 131072, 262144, 1_000_000];

export function addInspect(program: Command): void {
  program
    .command('inspect <model>')
    .description(
      'Print what a checkpoint folder, a GGUF file or a config.json describes: family, layers, parameters, session memory.',
    )
    .option('--lengths <list>', 'context lengths in tokens; K = 1,024, M = 1,048,576', parseLengths, CONTEXTS)
    .addOption(
      new Option('--dtype <type>', 'type of the KV cache (recurrent states are always f32)')
        .choices(['f32', 'f16', 'bf16'])
        .default('f16'),
    )
    .option('--json', 'print JSON instead of text')
    .addHelpText(
      'after',
      `
Reads headers and the configuration: no weights. Of a folder or a GGUF file (a split one: its first) it tells what types
tensors are stored in, and what a model holds them in. What will fit is told by the memory that is free now; a model that
must hold all weights and one session.

Examples:
  $ statespace inspect ./jamba-v0.1
  $ statespace inspect ./granite-4.q4_K_M.gguf
  $ statespace inspect config.json --dtype f32 --json`,
    )
    .action((path: string, options: Options) => inspect(path, options));
}

/** A checkpoint where there is one, else what its config says. */
async function described(path: string): Promise<{ model: ModelDescription; checkpoint?: CheckpointDescription }> {
  const config = await readModelConfig(path);
  const { describeModel } = library();
  if (!(await isCheckpoint(path))) return { model: describeModel(config) };
  const checkpoint = await describeModel(path);
  return { model: checkpoint, checkpoint };
}

/** Types that are stored, and what they are held in, the largest share first. */
function weightLines({ tensors, bytes }: CheckpointDescription): string[] {
  const shares = new Map<string, number>();
  for (const { shape, stored, held } of tensors) {
    const kind = held === null ? `${stored} unread` : held === stored ? stored : `${stored} held in ${held}`;
    shares.set(kind, (shares.get(kind) ?? 0) + shape.reduce((a, b) => a * b, 1));
  }
  const stored = formatBytes(bytes.stored);
  const listed = [...shares].sort((a, b) => b[1] - a[1]).map(([kind, n]) => `${kind} ${formatCount(n)}`);
  return [
    labelled('weights', `${tensors.length} tensors, ${stored} stored, ${formatBytes(bytes.held)} held`, 12, 100),
    labelled('types', listed.join(', '), 12, 100),
  ];
}

async function inspect(path: string, { lengths, dtype, json }: Options): Promise<void> {
  const { model, checkpoint } = await described(path);
  const sessions = lengths.map((tokens) => ({
    tokens,
    ...model.sessionBytes(tokens, dtype),
    flopsPerToken: model.flopsPerToken(tokens),
  }));
  const { modelType, parameters, layers } = model;
  const memory = fits(parameters.total, sessions);
  if (json) {
    const held = checkpoint && { bytes: checkpoint.bytes, tensors: checkpoint.tensors };
    write(JSON.stringify({ modelType, parameters, layers, memory, kvCacheDtype: dtype, sessions, ...held }, null, 2));
    return;
  }
  const { bold, dim } = colours();
  const { total, active } = parameters;
  const parameterText =
    total === active
      ? `${formatCount(total)} (${group(total)})`
      : `${formatCount(total)} (${group(total)}), ${formatCount(active)} active per token`;
  const table = renderTable(
    [{ title: 'tokens' }, { title: 'state' }, { title: 'KV cache' }, { title: 'session' }, { title: 'FLOPs/token' }],
    sessions.map((s) => [
      group(s.tokens),
      formatBytes(s.state),
      formatBytes(s.kvCache),
      formatBytes(s.total),
      formatCount(s.flopsPerToken),
    ]),
  );
  write(
    [
      bold(basename(resolve(path))),
      labelled('family', modelType, 12, 100),
      labelled('parameters', parameterText, 12, 100),
      labelled('layers', layers.map((layer) => `${layer.count} ${layer.kind}`).join(', '), 12, 100),
      ...(checkpoint ? weightLines(checkpoint) : []),
      '',
      memoryTable(memory),
      '',
      dim(wrap(`One session after so many tokens; KV cache in ${dtype}, recurrent state in f32. 1 GiB = 2^30 bytes.`)),
      dim(wrap('FLOPs of the next token: a multiply and an add count as two.')),
      '',
      table,
    ].join('\n'),
  );
}

/** Bytes of a weight; blocks of 32 values carry a scale of two bytes. */
const HELD = { f32: 4, bf16: 2, q8_0: 34 / 32, q4_0: 18 / 32 };
type Held = keyof typeof HELD;

interface Memory {
  availableBytes: number;
  /** All weights in this type, and the longest of the sessions for which there is room beside them. */
  weights: { dtype: Held; bytes: number; fits: boolean; tokens: number | null }[];
}

function fits(parameters: number, sessions: { tokens: number; total: number }[]): Memory {
  const availableBytes = availableMemory();
  const weights = (Object.keys(HELD) as Held[]).map((dtype) => {
    const bytes = Math.ceil(parameters * HELD[dtype]);
    const longest = sessions.findLast((s) => bytes + s.total <= availableBytes);
    return { dtype, bytes, fits: bytes <= availableBytes, tokens: longest?.tokens ?? null };
  });
  return { availableBytes, weights };
}

/** Whether it will fit here. */
function memoryTable({ availableBytes, weights }: Memory): string {
  const room = ({ fits, tokens }: Memory['weights'][number]) => {
    if (!fits) return 'too large';
    return tokens === null ? 'fit, without a session' : `fit, and ${group(tokens)} tokens`;
  };
  return renderTable(
    [
      { title: 'weights in', align: 'left' },
      { title: 'take' },
      { title: `in ${formatBytes(availableBytes)} that are free here`, align: 'left' },
    ],
    weights.map((w) => [w.dtype, formatBytes(w.bytes), room(w)]),
  );
}
