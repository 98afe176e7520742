/** What the benchmarks share that hold ratios of models of one size against bounds. */
import type { Command } from 'commander';
import type { CallResult } from '../../../bench/calls/case.js';
import { boundsTable } from '../../../bench/calls/table.js';
import { library } from '../../../bench/library.js';
import { describeMachine } from '../../../bench/machine.js';
import { UsageError } from '../errors.js';
import { writeOutput } from '../files.js';
import { parseAmount, parsePositive } from '../parse.js';
import { writeText } from '../report-files.js';

export interface BoundsOptions {
  only?: string[];
  parameters: number;
  dModel: number;
  vocabulary: number;
  json?: string;
  check?: boolean;
}

/** Which of the groups to measure, and the size of the models. */
export function addSizeOptions(command: Command, groups: readonly string[]): Command {
  return command
    .option('--only <list>', `of ${groups.join(', ')} (default: all)`, (text: string) => text.split(','))
    .option('--parameters <n>', 'size of the models; the number of layers follows', parseAmount, 130e6)
    .option('--d-model <n>', 'width of the models, a multiple of 64', parsePositive, 768)
    .option('--vocabulary <n>', 'tokens of the vocabulary', parsePositive, 50280);
}

export function addReportOptions(command: Command): Command {
  return command
    .option('--json <file>', 'also write everything measured; - is standard output')
    .option('--check', 'exit with 1 where a bound is not kept');
}

/** Throws UsageError for a name that is none of these. */
export function checkOnly(only: readonly string[] | undefined, names: readonly string[]): void {
  const unknown = only?.find((name) => !names.includes(name));
  if (unknown !== undefined) throw new UsageError(`--only: "${unknown}" is none of ${names.join(', ')}`);
}

/** Throws UsageError for a group that does not exist, or a width that no model has. */
export function checkBoundsOptions({ only, dModel }: BoundsOptions, groups: readonly string[]): void {
  checkOnly(only, groups);
  if (dModel % 64 !== 0) throw new UsageError(`--d-model ${dModel} is no multiple of 64`);
}

/** Writes the results, and with --check fails where one misses its bound. */
export function reportBounds(options: BoundsOptions, results: readonly CallResult[]): void {
  const { parameters, dModel, vocabulary, json, check } = options;
  if (json !== undefined) {
    const machine = describeMachine(library().systemInfo());
    const size = { parameters, dModel, vocabulary };
    writeOutput(json, `${JSON.stringify({ machine, size, results }, null, 2)}\n`);
  }
  writeText(boundsTable(results), json);
  if (check && results.some((r) => !r.kept)) process.exitCode = 1;
}
