import { randomUUID } from 'node:crypto';
import type { ConnectionOptions, Job, Queue, QueueEvents } from 'bullmq';
import { onAbort } from '../cancellation.js';
import { checkRedisUrl, shownUrl } from '../engine/cache/redis-url.js';
import { type GenerateRequest, REQUEST_OPTIONS, type Usage } from '../engine/request.js';
import { type ErrorCode, mismatch, StatespaceError, show } from '../errors.js';
import { checkKnown, checkOptions } from '../options.js';
import type { FinishReason } from '../session/generation.js';

const lazyIoredis = (): typeof import('ioredis') => require('ioredis');
export const lazyBullmq = (): typeof import('bullmq') => require('bullmq');

/** Where jobs are. */
export interface JobsOptions {
  /** Of several queues of one Redis, this one. Default: `statespace`. */
  queue?: string | undefined;
}

/** What a job asks for: what Engine.generate() takes, but for what cannot be written down. */
export type JobRequest = Omit<GenerateRequest, 'signal' | 'client' | 'timeoutMs' | 'processLogits'>;

/** What came of a job. */
export interface JobResult {
  text?: string;
  tokens: number[];
  finishReason: FinishReason;
  usage: Usage;
}

/** How to add jobs that workers (`statespace worker`) do, and wait for what they come to. */
export interface Jobs {
  /** Returns its id. One that is there already (given by `id`) is left as it is: adding twice is adding once. */
  add(request: JobRequest, options?: { id?: string | undefined; priority?: number | undefined }): Promise<string>;
  /** Resolves when it is done, at once where it is; rejects with why it failed. */
  result(id: string, options?: { signal?: AbortSignal | undefined }): Promise<JobResult>;
  /** Leaves the queue; jobs stay in it. */
  close(): Promise<void>;
}

// A result that nobody came for goes after a week.
const KEPT_SECONDS = 7 * 24 * 3600;
const ATTEMPTS = 3;
const JOB = 'generate';

/** `redis://host:port/db` as BullMQ takes it. */
export function connectionOf(url: string): ConnectionOptions {
  checkRedisUrl('jobs: redis', url);
  return { url, maxRetriesPerRequest: null } as ConnectionOptions;
}

export const DEFAULT_QUEUE = 'statespace';

const CONNECT_MS = 5000;

/** ERR_STATE where nobody answers there: BullMQ would try for ever, and say nothing. */
export async function checkReachable(url: string): Promise<void> {
  const { Redis } = lazyIoredis();
  const once = { lazyConnect: true, connectTimeout: CONNECT_MS, maxRetriesPerRequest: 0, retryStrategy: () => null };
  const redis = new Redis(url, once);
  let reason = 'no answer';
  redis.on('error', (error: Error) => {
    reason = error.message;
  });
  try {
    await redis.connect();
    await redis.ping();
  } catch (error) {
    const why = reason === 'no answer' ? (error as Error).message : reason;
    throw new StatespaceError('ERR_STATE', `jobs: the Redis at ${shownUrl(url)} cannot be asked: ${why}`, {
      cause: error,
    });
  } finally {
    redis.disconnect();
  }
}

/** A queue's name as BullMQ takes it. */
export function checkQueue(op: string, queue: unknown): void {
  if (typeof queue !== 'string' || queue === '' || queue.includes(':'))
    throw mismatch('ERR_ARGUMENT', `${op}: queue`, 'a name without colons', show(queue));
}

/**
 * Jobs in the Redis at `url`; connects at the first use.
 * @public
 */
export function openJobs(url: string, options: JobsOptions = {}): Jobs {
  checkOptions('openJobs', options, ['queue']);
  const { queue = DEFAULT_QUEUE } = options;
  checkQueue('openJobs', queue);
  return new RedisJobs(url, connectionOf(url), queue);
}

class RedisJobs implements Jobs {
  private opened: Promise<{ queue: Queue; events: QueueEvents }> | undefined;
  private closed = false;

  constructor(
    private readonly url: string,
    private readonly connection: ConnectionOptions,
    private readonly name: string,
  ) {}

