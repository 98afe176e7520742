import type { Command } from 'commander';
import { type CallResult, runCases } from '../../../bench/calls/case.js';
import { decodeCases } from '../../../bench/calls/decode.js';
import { opCallCases } from '../../../bench/calls/ops.js';
import { sessionCases } from '../../../bench/calls/sessions.js';
import { parseLengths } from '../parse.js';
import { progress } from '../terminal.js';
import { addReportOptions, addSizeOptions, type BoundsOptions, checkBoundsOptions, reportBounds } from './bounds.js';

interface Options extends BoundsOptions {
  lengths: number[];
}

const GROUPS = ['ops', 'generate', 'batch', 'decode'];

export function addBenchCalls(bench: Command, signal: AbortSignal): void {
  const command = bench.command('calls');
  addReportOptions(
    addSizeOptions(command, GROUPS)
      .description('What public calls cost beside what they are made of, each with the bound that it keeps.')
      .option('--lengths <list>', 'contexts of the decoding Transformer', parseLengths, [2048, 8192]),
  )
    .addHelpText('after', '\nExample:\n  $ statespace bench calls --only ops,generate --check')
    .action((options: Options) => measure(options, signal));
}

async function measure(options: Options, signal: AbortSignal): Promise<void> {
  const { only = GROUPS, parameters, dModel, vocabulary, lengths } = options;
  checkBoundsOptions(options, GROUPS);
  const { limits } = require('../../limits.js') as typeof import('../../limits.js');
  const size = { parameters, dModel, vocabulary };
  const cases = [
    ...(only.includes('ops') ? opCallCases() : []),
    ...sessionCases(limits, size, ['bf16', 'q4_0']).filter((c) => only.includes(c.group)),
    ...(only.includes('decode') ? decodeCases(limits, size, lengths) : []),
  ];
  const bar = progress('bench calls');
  let results: CallResult[];
  try {
    results = await runCases(cases, (done, name) => bar.update(done / cases.length, name), signal);
  } finally {
    bar.stop();
  }
  reportBounds(options, results);
}
