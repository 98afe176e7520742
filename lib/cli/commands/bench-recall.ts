import type { Command } from 'commander';
import { recallPage } from '../../../bench/html/reports.js';
import { library } from '../../../bench/library.js';
import { describeMachine } from '../../../bench/machine.js';
import { CONTENDERS } from '../../../bench/recall/models.js';
import { printRecall } from '../../../bench/recall/print.js';
import { type RecallSettings, runRecall } from '../../../bench/recall/run.js';
import { TASKS } from '../../../bench/recall/tasks.js';
import { UsageError } from '../errors.js';
import { parseAmount, parseCount, parseLength, parseNumber, parsePositive } from '../parse.js';
import { addReportFiles, checkReportFiles, type ReportFiles, writeReport } from '../report-files.js';
import { progress } from '../terminal.js';

interface Options extends ReportFiles, RecallSettings {
  models?: string[];
  tasks?: string[];
  threads?: number;
}

/** Widths of heads divide it. */
const HEAD = 16;
const LEAST_LENGTH = 16;
const LEAST_VOCABULARY = 8;

const names = (text: string) => text.split(',').map((name) => name.trim());

export function addBenchRecall(bench: Command, signal: AbortSignal): void {
  const known = (of: readonly { name: string }[]) => of.map(({ name }) => name).join(', ');
  addReportFiles(bench.command('recall'))
    .description('What small models of equal size remember once trained: accuracy beside bytes of state and speed.')
    .option('--models <list>', `of ${known(CONTENDERS)} (default: all)`, names)
    .option('--tasks <list>', `of ${known(TASKS)} (default: all)`, names)
    .option('--parameters <n>', 'size of every model; k, M', parseAmount, 100e3)
    .option('--d-model <n>', `width, a multiple of ${HEAD}`, parsePositive, 64)
    .option('--layers <n>', 'hybrids of a longer period are left out', parsePositive, 2)
    .option('--length <n>', 'tokens of a sequence', parseLength, 32)
    .option('--vocabulary <n>', 'tokens of the vocabulary', parsePositive, 24)
    .option('--steps <n>', 'steps of training', parsePositive, 400)
    .option('--batch <n>', 'sequences in a step', parsePositive, 32)
    .option('--learning-rate <x>', 'after the warm-up', parseNumber(0), 3e-3)
    .option('--asked <n>', 'new sequences at the end', parsePositive, 128)
    .option('--seed <n>', 'of weights and sequences', parseCount, 1)
    .option('--threads <n>', 'compute threads (default: physical cores)', parsePositive)
    .addHelpText(
      'after',
      `
Each model is trained on each task by itself, from the start. Results are the same for a seed; speeds are this machine's.

Examples:
  $ statespace bench recall --html recall.html
  $ statespace bench recall --layers 8 --parameters 400K --models attention,mamba2,mamba2-1:7 --tasks mqar`,
    )
    .action((options: Options) => benchRecall(options, signal));
}

function chosen<T extends { name: string }>(flag: string, all: readonly T[], given: string[] | undefined): T[] {
  return (given ?? all.map(({ name }) => name)).map((name) => {
    const found = all.find((one) => one.name === name);
    if (!found) throw new UsageError(`${flag}: "${name}" is none of ${all.map((one) => one.name).join(', ')}`);
    return found;
  });
}

async function benchRecall(options: Options, signal: AbortSignal): Promise<void> {
  const { dModel, layers, length, vocabulary, parameters, steps, batch, learningRate, asked, seed } = options;
  if (dModel % HEAD !== 0) throw new UsageError(`--d-model ${dModel} is no multiple of ${HEAD}`);
  if (length < LEAST_LENGTH) throw new UsageError(`--length ${length}: the tasks need ${LEAST_LENGTH} tokens`);
  if (vocabulary < LEAST_VOCABULARY) throw new UsageError(`--vocabulary ${vocabulary}: they need ${LEAST_VOCABULARY}`);
  const wanted = chosen('--models', CONTENDERS, options.models);
  const long = wanted.find(({ period = 1 }) => period > layers);
  if (long && options.models)
    throw new UsageError(`${long.name} has an attention layer in ${long.period}: --layers ${layers}`);
  const contenders = wanted.filter(({ period = 1 }) => period <= layers);
  const tasks = chosen('--tasks', TASKS, options.tasks);
  checkReportFiles(options);
  const lib = library();
  if (options.threads !== undefined) lib.setThreads(options.threads);
  const bar = progress('bench recall');
  try {
    const report = await runRecall(
      contenders,
      tasks,
      { dModel, layers, length, vocabulary, parameters, steps, batch, learningRate, asked, seed },
      {
        command: ['statespace', ...process.argv.slice(2)].join(' '),
        machine: describeMachine(lib.systemInfo()),
        signal,
        onProgress: (fraction, note) => bar.update(fraction, note),
      },
    );
    bar.stop();
    writeReport(options, report, recallPage, printRecall(report));
  } finally {
    bar.stop();
  }
}
