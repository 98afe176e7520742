import type { Command } from 'commander';
import { type CallResult, runCases } from '../../../bench/calls/case.js';
import { modelOf } from '../../../bench/calls/sessions.js';
import { boundsTable } from '../../../bench/calls/table.js';
import { library, type Model } from '../../../bench/library.js';
import { describeMachine } from '../../../bench/machine.js';
import { clientCases } from '../../../bench/serving/clients.js';
import { prefixCases } from '../../../bench/serving/prefix.js';
import { UsageError } from '../errors.js';
import { writeOutput } from '../files.js';
import { parseAmount, parsePositive } from '../parse.js';
import { progress, write } from '../terminal.js';

interface Options {
  only?: string[];
  families: string[];
  parameters: number;
  dModel: number;
  vocabulary: number;
  clients: number;
  longest: number;
  generated: number;
  prefix: number;
  rounds: number;
  redis?: string;
  json?: string;
  check?: boolean;
}

const GROUPS = ['rate', 'gap', 'prefix'];
const list = (text: string): string[] => text.split(',');

export function addBenchServing(bench: Command, signal: AbortSignal): void {
  bench
    .command('serving')
    .description('What an engine gives its clients beside forwardBatch, and what it saves them, each with its bound.')
    .option('--only <list>', `of ${GROUPS.join(', ')} (default: all)`, list)
    .option('--families <list>', 'as in bench models', list, ['mamba', 'jamba'])
    .option('--parameters <n>', 'size of the models; the number of layers follows', parseAmount, 130e6)
    .option('--d-model <n>', 'width of the models, a multiple of 64', parsePositive, 768)
    .option('--vocabulary <n>', 'tokens of the vocabulary', parsePositive, 50280)
    .option('--clients <n>', 'requests at once', parsePositive, 64)
    .option('--longest <n>', 'tokens of the longest prompt', parsePositive, 4000)
    .option('--generated <n>', 'tokens that each client gets', parsePositive, 32)
    .option('--prefix <n>', 'tokens that two requests share', parsePositive, 8192)
    .option('--rounds <n>', 'of each contender, in turn', parsePositive, 3)
    .option('--redis <url>', 'an empty database, for the row of another process')
    .option('--json <file>', 'also write everything measured')
    .option('--check', 'exit with 1 where a bound is not kept')
    .addHelpText('after', '\nExample:\n  $ statespace bench serving --only gap --families mamba --check')
    .action((options: Options) => measure(options, signal));
}

async function measure(options: Options, signal: AbortSignal): Promise<void> {
  const { only = GROUPS, families, parameters, dModel, vocabulary, redis } = options;
  const unknown = only.find((name) => !GROUPS.includes(name));
  if (unknown !== undefined) throw new UsageError(`--only: "${unknown}" is none of ${GROUPS.join(', ')}`);
  if (dModel % 64 !== 0) throw new UsageError(`--d-model ${dModel} is no multiple of 64`);
  if (only.includes('prefix') && redis === undefined)
    write('no row of another process: it needs --redis URL\n', process.stderr);
  const size = { parameters, dModel, vocabulary };
  const bar = progress('bench serving');
  const results: CallResult[] = [];
  try {
    for (const family of families) {
      let model: Promise<Model> | undefined;
      const of = () => (model ??= modelOf(family, size, 'bf16', 2 * options.longest + 4096));
      const job = { family, size, dtype: 'bf16' as const, prefix: options.prefix };
      const cases = [...clientCases(family, of, options), ...prefixCases(family, job, redis)];
      const chosen = cases.filter(({ group }) => only.includes(group));
      const update = (done: number, name: string) => bar.update(done / chosen.length, `${family}: ${name}`);
      results.push(...(await runCases(chosen, update, signal)));
      await (await (model as Promise<Model> | undefined))?.dispose();
    }
  } finally {
    bar.stop();
  }
  if (options.json !== undefined) {
    const machine = describeMachine(library().systemInfo());
    writeOutput(options.json, `${JSON.stringify({ machine, size, results }, null, 2)}\n`);
  }
  write(boundsTable(results));
  if (options.check && results.some((r) => !r.kept)) process.exitCode = 1;
}
