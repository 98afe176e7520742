import { type Command, Option } from 'commander';
import { SHAPES } from '../../../bench/families/configs.js';
import { keepsBounds, printFamilies } from '../../../bench/families/print.js';
import { type FamiliesSettings, runFamilies } from '../../../bench/families/run.js';
import { writeOutput } from '../files.js';
import { parseLength, parsePositive } from '../parse.js';
import { write } from '../terminal.js';
import { againstLimits } from './against-limits.js';
import { addReportOptions, checkOnly } from './bounds.js';

const NAMES = SHAPES.map(({ name }) => name);

interface Options extends FamiliesSettings {
  only?: string[];
  threads?: number;
  json?: string;
  check?: boolean;
}

export function addBenchFamilies(bench: Command, signal: AbortSignal): void {
  const command = bench.command('families');
  command
    .description('Every family at the sizes of a published model: what share of products and reads it reaches.')
    .option('--only <list>', `of ${NAMES.join(', ')} (default: all)`, (text: string) => text.split(','))
    .option('--tokens <n>', 'of the prompt', parseLength, 2048)
    .option('--steps <n>', 'tokens one by one after it', parsePositive, 16)
    .option('--reps <n>', 'prompts of each family, with the steps after it', parsePositive, 3)
    .addOption(new Option('--dtype <type>', 'type that matrices are held in').choices(['bf16', 'f32']).default('bf16'))
    .option('--threads <n>', 'compute threads (default: physical cores)', parsePositive);
  addReportOptions(command)
    .addHelpText(
      'after',
      `
Weights are random, layers as many as show every kind of the family's. A family takes some seconds.

Example:
  $ statespace bench families --only mamba2,qwen3_5_text --check`,
    )
    .action((options: Options) => measure(options, signal));
}

async function measure(options: Options, signal: AbortSignal): Promise<void> {
  checkOnly(options.only, NAMES);
  const { only = NAMES, tokens, steps, reps, dtype, threads, json, check } = options;
  const shapes = SHAPES.filter(({ name }) => only.includes(name));
  const report = await againstLimits('bench families', threads, signal, (about) =>
    runFamilies(shapes, { tokens, steps, reps, dtype }, about),
  );
  if (json !== undefined) writeOutput(json, `${JSON.stringify(report, null, 2)}\n`);
  write(printFamilies(report));
  if (check && report.families.some((family) => !keepsBounds(family, report.bounds))) process.exitCode = 1;
}
