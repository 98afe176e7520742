import type { Command } from 'commander';
import { type CallResult, runCases } from '../../../bench/calls/case.js';
import { modelOf } from '../../../bench/calls/sessions.js';
import type { Model } from '../../../bench/library.js';
import { clientCases } from '../../../bench/serving/clients.js';
import { prefixCases } from '../../../bench/serving/prefix.js';
import { parsePositive } from '../parse.js';
import { progress, write } from '../terminal.js';
import { addReportOptions, addSizeOptions, type BoundsOptions, checkBoundsOptions, reportBounds } from './bounds.js';

interface Options extends BoundsOptions {
  families: string[];
  clients: number;
  longest: number;
  generated: number;
  prefix: number;
  rounds: number;
  redis?: string;
}

const GROUPS = ['rate', 'gap', 'prefix'];

export function addBenchServing(bench: Command, signal: AbortSignal): void {
  const command = bench.command('serving');
  addReportOptions(
    addSizeOptions(command, GROUPS)
      .description('What an engine gives its clients beside forwardBatch, and what it saves them, each with its bound.')
      .option('--families <list>', 'as in bench models', (text: string) => text.split(','), ['mamba', 'jamba'])
      .option('--clients <n>', 'requests at once', parsePositive, 64)
      .option('--longest <n>', 'tokens of the longest prompt', parsePositive, 4000)
      .option('--generated <n>', 'tokens that each client gets', parsePositive, 32)
      .option('--prefix <n>', 'tokens that two requests share', parsePositive, 8192)
      .option('--rounds <n>', 'of each contender, in turn', parsePositive, 3)
      .option('--redis <url>', 'an empty database, for the row of another process'),
  )
    .addHelpText('after', '\nExample:\n  $ statespace bench serving --only gap --families mamba --check')
    .action((options: Options) => measure(options, signal));
}

async function measure(options: Options, signal: AbortSignal): Promise<void> {
  const { only = GROUPS, families, parameters, dModel, vocabulary, redis } = options;
  checkBoundsOptions(options, GROUPS);
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
  reportBounds(options, results);
}
