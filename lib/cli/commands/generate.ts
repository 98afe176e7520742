import { existsSync, statSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { significant } from '../../../bench/format.js';
import { type GenerateOptions, type LoadOptions, library, type Model } from '../../../bench/library.js';
import { heldTypes } from '../../dtype.js';
import { UsageError } from '../errors.js';
import { readStandardInput } from '../files.js';
import { collect, parseCount, parseIds, parseNumber, parsePositive } from '../parse.js';
import { shippedModel } from '../shipped.js';
import { progress } from '../terminal.js';

interface Options extends GenerateOptions {
  prompt?: string;
  maxTokens: number;
  stop: string[];
  adapter?: string[];
  threads?: number;
  contextLength?: number;
  dtype?: LoadOptions['dtype'];
  device: LoadOptions['device'];
  quiet?: boolean;
}

// Of the shipped model: at 0 one of its size says the same thing over and over.
const TEMPERATURE = 0.7;
const PROMPT = 'She had never';

export function addGenerate(program: Command, signal: AbortSignal): void {
  program
    .command('generate [model]')
    .description(
      'Continue a prompt with a folder in Hugging Face format, a GGUF file or hf:owner/name; tokens are printed as they come.',
    )
    .option(
      '-p, --prompt <text>',
      'text, - for standard input; token ids such as 12,5,7 where the model has no tokenizer',
    )
    .option('-n, --max-tokens <n>', 'tokens to generate at most', parsePositive, 128)
    .option('-t, --temperature <x>', '0, the default, takes the likeliest token', parseNumber(0))
    .option('--top-k <n>', 'sample among the n likeliest tokens', parsePositive)
    .option('--top-p <p>', 'sample among the likeliest that together reach p', parseNumber(0, 1))
    .option('--min-p <p>', 'drop tokens below p times the likeliest', parseNumber(0, 1))
    .option('--repetition-penalty <x>', 'above 1: tokens seen already become less likely', parseNumber(0))
    .option('--seed <n>', 'makes sampling repeatable', parseCount)
    .option('--stop <text>', 'stop at this text (or token id); may be repeated', collect, [])
    .option('--adapter <folder>', 'LoRA adapters in peft’s format; may be repeated', collect)
    .addOption(new Option('--dtype <type>', 'type that matrices are held in (default: as stored)').choices(heldTypes))
    .addOption(new Option('--device <name>', 'where to run').choices(['auto', 'cpu', 'cuda']).default('auto'))
    .option('--threads <n>', 'compute threads (default: physical cores)', parsePositive)
    .option(
      '--context-length <n>',
      'tokens that sequences are to hold, where rotations depend on it (longrope, dynamic)',
      parsePositive,
    )
    .option('-q, --quiet', 'no progress and no speed on stderr')
    .addHelpText(
      'after',
      `
Tokens go to stdout, everything else to stderr. Ctrl-C stops after the current token (exit code 130). Without a model the
small one of the package writes, at a temperature of ${TEMPERATURE}.

Examples:
  $ statespace generate
  $ statespace generate ./mamba-130m -p "The capital of France is" -n 20
  $ statespace generate ./mamba-130m.q8_0.gguf -p "Once upon a time"
  $ statespace generate ./tiny --prompt 12,5,7 --max-tokens 8
  $ statespace generate ./llama -p - < question.txt
  $ statespace generate ./llama -p "Once" -t 0.8 --top-p 0.95 --seed 7
  $ statespace generate ./llama -p "Once" --adapter ./trained`,
    )
    .action((folder: string | undefined, options: Options) => generate(folder, options, signal));
}

async function generate(given: string | undefined, options: Options, signal: AbortSignal): Promise<void> {
  const folder = given ?? shippedModel();
  if (!folder.startsWith('hf:')) {
    if (!existsSync(folder)) throw new UsageError(`no file or folder ${folder}`);
    if (!statSync(folder).isDirectory() && !/\.gguf$/i.test(folder))
      throw new UsageError(`${folder} is neither a folder nor a .gguf file`);
  }
  const { threads, contextLength, dtype, device, quiet, adapter: adapters } = options;
  const asked = options.prompt ?? (given === undefined ? PROMPT : undefined);
  if (asked === undefined) throw new UsageError("required option '-p, --prompt <text>' not specified");
  const prompt = asked === '-' ? await readStandardInput() : asked;
  if (prompt === '') throw new UsageError('the prompt is empty');
  const bar = quiet ? undefined : progress('loading');
  let model: Model;
  try {
    model = await library().loadModel(folder, {
      ...(threads === undefined ? {} : { threads }),
      contextLength,
      ...(adapters && { adapters }),
      ...(dtype === undefined ? {} : { dtype }),
      ...(device === undefined ? {} : { device }),
      signal,
      onProgress: ({ loadedBytes, totalBytes }) => bar?.update(totalBytes ? loadedBytes / totalBytes : 1, 'weights'),
    });
  } finally {
    bar?.stop();
  }
  try {
    const temperature = options.temperature ?? (given === undefined ? TEMPERATURE : 0);
    // What was begun for the caller is part of the text.
    if (options.prompt === undefined) process.stdout.write(prompt);
    await stream(model, { ...options, temperature, prompt }, signal);
  } finally {
    await model.dispose();
  }
}

async function stream(model: Model, options: Options & { prompt: string }, signal: AbortSignal): Promise<void> {
  const text = model.tokenizer !== undefined;
  const prompt = text ? options.prompt : parseIds(options.prompt);
  if (prompt === null) {
    throw new UsageError(
      `the model has no tokenizer (tokenizer.json, tokenizer.model): --prompt takes token ids such as 12,5,7 there`,
    );
  }
  const session = model.createSession();
  const started = performance.now();
  let first = started;
  let count = 0;
  try {
    for await (const piece of session.generate({
      ...sampling(options),
      stop: stops(options.stop, text),
      prompt,
      signal,
    })) {
      if (count === 0) first = performance.now();
      process.stdout.write(text ? (piece.text ?? '') : `${count === 0 ? '' : ','}${piece.token}`);
      count++;
    }
  } finally {
    if (count > 0) process.stdout.write('\n');
    await session.dispose();
  }
  if (options.quiet) return;
  const seconds = (performance.now() - first) / 1000;
  const speed = count > 1 ? `, ${significant((count - 1) / seconds)} tokens/s` : '';
  process.stderr.write(`${count} tokens${speed}, first after ${significant((first - started) / 1000)} s\n`);
}

function sampling(options: Options): GenerateOptions {
  const { maxTokens, temperature, topK, topP, minP, repetitionPenalty, seed } = options;
  const given = { maxTokens, temperature, topK, topP, minP, repetitionPenalty, seed };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

function stops(given: string[], text: boolean): (string | number)[] {
  if (text) return given;
  return given.map((stop) => {
    if (!/^\d+$/.test(stop))
      throw new UsageError(`the folder has no tokenizer: --stop takes a token id there, got "${stop}"`);
    return Number(stop);
  });
}
