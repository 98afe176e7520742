import type { Command } from 'commander';
import { library } from '../../../bench/library.js';
import { Interrupted } from '../errors.js';
import { parsePositive } from '../parse.js';
import { write } from '../terminal.js';
import { addEngineOptions, asked, type EngineFlags, openEngine } from './engine-options.js';

interface Options extends EngineFlags {
  redis: string;
  queue: string;
  concurrency: number;
  lock: number;
}

export function addWorker(program: Command, signal: AbortSignal): void {
  const command = program
    .command('worker <model>')
    .description('Do jobs from a queue in Redis (BullMQ); as many workers as there are machines.')
    .requiredOption('--redis <url>', 'redis://host:port; also keeps the prompts that were read')
    .option('--queue <name>', 'of several queues, this one', 'statespace')
    .option('--concurrency <n>', 'jobs that are done together', parsePositive, 16)
    .option('--lock <seconds>', "after so long without a sign of life its jobs are another's", parsePositive, 10);
  addEngineOptions(command)
    .addHelpText(
      'after',
      `
Prints one line on stdout when it is ready. SIGTERM: finishes its jobs, then ends. Jobs of a worker that was killed are
done by another; every job has one result.

Examples:
  $ statespace worker ./mamba-130m --redis redis://127.0.0.1:6379`,
    )
    .action((model: string, options: Options) => work(model, options, signal));
}

async function work(path: string, options: Options, interrupted: AbortSignal): Promise<void> {
  const { engine, close } = await openEngine(path, options, interrupted);
  const log =
    options.log === 'json' ? (entry: object) => process.stderr.write(`${JSON.stringify(entry)}\n`) : undefined;
  const worker = await library().startWorker(engine, options.redis, {
    ...{ queue: options.queue, concurrency: options.concurrency, lockMs: options.lock * 1000 },
    ...(log ? { log } : {}),
  });
  write(`statespace: working on ${options.queue} of ${options.redis.replace(/\/\/[^@/]*@/, '//')}`);
  await asked(interrupted);
  await worker.close();
  await close();
  if (interrupted.aborted) throw new Interrupted();
}