  private open(): Promise<{ queue: Queue; events: QueueEvents }> {
    if (this.closed) return Promise.reject(new StatespaceError('ERR_DISPOSED', 'jobs: they were closed'));
    this.opened ??= (async () => {
      await checkReachable(this.url);
      const { Queue, QueueEvents } = lazyBullmq();
      const { connection, name } = this;
      const queue = new Queue(name, { connection });
      const events = new QueueEvents(name, { connection });
      // Calls tell of the failure; a lost connection is made again.
      queue.on('error', () => {}).setMaxListeners(0); // one for each result that is waited for
      events.on('error', () => {}).setMaxListeners(0);
      await events.waitUntilReady();
      return { queue, events };
    })();
    // The next call tries again.
    this.opened.catch(() => {
      this.opened = undefined;
    });
    return this.opened;
  }

  async add(
    request: JobRequest,
    options: { id?: string | undefined; priority?: number | undefined } = {},
  ): Promise<string> {
    checkOptions('jobs.add', options, ['id', 'priority']);
    const { id = randomUUID(), priority } = options;
    if (typeof id !== 'string' || id === '') throw mismatch('ERR_ARGUMENT', 'jobs.add: id', 'a text', show(id));
    if (priority !== undefined && !Number.isFinite(priority))
      throw mismatch('ERR_ARGUMENT', 'jobs.add: priority', 'a number', show(priority));
    const data = plain(request);
    const { queue } = await this.open();
    const age = { age: KEPT_SECONDS };
    await queue.add(JOB, data, {
      ...{ jobId: written(id), attempts: ATTEMPTS, backoff: { type: 'exponential', delay: 500 } },
      ...{ removeOnComplete: age, removeOnFail: age },
      // BullMQ's first is its smallest; ours its largest.
      ...(priority === undefined ? {} : { priority: Math.max(1, 1_000_000 - Math.round(priority)) }),
    });
    return id;
  }

  async result(id: string, { signal }: { signal?: AbortSignal | undefined } = {}): Promise<JobResult> {
    const { queue, events } = await this.open();
    const job = (await queue.getJob(written(id))) as Job<JobRequest, JobResult> | undefined;
    if (!job) throw new StatespaceError('ERR_ARGUMENT', `jobs: there is no job ${show(id)}`);
    signal?.throwIfAborted();
    let forget: (() => void) | undefined;
    const aborted = new Promise<never>((_, reject) => {
      if (signal) forget = onAbort(signal, () => reject(signal.reason));
    });
    const finished = job.waitUntilFinished(events).catch((error: Error) => {
      throw readFailure(error);
    });
    return Promise.race([finished, aborted]).finally(() => forget?.());
  }

  async close(): Promise<void> {
    this.closed = true;
    const opened = await this.opened?.catch(() => undefined);
    this.opened = undefined;
    if (opened) await Promise.all([opened.queue.close(), opened.events.close()]);
  }
}

/** A failure as a job keeps it, of which BullMQ stores the message alone. */
export const failureOf = ({ code, message }: StatespaceError): string => `${code}: ${message}`;

function readFailure(error: Error): Error {
  const [, code, message] = /^(ERR_[A-Z_]+): (.*)$/s.exec(error.message) ?? [];
  return code ? new StatespaceError(code as ErrorCode, message!, { cause: error }) : error;
}

/** An id as BullMQ takes it: whole numbers are its own, colons part its keys. */
function written(id: string): string {
  const safe = String(id).replaceAll('%', '%25').replaceAll(':', '%3A');
  return /^\d+$/.test(safe) ? `%${safe}` : safe;
}

const WRITTEN = REQUEST_OPTIONS.filter((o) => !['signal', 'client', 'timeoutMs', 'processLogits'].includes(o));
// Far below what any logit is, and a number in JSON.
const BANNED = -1e30;

function finite(bias: Readonly<Record<number, number>>): Record<number, number> {
  return Object.fromEntries(Object.entries(bias).map(([id, x]) => [id, x === Number.NEGATIVE_INFINITY ? BANNED : x]));
}

/** Typed arrays as arrays: a job is JSON. */
function plain(request: JobRequest): JobRequest {
  if (typeof request !== 'object' || request === null)
    throw mismatch('ERR_ARGUMENT', 'jobs: request', 'an object', show(request));
  checkKnown('jobs.add: request', request, WRITTEN);
  const list = (x: unknown) => (ArrayBuffer.isView(x) ? Array.from(x as Int32Array) : x);
  return {
    ...request,
    ...(request.prompt === undefined ? {} : { prompt: list(request.prompt) as number[] }),
    ...(request.tokens === undefined ? {} : { tokens: list(request.tokens) as number[] }),
    ...(request.logitBias ? { logitBias: finite(request.logitBias) } : {}),
  };
}
