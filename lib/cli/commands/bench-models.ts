import { type Command, Option } from 'commander';
import { modelsPage } from '../../../bench/html/reports.js';
import { type DType, type Library, library } from '../../../bench/library.js';
import { describeMachine } from '../../../bench/machine.js';
import { expressible, FAMILIES, type Family, hybrid, type Ratio, sizedAll } from '../../../bench/models/families.js';
import { printModels } from '../../../bench/models/print.js';
import { runModels } from '../../../bench/models/run.js';
import { UsageError } from '../errors.js';
import { parseAmount, parseLengths, parseNumber, parsePositive, parseRatios } from '../parse.js';
import { addReportFiles, checkReportFiles, type ReportFiles, writeReport } from '../report-files.js';
import { colours, progress } from '../terminal.js';

interface Options extends ReportFiles {
  families?: string[];
  ratio?: Ratio[];
  parameters: number;
  dModel: number;
  vocabulary: number;
  lengths: number[];
  decode: number;
  reps: number;
  budget: number;
  dtype: DType;
  threads?: number;
}

const HEAD_DIM = 64;

export function addBenchModels(bench: Command, signal: AbortSignal): void {
  addReportFiles(bench.command('models'))
    .description('Whole models of equal size over context length: prefill and decode speed, peak and session memory.')
    .option(
      '--families <list>',
      `which to compare, of ${FAMILIES.map((family) => family.name).join(', ')} (default: all that are supported)`,
      (text: string) => text.split(',').map((name) => name.trim()),
    )
    .option(
      '--ratio <list>',
      'instead: a sweep of attention:Mamba layers in a hybrid, such as 1:0,1:1,1:3,1:7,0:1',
      parseRatios,
    )
    .option('--parameters <n>', 'size of every model, met as nearly as whole layers allow; k, M, B', parseAmount, 130e6)
    .option('--d-model <n>', `width in channels, a multiple of ${HEAD_DIM}`, parsePositive, 768)
    .option('--vocabulary <n>', 'tokens of the vocabulary', parsePositive, 50288)
    .option(
      '--lengths <list>',
      'context lengths in tokens; K = 1,024, a..b doubles',
      parseLengths,
      [512, 1024, 2048, 4096],
    )
    .option('--decode <n>', 'tokens to generate one by one after each prompt', parsePositive, 16)
    .option(
      '--reps <n>',
      'runs of each model at each length; at most 3 of what takes over 2 s, fewer near the end of the budget',
      parsePositive,
      5,
    )
    .option(
      '--budget <seconds>',
      'time for the whole run; what does not fit is skipped and says so',
      parseNumber(1),
      300,
    )
    .addOption(
      new Option('--dtype <type>', 'type that matrices are held in')
        .choices(['f32', 'f16', 'bf16', 'q8_0', 'q4_0'])
        .default('f32'),
    )
    .option('--threads <n>', 'compute threads (default: physical cores)', parsePositive)
    .addHelpText(
      'after',
      `
Weights are random: speed and memory do not depend on them. Every model runs in processes of its own, so that peak
memory is its own; it is checked first that one forward gives what single steps give.

Examples:
  $ statespace bench models
  $ statespace bench models --parameters 20M --d-model 384 --vocabulary 1024 --lengths 256..8K
  $ statespace bench models --ratio 1:0,1:1,1:3,1:7,0:1 --json ratio.json`,
    )
    .action((options: Options) => benchModels(options, signal));
}

async function benchModels(options: Options, signal: AbortSignal): Promise<void> {
  const { dModel, vocabulary, parameters } = options;
  if (dModel % HEAD_DIM !== 0) throw new UsageError(`--d-model ${dModel} is no multiple of ${HEAD_DIM}`);
  checkReportFiles(options);
  const lib = library();
  const families = chosen(lib, options);
  const d = { dModel, vocabulary, headDim: HEAD_DIM, kvHeads: dModel / HEAD_DIM, longest: longestOf(options) };
  if (options.threads !== undefined) lib.setThreads(options.threads);
  const { models, leftOut } = sizedAll(lib, families, d, parameters);
  const bar = progress('bench models');
  try {
    const report = await runModels(
      models,
      {
        contexts: options.lengths,
        decodeTokens: options.decode,
        reps: options.reps,
        dtype: options.dtype,
        threads: options.threads ?? null,
        budgetSeconds: options.budget,
      },
      {
        command: ['statespace', ...process.argv.slice(2)].join(' '),
        machine: describeMachine(lib.systemInfo()),
        signal,
        onProgress: (fraction, note) => bar.update(fraction, note),
      },
    );
    bar.stop();
    const out = leftOut.map(({ label, reason }) => `Left out: ${label}: ${reason}`);
    writeReport(options, report, modelsPage, [printModels(report, colours()), ...out].join('\n'));
  } finally {
    bar.stop();
  }
}

/** What a model must be made for: the longest prompt and what follows it, and the short runs that come first. */
function longestOf({ lengths, decode }: Options): number {
  return Math.max(128, ...lengths) + decode;
}

function chosen(lib: Library, { families, ratio }: Options): Family[] {
  const supported = new Set(lib.supportedModels());
  if (ratio !== undefined) {
    if (families !== undefined) throw new UsageError('--ratio and --families exclude each other');
    const odd = ratio.find((r) => !expressible(r));
    if (odd) {
      throw new UsageError(
        `--ratio ${odd.attention}:${odd.mamba}: Mamba layers must be a multiple of attention layers`,
      );
    }
    if (!supported.has('jamba'))
      throw new Error('--ratio needs the model type jamba, which this version does not have');
    return ratio.map(hybrid);
  }
  if (families === undefined) return FAMILIES.filter((family) => supported.has(family.modelType));
  return families.map((name) => {
    const family = FAMILIES.find((candidate) => candidate.name === name);
    const known = FAMILIES.map((candidate) => candidate.name).join(', ');
    if (family === undefined) throw new UsageError(`--families: "${name}" is none of ${known}`);
    if (!supported.has(family.modelType))
      throw new Error(`this version does not have the model type ${family.modelType}`);
    return family;
  });
}
