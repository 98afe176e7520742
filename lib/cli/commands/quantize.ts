import type { Command } from 'commander';
import { formatBytes, formatCount, significant } from '../../../bench/format.js';
import { renderTable, wrap } from '../../../bench/table.js';
import { pull } from '../../hub/pull.js';
import { isHubSource } from '../../hub/source.js';
import type { QuantizeReport } from '../../quantize/quantize.js';
import { perplexityOf } from '../../quantize/text.js';
import { mixNamed, mixNames } from '../../quantize/types.js';
import { UsageError } from '../errors.js';
import { checkApart, checkWritable, writeOutput } from '../files.js';
import { parsePositive, parseSize } from '../parse.js';
import { writeText } from '../report-files.js';
import { colours, progress } from '../terminal.js';
import { readTextFile } from '../text-file.js';

interface Options {
  type: string;
  importance?: string;
  text?: string;
  report?: boolean;
  maxTokens: number;
  splitMaxSize?: number;
  splitMaxTensors?: number;
  threads?: number;
  json?: string;
}

/** What --report adds to what quantize() returns; undefined where there is no text. */
interface Perplexity {
  tokens: number;
  before: number;
  after: number;
}

export function addQuantize(program: Command, signal: AbortSignal): void {
  program
    .command('quantize <model> <out>')
    .description('Write a checkpoint folder or a GGUF file as a GGUF file of one type, for this package and llama.cpp.')
    .requiredOption('-t, --type <type>', `one of ${mixNames.join(', ')}`)
    .option('--importance <file>', 'a text: errors count by what it feeds each column (K-quants, iq4)')
    .option('--report', "print each tensor's error, and the perplexity before and after where there is a text")
    .option('--text <file>', 'the text of --report (default: that of --importance)')
    .option('--max-tokens <n>', 'tokens of a text that are read', parsePositive, 4096)
    .option('--split-max-size <n>', 'bytes of one file at most, as 50G or 400M: several files', parseSize)
    .option('--split-max-tensors <n>', 'tensors of one file at most: several files', parsePositive)
    .option('--json <file>', 'also write the report; - is standard output')
    .option('--threads <n>', 'compute threads (default: physical cores)', parsePositive)
    .addHelpText(
      'after',
      `
Tensor by tensor: of the model, a few megabytes are in memory (with --importance and the perplexities, all of it). The
file is there whole or not at all. Several files are OUT-00001-of-0000N.gguf and so on, of which the first is loaded. Norms, convolutions, A, D, routers and what makes dt stay floats; the mixes with an M
give more bits to the tensors that llama.cpp gives them to. What llama.cpp would do otherwise with the file is said.
Files are texts, or token ids such as 12,5,7 where the model has no tokenizer.

Examples:
  $ statespace quantize ./mamba-130m mamba-130m.q4_K_M.gguf --type q4_K_M
  $ statespace quantize ./jamba jamba.q4_K_M.gguf --type q4_K_M --importance wiki.txt --report
  $ statespace quantize llama.f16.gguf llama.q8_0.gguf --type q8_0
  $ statespace quantize ./mixtral mixtral.q4_K_M.gguf --type q4_K_M --split-max-size 20G`,
    )
    .action((model: string, out: string, options: Options) => run(model, out, options, signal));
}

async function run(model: string, out: string, options: Options, signal: AbortSignal): Promise<void> {
  const type = checkedType(options.type);
  checkWritable(out);
  if (options.json !== undefined) checkWritable(options.json);
  checkApart({ model, '<out>': out, '--importance': options.importance, '--json': options.json });
  checkApart({ '--text': options.text, '<out>': out });
  checkApart({ '--text': options.text, '--json': options.json });
  const importance = await readText('--importance', options.importance);
  const text = (await readText('--text', options.text)) ?? importance;
  const lib = (await import('../../../bench/library.js')).library();
  if (options.threads !== undefined) lib.setThreads(options.threads);
  const bar = progress('quantize');
  try {
    const path = isHubSource(model) ? await pull(model, { signal }) : model;
    if (importance !== undefined) bar.update(0, 'importance');
    const report = await lib.quantize(path, out, {
      type,
      importance,
      importanceTokens: options.maxTokens,
      splitMaxSize: options.splitMaxSize,
      splitMaxTensors: options.splitMaxTensors,
      signal,
      onProgress: ({ values, totalValues }) => bar.update(values / totalValues, 'writing'),
    });
    const measured = { maxTokens: options.maxTokens, signal };
    let found: Perplexity | undefined;
    if (options.report && text !== undefined) {
      bar.update(1, 'perplexity before');
      const before = await perplexityOf(path, text, measured);
      bar.update(1, 'perplexity after');
      const after = await perplexityOf(report.files[0]!, before.ids, measured);
      found = { tokens: before.ids.length, before: before.perplexity, after: after.perplexity };
    }
    bar.stop();
    if (options.json !== undefined)
      writeOutput(options.json, `${JSON.stringify({ ...report, perplexity: found ?? null }, null, 2)}\n`);
    writeText(printed(report, options, found), options.json);
  } finally {
    bar.stop();
  }
}

function checkedType(type: string): string {
  try {
    return mixNamed(type);
  } catch (error) {
    throw new UsageError((error as Error).message.replace('quantize: type', '--type'));
  }
}

async function readText(option: string, path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined;
  return readTextFile(path).catch((error: Error) => {
    throw new UsageError(`${option}: ${error.message}`);
  });
}

function printed(report: QuantizeReport, options: Options, found: Perplexity | undefined): string {
  const { bold, dim } = colours();
  const { tensors, notes } = report;
  const lines = report.files.map((file) => bold(file));
  if (options.report) {
    const rows = tensors.map((t) => [t.name, `(${t.shape.join(', ')})`, t.from, t.type, significant(t.error)]);
    const left = ['tensor', 'shape', 'from', 'type'].map((title) => ({ title, align: 'left' as const }));
    lines.push(
      '',
      dim('error: ‖x − decoded‖ / ‖x‖ of each tensor'),
      renderTable([...left, { title: 'error' }], rows),
      '',
    );
  }
  const counts = new Map<string, number>();
  for (const t of tensors) counts.set(t.type, (counts.get(t.type) ?? 0) + t.shape.reduce((a, b) => a * b, 1));
  const worst = tensors.reduce((a, b) => (b.error > a.error ? b : a));
  lines.push(
    `written     ${report.architecture}, ${report.type}: ${formatBytes(report.bytes)}, ${significant(report.bitsPerWeight)} bits a weight`,
    `types       ${[...counts].map(([type, n]) => `${type} ${formatCount(n)}`).join(', ')}`,
    `worst       ${worst.name}: error ${significant(worst.error)}`,
  );
  if (found)
    lines.push(
      `perplexity  ${significant(found.before)} before, ${significant(found.after)} after, of ${found.tokens} tokens`,
    );
  else if (options.report) lines.push('perplexity  not measured: give a text with --text or --importance');
  for (const note of notes) lines.push(wrap(`note        ${note}`, 100, '            '));
  return lines.join('\n');
}
