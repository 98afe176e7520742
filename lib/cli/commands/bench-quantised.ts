import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import { library } from '../../../bench/library.js';
import { describeMachine } from '../../../bench/machine.js';
import { printQuantised } from '../../../bench/quantised/print.js';
import { runQuantised } from '../../../bench/quantised/run.js';
import { type MixName, mixNamed } from '../../quantize/types.js';
import { UsageError } from '../errors.js';
import { checkApart, checkWritable, writeOutput } from '../files.js';
import { parseLength, parsePositive } from '../parse.js';
import { writeText } from '../report-files.js';
import { progress } from '../terminal.js';
import { readTextFile } from '../text-file.js';

interface Options {
  json?: string;
  types: MixName[];
  text?: string;
  maxTokens: number;
  tokens: number;
  decode: number;
  reps: number;
  threads?: number;
}

const TYPES: MixName[] = ['f16', 'q8_0', 'q6_K', 'q5_K_M', 'q4_K_M', 'q4_0', 'q3_K_M', 'q2_K'];

function parseTypes(text: string): MixName[] {
  return text.split(',').map((name) => {
    try {
      return mixNamed(name.trim());
    } catch (error) {
      throw new UsageError((error as Error).message.replace('quantize: type', '--types'));
    }
  });
}

export function addBenchQuantised(bench: Command, signal: AbortSignal): void {
  bench
    .command('quantised <model>')
    .description(
      'One model in quantised types: bits a weight, error of the logits, perplexity, prefill and decode speed.',
    )
    .option('--types <list>', 'types and mixes', parseTypes, TYPES)
    .option('--text <file>', 'a text for the perplexity; token ids such as 12,5,7 where the model has no tokenizer')
    .option('--max-tokens <n>', 'tokens of the text that are read', parsePositive, 4096)
    .option('--tokens <n>', 'length of the prefill that is timed; K = 1,024', parseLength, 512)
    .option('--decode <n>', 'tokens that follow one by one', parsePositive, 32)
    .option('--reps <n>', 'timed runs of each type', parsePositive, 5)
    .option('--json <file>', 'also write everything measured; - is standard output')
    .option('--threads <n>', 'compute threads (default: physical cores)', parsePositive)
    .addHelpText(
      'after',
      `
Each type is written as "statespace quantize" does, into a temporary folder, and loaded from there. Errors are those of
the logits of up to 512 tokens against the checkpoint in f32; without --text tokens are random.

Examples:
  $ statespace bench quantised ./mamba-130m --text wiki.txt
  $ statespace bench quantised ./llama.f16.gguf --types q8_0,q4_K_M,q4_0 --json quantised.json`,
    )
    .action((model: string, options: Options) => benchQuantised(model, options, signal));
}

async function benchQuantised(model: string, options: Options, signal: AbortSignal): Promise<void> {
  if (!existsSync(model)) throw new UsageError(`no file or folder ${model}`);
  if (options.json !== undefined) checkWritable(options.json);
  checkApart({ model, '--text': options.text, '--json': options.json });
  const text = options.text === undefined ? null : await readTextFile(options.text);
  const lib = library();
  if (options.threads !== undefined) lib.setThreads(options.threads);
  const bar = progress('bench quantised');
  try {
    const { types, tokens, decode, reps, maxTokens } = options;
    const report = await runQuantised(
      { model, types, tokens, decode, reps, text, maxTokens },
      {
        command: ['statespace', ...process.argv.slice(2)].join(' '),
        machine: describeMachine(lib.systemInfo()),
        signal,
        onProgress: (fraction, note) => bar.update(fraction, note),
      },
    );
    bar.stop();
    if (options.json !== undefined) writeOutput(options.json, `${JSON.stringify(report, null, 2)}\n`);
    writeText(printQuantised(report), options.json);
  } finally {
    bar.stop();
  }
}
