import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { peersPage } from '../../../bench/html/reports.js';
import { KERNELS } from '../../../bench/kernels/kernels.js';
import { type DType, library } from '../../../bench/library.js';
import { describeMachine } from '../../../bench/machine.js';
import { compareKernels } from '../../../bench/peers/kernels.js';
import { compareModels, peerModels } from '../../../bench/peers/models.js';
import {
  KERNEL_PEERS,
  LLAMA_CPP,
  SCRIPTS,
  type Started,
  startPeers,
  TRAINING,
  TRANSFORMERS,
} from '../../../bench/peers/peer.js';
import { type PeersReport, printPeers, SCHEMA, SCHEMA_VERSION } from '../../../bench/peers/print.js';
import { compareTraining, type TrainingType } from '../../../bench/peers/training.js';
import { UsageError } from '../errors.js';
import { parsePositive } from '../parse.js';
import { addReportFiles, checkReportFiles, type ReportFiles, writeReport } from '../report-files.js';
import { colours, progress } from '../terminal.js';
import { chosenCases } from './bench-kernels.js';

interface Options extends ReportFiles {
  env?: string;
  only?: string[];
  shape?: string[];
  models?: string[];
  training?: string[];
  dtypes: string[];
  context: number;
  decode: number;
  length: number;
  reps: number;
  threads?: number;
}

const LEAST_REPS = 5;
const MODEL_TYPES: readonly DType[] = ['f32', 'bf16', 'f16', 'q8_0', 'q4_0'];
const TRAINING_TYPES: readonly TrainingType[] = ['f32', 'bf16'];
const list = (text: string) => text.split(',').map((part) => part.trim());

export function addBenchPeers(bench: Command, signal: AbortSignal): void {
  addReportFiles(bench.command('peers'))
    .description(
      'Our kernels and models against PyTorch, ONNX Runtime, flash-linear-attention, transformers and llama.cpp, where installed.',
    )
    .option('--env <dir>', 'where bench/peers/setup.sh installed them (default: environment STATESPACE_PEERS)')
    .option('--only <list>', `kernels, of ${KERNELS.map((kernel) => kernel.name).join(', ')} (default: all)`, list)
    .option(
      '--shape <kernel:sizes>',
      'a shape instead of the usual ones, as scan:D=768,N=64,L=4096; may be repeated',
      (text: string, earlier: string[] = []) => [...earlier, text],
    )
    .option('--models <list>', 'whole models instead of kernels, of mamba, mamba2, llama, jamba', list)
    .option(
      '--training <list>',
      'steps of training instead, of these models, or as mamba-10m, mamba2-10m, llama-10m',
      list,
    )
    .option('--dtypes <list>', "types of the models' matrices: f32, bf16, f16, q8_0, q4_0", list, ['f32', 'bf16'])
    .option('--context <n>', 'tokens of the prompt of models', parsePositive, 2048)
    .option('--decode <n>', 'tokens that models decode after it', parsePositive, 32)
    .option('--length <n>', 'tokens of a step of training', parsePositive, 512)
    .option(
      '--reps <n>',
      `samples of each, at least ${LEAST_REPS} (of models and steps: any number)`,
      parsePositive,
      LEAST_REPS,
    )
    .option('--threads <n>', 'threads of everybody (default: physical cores)', parsePositive)
    .addHelpText(
      'after',
      `
Examples:
  $ bench/peers/setup.sh ~/peers
  $ statespace bench peers --env ~/peers --only scan,attention
  $ statespace bench peers --env ~/peers --models mamba,llama --dtypes bf16 --context 512
  $ statespace bench peers --env ~/peers --training mamba2-10m,llama-10m --dtypes f32,bf16`,
    )
    .action((options: Options) => peers(options, signal));
}

async function peers(options: Options, signal: AbortSignal): Promise<void> {
  const dir = environment(options);
  const models = chosenModels(options.models, options.dtypes, MODEL_TYPES);
  const trained = chosenModels(options.training, options.dtypes, TRAINING_TYPES);
  const others = options.models !== undefined || options.training !== undefined;
  const cases = others ? [] : chosenCases(options);
  if (!others && options.reps < LEAST_REPS) throw new UsageError(`--reps: expected at least ${LEAST_REPS}`);
  checkReportFiles(options);
  const { systemInfo, setThreads } = library();
  if (options.threads !== undefined) setThreads(options.threads);
  const machine = describeMachine(systemInfo());
  const bar = progress('bench peers');
  const programs = !others ? KERNEL_PEERS : models.length > 0 ? [TRANSFORMERS, LLAMA_CPP] : [TRAINING];
  bar.update(0, 'starting the peers');
  const { started, missing } = await startPeers(programs, dir, machine.threads);
  const kill = () => {
    for (const { peer } of started) peer.stop();
  };
  signal.addEventListener('abort', kill);
  try {
    if (started.length === 0) throw new Error(`no peer to compare with. ${missing.map(sentence).join(' ')}`);
    const onProgress = (fraction: number, note: string) => bar.update(fraction, note);
    const by = (name: string): Started | undefined => started.find(({ program }) => program.name === name);
    const { context, decode: decodeTokens, reps } = options;
    // Those that are trained are processes of their own, one a model.
    if (models.length === 0 && trained.length > 0) kill();
    const { training, skipped } = await compareTraining(trained, {
      ...{ length: options.length, reps, threads: machine.threads, dir, signal, onProgress },
    });
    const report: PeersReport = {
      schema: SCHEMA,
      schemaVersion: SCHEMA_VERSION,
      created: new Date().toISOString(),
      command: ['statespace', ...process.argv.slice(2)].join(' '),
      machine,
      peers: started.map(({ hello }) => hello.peer),
      missing,
      kernels: await compareKernels(cases, started, { reps, signal, onProgress }),
      models: await compareModels(
        models,
        { transformers: by(TRANSFORMERS.name), llamaCpp: by(LLAMA_CPP.name) },
        { context, decodeTokens, reps, threads: machine.threads, dir, signal, onProgress },
      ),
      training,
      untrained: skipped,
    };
    bar.stop();
    writeReport(options, report, peersPage, printPeers(report, colours()));
  } finally {
    bar.stop();
    kill();
  }
}

function sentence({ name, reason }: { name: string; reason: string }): string {
  return `${name} ${reason}.`;
}

function environment({ env }: Options): string {
  const dir = env ?? process.env.STATESPACE_PEERS;
  if (!existsSync(SCRIPTS)) {
    throw new Error('the scripts of bench/peers are not in the installed package: use a clone of the repository');
  }
  if (dir === undefined || dir === '') {
    throw new UsageError('where are the peers? Install them by bench/peers/setup.sh DIR, then give --env DIR');
  }
  if (!existsSync(dir)) throw new UsageError(`no folder ${dir}; bench/peers/setup.sh makes it`);
  return resolve(dir);
}

function chosenModels<T extends DType>(
  models: readonly string[] = [],
  dtypes: readonly string[],
  types: readonly T[],
): { model: string; dtype: T }[] {
  if (models.length === 0) return [];
  const known = Object.keys(peerModels());
  const unknown = models.find((model) => !known.includes(model));
  if (unknown !== undefined) throw new UsageError(`there is no model "${unknown}"; there are ${known.join(', ')}`);
  const chosen = dtypes.map((dtype) => {
    const type = types.find((t) => t === dtype);
    if (type === undefined) throw new UsageError(`there is no dtype "${dtype}"; there are ${types.join(', ')}`);
    return type;
  });
  return models.flatMap((model) => chosen.map((dtype) => ({ model, dtype })));
}
