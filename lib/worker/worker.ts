import type { Worker } from 'bullmq';
import { checkEngine, type Engine } from '../engine/engine.js';
import { mismatch, StatespaceError, show } from '../errors.js';
import { checkOptions } from '../options.js';
import {
  checkQueue,
  checkReachable,
  connectionOf,
  DEFAULT_QUEUE,
  failureOf,
  type JobRequest,
  type JobResult,
  lazyBullmq,
} from './jobs.js';

/** How a worker takes jobs. */
export interface WorkerOptions {
  /** Default: `statespace`. */
  queue?: string | undefined;
  /** Jobs that it does together, in the engine's batches. Default: 16. */
  concurrency?: number | undefined;
  /** After so long without a sign of life a worker is believed dead, and its jobs go to others. Default: 10 s. */
  lockMs?: number | undefined;
  /** Called for every job that ended. */
  log?: ((entry: { job: string; ms: number; generatedTokens?: number; error?: string }) => void) | undefined;
}

/** A worker that runs. */
export interface RunningWorker {
  /** Takes no more jobs; resolves when those that run have ended. */
  close(): Promise<void>;
}

// How often a job may be found with a dead worker before it is believed to be what kills them.
const MAX_STALLED = 50;

/**
 * Does jobs of the Redis at `url` in an engine. A job is another worker's when this one dies, and its result is written
 * once: by whoever holds the job's lock when it is done.
 * @public
 */
export async function startWorker(engine: Engine, url: string, options: WorkerOptions = {}): Promise<RunningWorker> {
  checkOptions('startWorker', options, ['queue', 'concurrency', 'lockMs', 'log']);
  checkEngine('startWorker', engine);
  const { queue = DEFAULT_QUEUE, concurrency = 16, lockMs = 10_000, log } = options;
  checkQueue('startWorker', queue);
  for (const [name, value] of Object.entries({ concurrency, lockMs }))
    if (!Number.isSafeInteger(value) || value < 1)
      throw mismatch('ERR_ARGUMENT', `startWorker: ${name}`, 'a whole number from 1 on', show(value));
  if (log !== undefined && typeof log !== 'function')
    throw mismatch('ERR_ARGUMENT', 'startWorker: log', 'a function', show(log));
  const connection = connectionOf(url);
  await checkReachable(url);
  const { UnrecoverableError, Worker } = lazyBullmq();
  const worker: Worker<JobRequest, JobResult> = new Worker(
    queue,
    async ({ data, id }, _token, signal) => {
      const started = performance.now();
      try {
        const result = await generate(engine, data, signal);
        log?.({ job: id!, ms: Math.round(performance.now() - started), generatedTokens: result.tokens.length });
        return result;
      } catch (error) {
        log?.({ job: id!, ms: Math.round(performance.now() - started), error: (error as Error).message });
        if (!(error instanceof StatespaceError)) throw error;
        // A wrong request is as wrong the next time.
        const wrong = ['ERR_ARGUMENT', 'ERR_OUT_OF_MEMORY'].includes(error.code);
        throw new (wrong ? UnrecoverableError : Error)(failureOf(error));
      }
    },
    {
      connection,
      concurrency,
      ...{ lockDuration: lockMs, stalledInterval: lockMs / 2, maxStalledCount: MAX_STALLED },
    },
  );
  worker.on('error', () => {}); // a lost connection is made again
  await worker.waitUntilReady();
  return { close: () => worker.close() };
}

async function generate(engine: Engine, request: JobRequest, signal?: AbortSignal): Promise<JobResult> {
  const tokens: number[] = [];
  let text: string | undefined;
  const stream = engine.generate({ ...request, client: 'jobs', ...(signal ? { signal } : {}) });
  for await (const part of stream) {
    tokens.push(part.token);
    if (part.text !== undefined) text = (text ?? '') + part.text;
  }
  const { finishReason, usage } = stream;
  return { ...(text === undefined ? {} : { text }), tokens, finishReason: finishReason!, usage: usage! };
}
