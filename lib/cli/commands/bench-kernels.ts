import type { Command } from 'commander';
import { kernelsPage } from '../../../bench/html/reports.js';
import type { KernelCase } from '../../../bench/kernels/kernel.js';
import { KERNELS } from '../../../bench/kernels/kernels.js';
import { selectCases } from '../../../bench/kernels/parse.js';
import { printKernels } from '../../../bench/kernels/print.js';
import { runKernels } from '../../../bench/kernels/run.js';
import { UsageError } from '../errors.js';
import { parseLeast, parsePositive } from '../parse.js';
import { addReportFiles, checkReportFiles, type ReportFiles, writeReport } from '../report-files.js';
import { colours } from '../terminal.js';
import { againstLimits } from './against-limits.js';

interface Options extends ReportFiles {
  only?: string[];
  shape?: string[];
  reps: number;
  threads?: number;
}

const LEAST_REPS = 5;

export function addBenchKernels(bench: Command, signal: AbortSignal): void {
  addReportFiles(bench.command('kernels'))
    .description("Every kernel's speed beside what this machine can do at most, measured in the same run.")
    .option('--only <list>', `of ${KERNELS.map((kernel) => kernel.name).join(', ')} (default: all)`, (text: string) =>
      text.split(','),
    )
    .option(
      '--shape <kernel:sizes>',
      'a shape instead of the usual ones, as scan:D=768,N=64,L=4096 or linear:rows=1,dtype=bf16; may be repeated',
      (text: string, earlier: string[] = []) => [...earlier, text],
    )
    .option('--reps <n>', `samples of each case, at least ${LEAST_REPS}`, parseLeast(LEAST_REPS), 7)
    .option('--threads <n>', 'compute threads (default: physical cores)', parsePositive)
    .addHelpText(
      'after',
      `
Every result is compared with its definition in double precision first; a wrong one ends the run (exit code 1).

Examples:
  $ statespace bench kernels
  $ statespace bench kernels --only scan,linear
  $ statespace bench kernels --shape scan:D=2048,N=64 --shape attention:L=16384,dtype=bf16 --json kernels.json`,
    )
    .action((options: Options) => kernels(options, signal));
}

async function kernels(options: Options, signal: AbortSignal): Promise<void> {
  const cases = chosenCases(options);
  checkReportFiles(options);
  const report = await againstLimits('bench kernels', options.threads, signal, (about) =>
    runKernels(cases, { reps: options.reps, ...about }),
  );
  writeReport(options, report, kernelsPage, printKernels(report, { colours: colours() }));
}

export function chosenCases({ only, shape }: Pick<Options, 'only' | 'shape'>): KernelCase[] {
  try {
    return selectCases(KERNELS, { only, shapes: shape });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}
