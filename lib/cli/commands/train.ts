import { existsSync } from 'node:fs';
import { cp, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { formatSeconds } from '../../../bench/format.js';
import { renderPage } from '../../../bench/html/page.js';
import { library, type Model } from '../../../bench/library.js';
import { checkReplaceable, recoverFolder } from '../../atomic-folder.js';
import { writeTokenizerFiles } from '../../checkpoint/gguf/saved/files.js';
import { openCheckpoint } from '../../checkpoint/open.js';
import { show } from '../../errors.js';
import type { Trainer, TrainerOptions } from '../../index.js';
import { readState } from '../../training/resume-trainer.js';
import { MARKS, savedConfig } from '../../training/save.js';
import { Interrupted, UsageError } from '../errors.js';
import { checkApart, checkWritable, isCheckpoint, readModelConfig, writeOutput } from '../files.js';
import { unhurried } from '../interruption.js';
import { parseCount, parseLength, parseNumber, parsePositive } from '../parse.js';
import { writeText } from '../report-files.js';
import { progress } from '../terminal.js';
import { windows } from '../train/data.js';
import { type Prepared, prepare, writeFiles } from '../train/prepare.js';
import { curve, type History, summary, trainingPage } from '../train/report.js';

interface Options {
  config: string;
  tokenizer?: string;
  vocabulary?: number;
  out: string;
  steps: number;
  batch: number;
  length: number;
  learningRate: number;
  warmup?: number;
  weightDecay: number;
  accumulate: number;
  dtype: 'f32' | 'bf16';
  loraRank?: number;
  loraAlpha?: number;
  contextLength?: number;
  seed: number;
  saveEvery: number;
  evaluateEvery: number;
  heldOut: number;
  threads?: number;
  html?: string;
  quiet?: boolean;
}

/** Sequences that are evaluated at once. */
const ROWS = 16;
const BYTES = 256;
const MOST_TOKENS = 65_536;

function parseVocabulary(value: string): number {
  const size = parsePositive(value);
  if (size < BYTES || size > MOST_TOKENS)
    throw new InvalidArgumentError(`expected ${BYTES} (the bytes) to ${MOST_TOKENS} tokens.`);
  return size;
}

function parseSequence(value: string): number {
  const length = parseLength(value);
  if (length < 2) throw new InvalidArgumentError('expected at least 2: a token, and what follows it.');
  return length;
}

export function addTrain(program: Command, signal: AbortSignal): void {
  program
    .command('train <text>')
    .description('Train a model on a text file, a folder of them, or the "text" of a .jsonl file’s lines.')
    .requiredOption(
      '-c, --config <path>',
      'config.json of a new model, or the folder or GGUF file of one whose weights are trained on',
    )
    .option(
      '--tokenizer <path>',
      'tokenizer.json or tokenizer.model, its folder or a GGUF file; "bytes" (default: the model’s own, else bytes)',
    )
    .addOption(
      new Option('--vocabulary <n>', 'learn a byte-level BPE tokenizer of n tokens from the text')
        .argParser(parseVocabulary)
        .conflicts('tokenizer'),
    )
    .option('-o, --out <folder>', 'where the model is saved; a run that is there goes on', 'trained')
    .option('-n, --steps <n>', 'steps in all', parsePositive, 1000)
    .option('-b, --batch <n>', 'sequences a step', parsePositive, 8)
    .option('-l, --length <n>', 'tokens of a sequence, 2 at least', parseSequence, 256)
    .option('--learning-rate <x>', 'after the warm-up; it then falls to 0 as a cosine', parseNumber(0), 1e-3)
    .option('--warmup <n>', 'steps over which it rises (default: a twentieth of all)', parseCount)
    .option('--weight-decay <x>', 'of matrices', parseNumber(0), 0.1)
    .option('--accumulate <n>', 'parts that a batch is computed in', parsePositive, 1)
    .addOption(new Option('--dtype <type>', 'type of products').choices(['f32', 'bf16']).default('f32'))
    .option('--lora-rank <n>', 'train adapters of this rank in place of the weights', parsePositive)
    .option(
      '--context-length <n>',
      'tokens that sequences are to hold, where rotations depend on it (longrope, dynamic)',
      parsePositive,
    )
    .option('--lora-alpha <x>', 'their factor times the rank (default: twice the rank)', parseNumber(0))
    .option('--seed <n>', 'of first weights and of what is read when', parseCount, 0)
    .option('--save-every <n>', 'steps between two saves', parsePositive, 100)
    .option('--evaluate-every <n>', 'steps between two looks at held-out text', parsePositive, 100)
    .option('--held-out <share>', 'share of the text, at its end, that is not trained on', parseNumber(0, 0.5), 0.05)
    .option('--threads <n>', 'compute threads (default: physical cores)', parsePositive)
    .option('--html <file>', 'also write one self-contained page with the curve')
    .option('-q, --quiet', 'no progress on stderr')
    .addHelpText(
      'after',
      `
Ctrl-C saves and ends (exit code 130); the same command goes on from the last save, to the bit, after a kill as well.

Examples:
  $ statespace train book.txt --config tiny.json --steps 2000 --out my-model
  $ statespace generate my-model -p "It was a dark"
  $ statespace train notes.jsonl --config ./llama-160m --lora-rank 8 --learning-rate 1e-4
  $ statespace generate ./llama-160m --adapter trained -p "Notes of"`,
    )
    .action((text: string, options: Options) => train(text, options, signal));
}

/** Of what weights a run begins: random ones, or those of a model. */
type Beginning = 'config' | 'folder' | 'gguf';

/** folder: of the model or the GGUF file. */
async function beginningOf(path: string): Promise<{ from: Beginning; folder?: string | undefined }> {
  if (!(await isCheckpoint(path))) return { from: 'config' };
  const { metadata, folder } = await openCheckpoint(path);
  return metadata ? { from: 'gguf', folder } : { from: 'folder', folder: path };
}

const TOKENIZER_FILES =
  /^(tokenizer\.(json|model)|tokenizer_config\.json|special_tokens_map\.json|added_tokens\.json|rwkv_vocab.*\.txt)$/;

/** The model to begin with: random weights of a config, or those of a folder or file; the tokenizer's files go where the model goes. */
async function beginning(options: Options, read: Prepared, from: Beginning, folder: string): Promise<Model> {
  const { loadModel, createModel } = library();
  const sized = read.vocabulary === undefined ? {} : { vocab_size: read.vocabulary };
  const model =
    from === 'config'
      ? await createModel(
          { ...sized, ...(await readModelConfig(options.config)) },
          { seed: options.seed, device: 'cpu', contextLength: options.contextLength },
        )
      : await loadModel(options.config, { device: 'cpu', contextLength: options.contextLength });
  if (from === 'folder' && read.folder === options.config) return model;
  if (read.folder?.toLowerCase().endsWith('.gguf')) await writeTokenizerFiles(read.folder, folder);
  else if (read.folder)
    for (const name of await readdir(read.folder))
      if (TOKENIZER_FILES.test(name)) await cp(join(read.folder, name), join(folder, name));
  await writeFiles(folder, read.files ?? {});
  model.takeFilesOf(folder);
  return model;
}

// What a checkpoint says besides what it is.
const BESIDES = new Set(['dtype', 'torch_dtype', 'quantization_config', 'transformers_version', '_name_or_path']);

/** A run that goes on, if it is one of this config. */
async function sameRun(
  trainer: Trainer,
  given: Record<string, unknown>,
  { out, config: path }: Options,
): Promise<Trainer> {
  const saved = trainer.model.config;
  const config = savedConfig(given);
  const other = Object.keys(config).find(
    (key) => !BESIDES.has(key) && JSON.stringify(config[key]) !== JSON.stringify(saved[key]),
  );
  if (other === undefined) return trainer;
  await trainer.dispose();
  await trainer.model.dispose();
  throw new UsageError(
    `${out} holds a run of another model: its ${other} is ${show(saved[other])}, that of ${path} ${show(config[other])}; ` +
      'give another --out, or remove it',
  );
}

/** What a run that goes on keeps of the command that began it, where this one says otherwise. */
async function checkKept({ out, loraRank, loraAlpha, vocabulary, contextLength }: Options): Promise<void> {
  const { options, notes, contextLength: length } = await readState(out);
  const refuse = (what: string, said: string) => {
    throw new UsageError(`${out} holds a run ${what}, ${said} another; give another --out, or remove it`);
  };
  const { lora } = options;
  const of = lora ? `with adapters of rank ${lora.rank} and alpha ${lora.alpha}` : 'of all weights';
  if (loraRank !== undefined && loraRank !== lora?.rank) refuse(of, `--lora-rank ${loraRank}`);
  if (loraAlpha !== undefined && loraAlpha !== lora?.alpha) refuse(of, `--lora-alpha ${loraAlpha}`);
  if (contextLength !== undefined && contextLength !== length)
    refuse(
      length === undefined ? 'without --context-length' : `of --context-length ${length}`,
      `--context-length ${contextLength}`,
    );
  const begun = notes.begun as { vocabulary?: number } | undefined;
  if (vocabulary !== undefined && begun && begun.vocabulary !== vocabulary) {
    const tokens =
      begun.vocabulary === undefined ? 'with a tokenizer that it did not learn' : `of --vocabulary ${begun.vocabulary}`;
    refuse(tokens, `--vocabulary ${vocabulary}`);
  }
}

async function train(path: string, options: Options, signal: AbortSignal): Promise<void> {
  const { out, steps, batch, length, seed, html, quiet } = options;
  if (html !== undefined) checkWritable(html);
  checkApart({ text: path, '--config': options.config, '--html': html });
  await checkReplaceable(out, MARKS); // a run of hours must not end where nothing can be saved
  await recoverFolder(out);
  const goesOn = existsSync(join(out, 'trainer.json'));
  if (!existsSync(options.config)) throw new UsageError(`no file or folder ${options.config}`);
  const { setThreads, createTrainer, resumeTrainer } = library();
  const named = { tokenizer: options.tokenizer, vocabulary: options.vocabulary, out };
  if (options.threads !== undefined) setThreads(options.threads);
  const { from, folder } = await beginningOf(options.config);
  const config = await readModelConfig(options.config);
  if (goesOn) await checkKept(options);
  if (!quiet) process.stderr.write(`reading ${path}\n`);
  const read = await prepare({ text: path, folder, config, ...named }, signal);
  const { tokens } = read;
  const held = Math.floor(tokens.length * options.heldOut);
  const [training, evaluation] = [tokens.subarray(0, tokens.length - held), tokens.subarray(tokens.length - held)];
  if (training.length < length + 1)
    throw new UsageError(`${path} has ${tokens.length} tokens: too few for sequences of ${length}`);

  const vocab = config.vocab_size;
  const largest = tokens.reduce((a, b) => Math.max(a, b), 0);
  if (typeof vocab === 'number' && largest >= vocab)
    throw new UsageError(`${options.config}: vocab_size ${vocab} has no token ${largest}, which ${path} needs`);

  const settings: TrainerOptions = {
    learningRate: options.learningRate,
    warmupSteps: options.warmup ?? Math.floor(steps / 20),
    totalSteps: steps,
    weightDecay: options.weightDecay,
    accumulate: options.accumulate,
    dtype: options.dtype,
    seed,
  };
  const lora = options.loraRank && { rank: options.loraRank, alpha: options.loraAlpha ?? 2 * options.loraRank };
  const temporary = await mkdtemp(join(tmpdir(), 'statespace-train-'));
  const start = async (): Promise<Trainer> => {
    if (goesOn) return sameRun(await resumeTrainer(out, settings), config, options);
    const model = await beginning(options, read, from, temporary);
    return createTrainer(model, lora ? { ...settings, lora } : settings);
  };
  const trainer = await start().catch(async (error) => {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  });
  const { model } = trainer;
  const history = (trainer.notes.history as History | undefined) ?? { losses: [], held: [], seconds: 0, tokens: 0 };
  trainer.notes.history = history;
  if (!goesOn) trainer.notes.begun = { vocabulary: options.vocabulary };
  const bar = quiet ? undefined : progress('training');
  if (goesOn && !quiet) process.stderr.write(`going on from step ${trainer.steps} of ${out}\n`);

  const save = () => trainer.save(out);
  const look = async () => {
    if (evaluation.length < 2) return;
    const rows = Math.min(32, Math.max(1, Math.floor(evaluation.length / length)));
    const width = Math.min(length, evaluation.length);
    const data = evaluation.slice(0, rows * width);
    const { loss } = await trainer.evaluate({ ids: { data, shape: [rows, width] } }, { signal });
    history.held.push([trainer.steps, loss]);
  };
  /** All of it, row by row: each predicts all of its tokens but the first. */
  const assess = async () => {
    const rows = Math.floor(evaluation.length / length);
    let [nats, predicted, bytes] = [0, 0, 0];
    for (let first = 0; first < rows; first += ROWS) {
      const count = Math.min(ROWS, rows - first);
      const data = evaluation.slice(first * length, (first + count) * length);
      const { loss } = await trainer.evaluate({ ids: { data, shape: [count, length] } }, { signal });
      nats += loss * count * (length - 1);
      predicted += count * (length - 1);
      data.forEach((id, i) => {
        if (i % length > 0) bytes += read.bytes[id]!;
      });
    }
    if (bytes > 0) history.final = { loss: nats / predicted, bitsPerByte: nats / Math.LN2 / bytes };
  };
  // Whatever a step that is under way takes to hear of Ctrl-C, and the save that follows.
  await unhurried(async () => {
    try {
      while (trainer.steps < steps) {
        const data = windows(training, batch, length, seed, trainer.steps);
        const begin = performance.now();
        const report = await trainer.step({ ids: { data, shape: [batch, length] } }, { signal });
        if (report.skipped) throw new Error(`step ${trainer.steps + 1}: ${report.skipped}`);
        history.seconds += (performance.now() - begin) / 1000;
        history.tokens += report.tokens;
        history.losses.push(report.loss);
        const left = ((steps - trainer.steps) * history.seconds) / history.losses.length;
        bar?.update(
          trainer.steps / steps,
          `step ${trainer.steps} of ${steps}, loss ${report.loss.toFixed(4)}, ${Math.round(report.tokensPerSecond)} tokens/s, ${formatSeconds(left)} left`,
        );
        if (trainer.steps % options.evaluateEvery === 0 || trainer.steps === steps) await look();
        if (trainer.steps % options.saveEvery === 0 && trainer.steps < steps) await save();
      }
      await assess();
      await save();
    } catch (error) {
      if (!signal.aborted) throw error;
      if (!quiet) process.stderr.write(`saving step ${trainer.steps} in ${out}\n`);
      await save();
      throw new Interrupted();
    } finally {
      bar?.stop();
      await trainer.dispose();
      await model.dispose();
      await rm(temporary, { recursive: true, force: true });
    }
  });
  const drawing = curve(history);
  writeText(`${drawing}${drawing ? '\n' : ''}${summary(history)}\nsaved in ${out}`, html);
  if (html !== undefined) {
    const { cpu, threads } = library().systemInfo();
    const page = trainingPage(
      history,
      `${model.modelType}, ${model.parameters.total.toLocaleString('en-US')} parameters, on ${basename(path)}`,
      ['statespace', ...process.argv.slice(2)].join(' '),
      [
        ['processor', cpu.model],
        ['threads', String(threads)],
      ],
    );
    writeOutput(html, renderPage(page));
  }
}
