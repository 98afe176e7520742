import type { Command } from 'commander';
import { type CallCase, type CallResult, runCases } from '../../../bench/calls/case.js';
import { decodeCases } from '../../../bench/calls/decode.js';
import { opCallCases } from '../../../bench/calls/ops.js';
import { sessionCases } from '../../../bench/calls/sessions.js';
import { boundsTable } from '../../../bench/calls/table.js';
import { library } from '../../../bench/library.js';
import { describeMachine } from '../../../bench/machine.js';
import { UsageError } from '../errors.js';
import { writeOutput } from '../files.js';
import { parseAmount, parseLengths, parsePositive } from '../parse.js';
import { progress, write } from '../terminal.js';

interface Options {
  only?: string[];
  parameters: number;
  dModel: number;
  vocabulary: number;
  lengths: number[];
  json?: string;
  check?: boolean;
}

const GROUPS: readonly CallCase['group'][] = ['ops', 'generate', 'batch', 'decode'];

export function addBenchCalls(bench: Command, signal: AbortSignal): void {
  bench
    .command('calls')
    .description('What public calls cost beside what they are made of, each with the bound that it keeps.')
    .option('--only <list>', `of ${GROUPS.join(', ')} (default: all)`, (text: string) => text.split(','))
    .option('--parameters <n>', 'size of the models; the number of layers follows', parseAmount, 130e6)
    .option('--d-model <n>', 'width of the models, a multiple of 64', parsePositive, 768)
    .option('--vocabulary <n>', 'tokens of the vocabulary', parsePositive, 50280)
    .option('--lengths <list>', 'contexts of the decoding Transformer', parseLengths, [2048, 8192])
    .option('--json <file>', 'also write everything measured')
    .option('--check', 'exit with 1 where a bound is not kept')
    .addHelpText('after', '\nExample:\n  $ statespace bench calls --only ops,generate --check')
    .action((options: Options) => measure(options, signal));
}

async function measure(options: Options, signal: AbortSignal): Promise<void> {
  const { only = GROUPS, parameters, dModel, vocabulary, lengths } = options;
  const unknown = only.find((name) => !(GROUPS as readonly string[]).includes(name));
  if (unknown !== undefined) throw new UsageError(`--only: "${unknown}" is none of ${GROUPS.join(', ')}`);
  if (dModel % 64 !== 0) throw new UsageError(`--d-model ${dModel} is no multiple of 64`);
  const { limits } = require('../../limits.js') as typeof import('../../limits.js');
  const size = { parameters, dModel, vocabulary };
  const cases = [
    ...(only.includes('ops') ? opCallCases() : []),
    ...sessionCases(size, ['bf16', 'q4_0']).filter((c) => only.includes(c.group)),
    ...(only.includes('decode') ? decodeCases(limits, size, lengths) : []),
  ];
  const bar = progress('bench calls');
  let results: CallResult[];
  try {
    results = await runCases(cases, (done, name) => bar.update(done / cases.length, name), signal);
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
