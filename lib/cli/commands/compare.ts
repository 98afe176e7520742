import { type Command, Option } from 'commander';
import { formatBytes, formatCount, group } from '../../../bench/format.js';
import { type DType, library } from '../../../bench/library.js';
import { type Comparison, compareModels } from '../../../bench/models/compare.js';
import { FAMILIES, sizedAll } from '../../../bench/models/families.js';
import { renderTable, wrap } from '../../../bench/table.js';
import { UsageError } from '../errors.js';
import { parseAmount, parseLengths, parsePositive } from '../parse.js';
import { colours, write } from '../terminal.js';

/** Nothing is allocated: the filters of a long convolution may be as long as any context. */
const LONGEST = 2 ** 31 - 1;

interface Options {
  parameters: number;
  dModel: number;
  vocabulary: number;
  headDim: number;
  kvHeads: number;
  lengths: number[];
  dtype: DType;
  json?: boolean;
}

export function addCompare(program: Command): void {
  program
    .command('compare')
    .description(
      'Compare architectures of equal size: parameters, FLOPs, cost orders, memory, and who wins from where.',
    )
    .option('--parameters <n>', 'size of every model, met as nearly as whole layers allow; k, M, B', parseAmount, 7e9)
    .option('--d-model <n>', 'width in channels', parsePositive, 4096)
    .option('--head-dim <n>', 'channels of an attention head', parsePositive, 128)
    .option('--kv-heads <n>', 'key-value heads (GQA)', parsePositive, 8)
    .option('--vocabulary <n>', 'tokens of the vocabulary', parsePositive, 65536)
    .option('--lengths <list>', 'contexts in tokens; K = 1,024, M = 1,048,576', parseLengths, [4096, 32768, 262144])
    .addOption(
      new Option('--dtype <type>', 'type of the KV cache (recurrent states are always f32)')
        .choices(['f32', 'f16', 'bf16'])
        .default('f16'),
    )
    .option('--json', 'print JSON instead of tables')
    .addHelpText(
      'after',
      `
From configurations alone: no weights, nothing is run. "bench models" measures the same on this machine.

Examples:
  $ statespace compare
  $ statespace compare --parameters 130M --d-model 768 --head-dim 64 --kv-heads 12 --lengths 1K..64K`,
    )
    .action((options: Options) => compare(options));
}

function compare(options: Options): void {
  const { parameters, dModel, vocabulary, headDim, kvHeads, lengths, dtype } = options;
  if (dModel % headDim !== 0) throw new UsageError(`--d-model ${dModel} is no multiple of --head-dim ${headDim}`);
  if ((dModel / headDim) % kvHeads !== 0) {
    throw new UsageError(`${dModel / headDim} heads (d-model / head-dim) are no multiple of --kv-heads ${kvHeads}`);
  }
  const lib = library();
  const supported = new Set(lib.supportedModels());
  const d = { dModel, vocabulary, headDim, kvHeads, longest: LONGEST };
  const families = FAMILIES.filter((family) => supported.has(family.modelType));
  const { models, leftOut } = sizedAll(lib, families, d, parameters);
  const comparisons = compareModels(lib, models, lengths, dtype);
  if (options.json) {
    write(JSON.stringify({ dimensions: d, parameters, kvCacheDtype: dtype, models: comparisons, leftOut }, null, 2));
    return;
  }
  print(comparisons, options);
  for (const { label, reason } of leftOut) write(wrap(`Left out: ${label}: ${reason}`));
}

function print(models: readonly Comparison[], { parameters, dModel, dtype, kvHeads }: Options): void {
  const { bold, dim } = colours();
  write(
    [
      bold(wrap(`Architectures of about ${formatCount(parameters)} parameters, ${group(dModel)} channels wide`)),
      '',
      renderTable(
        [
          { title: 'architecture', align: 'left' },
          { title: 'parameters' },
          { title: 'layers', align: 'left' },
          { title: 'prefill of N' },
          { title: 'next token' },
          { title: 'memory' },
        ],
        models.map((m) => [
          m.label,
          formatCount(m.parameters.total),
          m.layers.map((layer) => `${layer.count} ${layer.kind}`).join(', '),
          m.prefill,
          m.decode,
          m.memory,
        ]),
      ),
      '',
      costTable(models),
      '',
      dim(
        wrap(
          `FLOPs of one token after N others, a multiply and an add counting as two. State: recurrent and convolution state in ` +
            `f32; KV cache in ${dtype} with ${kvHeads} key-value heads; one sequence. T: tokens of a prompt's chunks. 1 GiB = 2^30 bytes.`,
        ),
      ),
      '',
      bold('Who wins from where'),
      ...models.flatMap((m) => winLines(m, models)).map((line) => wrap(`  ${line}`, 100, '    ')),
    ].join('\n'),
  );
}

function costTable(models: readonly Comparison[]): string {
  const rows: (string[] | null)[] = [];
  models[0]?.costs.forEach(({ context }, i) => {
    if (i > 0) rows.push(null);
    models.forEach((m, j) => {
      const c = m.costs[i]!;
      rows.push([
        j === 0 ? group(context) : '',
        m.label,
        formatCount(c.flopsPerToken),
        formatBytes(c.stateBytes),
        formatBytes(c.kvCacheBytes),
        formatBytes(c.sessionBytes),
      ]);
    });
  });
  return renderTable(
    [
      { title: 'N' },
      { title: 'architecture', align: 'left' },
      { title: 'FLOPs/token' },
      { title: 'state' },
      { title: 'KV cache' },
      { title: 'session' },
    ],
    rows,
  );
}

function winLines(m: Comparison, models: readonly Comparison[]): string[] {
  if (m.wins === null) return [];
  const reference = models.find((other) => other.kind === 'attention')!.label;
  const from = (context: number | null, what: string) =>
    context === null
      ? `${m.label} never needs ${what} than ${reference}.`
      : `${m.label} needs ${what} than ${reference} from ${group(context)} tokens on.`;
  return [from(m.wins.memory, 'less memory per session'), from(m.wins.flops, 'fewer FLOPs per token')];
}
