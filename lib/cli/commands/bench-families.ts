import { type Command, Option } from 'commander';
import { type FamilyShape, SHAPES } from '../../../bench/families/configs.js';
import { keepsBounds, printFamilies } from '../../../bench/families/print.js';
import { type FamiliesSettings, runFamilies } from '../../../bench/families/run.js';
import { library } from '../../../bench/library.js';
import { describeMachine } from '../../../bench/machine.js';
import { UsageError } from '../errors.js';
import { writeOutput } from '../files.js';
import { parseLength, parsePositive } from '../parse.js';
import { progress, write } from '../terminal.js';

interface Options extends FamiliesSettings {
  only?: string[];
  threads?: number;
  json?: string;
  check?: boolean;
}

export function addBenchFamilies(bench: Command, signal: AbortSignal): void {
  bench
    .command('families')
    .description('Every family at the sizes of a published model: what share of products and reads it reaches.')
    .option('--only <list>', `of ${SHAPES.map(({ name }) => name).join(', ')} (default: all)`, (text: string) =>
      text.split(','),
    )
    .option('--tokens <n>', 'of the prompt', parseLength, 2048)
    .option('--steps <n>', 'tokens one by one after it', parsePositive, 16)
    .option('--reps <n>', 'prompts of each family, with the steps after it', parsePositive, 3)
    .addOption(new Option('--dtype <type>', 'type that matrices are held in').choices(['bf16', 'f32']).default('bf16'))
    .option('--threads <n>', 'compute threads (default: physical cores)', parsePositive)
    .option('--json <file>', 'also write everything measured')
    .option('--check', 'exit with 1 where a family misses a bound')
    .addHelpText(
      'after',
      `
Weights are random, layers as many as show every kind of the family's. A family takes some seconds.

Example:
  $ statespace bench families --only mamba2,qwen3_5_text --check`,
    )
    .action((options: Options) => measure(options, signal));
}

function chosen(only: string[] | undefined): FamilyShape[] {
  if (only === undefined) return [...SHAPES];
  return only.map((name) => {
    const found = SHAPES.find((shape) => shape.name === name);
    if (!found) throw new UsageError(`--only: "${name}" is none of ${SHAPES.map((s) => s.name).join(', ')}`);
    return found;
  });
}

async function measure(options: Options, signal: AbortSignal): Promise<void> {
  const shapes = chosen(options.only);
  const { tokens, steps, reps, dtype, threads, json, check } = options;
  const { setThreads, systemInfo } = library();
  const { limits } = require('../../limits.js') as typeof import('../../limits.js');
  if (threads !== undefined) setThreads(threads);
  const bar = progress('bench families');
  try {
    const report = await runFamilies(
      shapes,
      { tokens, steps, reps, dtype },
      {
        command: ['statespace', ...process.argv.slice(2)].join(' '),
        machine: describeMachine(systemInfo()),
        meter: limits,
        signal,
        onProgress: (fraction, note) => bar.update(fraction, note),
      },
    );
    bar.stop();
    if (json !== undefined) writeOutput(json, `${JSON.stringify(report, null, 2)}\n`);
    write(printFamilies(report));
    if (check && report.families.some((family) => !keepsBounds(family, report.bounds))) process.exitCode = 1;
  } finally {
    bar.stop();
  }
}
