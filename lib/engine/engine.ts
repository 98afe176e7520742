import { checkCall, unlessAborted } from '../cancellation.js';
import { mismatch, StatespaceError, show } from '../errors.js';
import { TokenMask } from '../grammar/mask.js';
import { Model } from '../models/model.js';
import { checkKnown } from '../options.js';
import type { Arrival } from './arrival.js';
import type { StoreCounts } from './cache/persistence.js';
import { Embedding, type Pooling } from './embedding.js';
import { type EngineStream, Generation, type GenerationEvent, tokensOf } from './generation.js';
import { type EngineOptions, type ResolvedOptions, resolveOptions } from './options.js';
import { type GenerateRequest, type Limits, type Prompt, readLimits, readLongPrompt } from './request.js';
import { Run, type Task, type Terms, type Watch } from './run.js';
import { Scheduler } from './scheduler.js';
import { type Scores, Scoring } from './scoring.js';
import { Chooser } from './step.js';

/** What an engine does now, and has done since it was made. */
export interface EngineStats {
  running: number;
  queued: number;
  /** Of all admitted requests. */
  promptTokens: number;
  /** Of those, found in the prefix cache. */
  cachedTokens: number;
  generatedTokens: number;
  /** What the prefix cache holds now. */
  cacheBytes: number;
  checkpoints: number;
  evictions: number;
  /** Requests that ended, by how. */
  finished: number;
  failed: number;
  steps: number;
  store?: StoreCounts;
}

/** What happens in an engine, for those that count it. */
export interface EngineObserver {
  step?(step: { texts: number; promptTokens: number; ms: number }): void;
  firstToken?(ms: number): void;
  finished?(request: { ms: number; failed: boolean }): void;
}

/**
 * Serves many requests from one model: they are admitted as there is room, read in pieces and continued together, a step
 * of the model at a time.
 */
export class Engine implements AsyncDisposable {
  private readonly options: ResolvedOptions;
  private readonly scheduler: Scheduler;
  private readonly counts = { promptTokens: 0, cachedTokens: 0, generatedTokens: 0, finished: 0, failed: 0, steps: 0 };
  private readonly observers = new Set<EngineObserver>();
  private readonly watch: Watch = {
    admitted: (run, cachedTokens) => {
      this.counts.promptTokens += run.prompt.length;
      this.counts.cachedTokens += cachedTokens;
    },
    left: (run) => {
      this.scheduler.left(run);
      this.counts[run.failed ? 'failed' : 'finished']++;
      const ms = performance.now() - run.arrived;
      for (const observer of this.observers) observer.finished?.({ ms, failed: run.failed });
    },
  };

  /** @internal Made by createEngine(). */
  constructor(
    readonly model: Model,
    options: EngineOptions,
  ) {
    this.options = resolveOptions(model, options);
    this.scheduler = new Scheduler(model, this.options);
    this.scheduler.onStep = (step) => {
      this.counts.steps++;
      for (const observer of this.observers) observer.step?.(step);
    };
  }

  /**
   * Streams the tokens that follow a prompt or a chat. When it has ended, the last token and the stream itself say why
   * (`finishReason`) and what the request took (`usage`). Who stops reading ends the request. An abort throws the
   * signal's reason.
   *
   * @throws StatespaceError ERR_ARGUMENT for a wrong request, ERR_OVERLOADED where too many wait, ERR_TIMEOUT past
   * timeoutMs, ERR_OUT_OF_MEMORY where it can never fit, ERR_DISPOSED.
   */
  generate(request: GenerateRequest): EngineStream {
    return tokensOf(this.events(request));
  }

  /** @internal The prompt of a request, for several that have the same. */
  read(request: GenerateRequest): Prompt | Promise<Prompt> {
    return readLongPrompt(this.model, request);
  }

  /** @internal The same, each token at once; what generate() and the server are made of. `read`: gives its prompt. */
  async *events(request: GenerateRequest, read = () => this.read(request)): AsyncGenerator<GenerationEvent, void> {
    const { model } = this;
    const limits = readLimits(model, request);
    const { responseFormat, signal } = request;
    const arrival = this.scheduler.arrivals.begin(request);
    let mask: TokenMask | undefined;
    try {
      const reading = read();
      // Requests that are made at once get into one batch: only what takes long is waited for.
      const prompt = reading instanceof Promise ? await unlessAborted(arrival.signal, reading) : reading;
      signal?.throwIfAborted();
      if (responseFormat)
        mask = await TokenMask.open(model, responseFormat, new Set(limits.stops.ids.keys()), arrival.signal);
      yield* this.tokens(request, limits, prompt, mask, arrival);
    } finally {
      arrival.end();
      mask?.close();
    }
  }

  private async *tokens(
    request: GenerateRequest,
    limits: Limits,
    { tokens, boundaries }: Prompt,
    mask: TokenMask | undefined,
    arrival: Arrival,
  ): AsyncGenerator<GenerationEvent, void> {
    const { model } = this;
    const task = new Generation(
      model,
      tokens,
      limits,
      new Chooser(request, model.vocabSize, limits.stops.ids.keys(), mask),
      () => this.counts.generatedTokens++,
    );
    const run = this.submit(task, tokens, boundaries, request, arrival, limits.maxTokens === 0);
    let first = true;
    try {
      for await (const event of task.stream()) {
        if (event.kind === 'token' && first) {
          first = false;
          for (const observer of this.observers) observer.firstToken?.(performance.now() - run.arrived);
        }
        yield event;
      }
    } finally {
      run.finish();
    }
  }

  /** Log-probability of every token but the first; the sum, negated and divided by their number, is the log of the perplexity. */
  async score(
    tokens: ArrayLike<number>,
    options: { signal?: AbortSignal | undefined; client?: string | undefined } = {},
  ): Promise<Float32Array> {
    checkCall('score', options);
    checkKnown('score', options, ['signal', 'client']);
    return (await this.scores(this.model.readInput(tokens, 'score: tokens') as Int32Array, options)).own;
  }

  /** @internal score() of ids that are some, and `most` of the likeliest tokens in their places. */
  async scores(
    ids: Int32Array,
    options: { signal?: AbortSignal | undefined; client?: string | undefined },
    most = 0,
  ): Promise<Scores> {
    const task = new Scoring(ids, this.model.vocabSize, this.model.outputFeatures, most);
    const arrival = this.scheduler.arrivals.begin(options);
    try {
      if (ids.length < 2) return task.scores;
      this.submit(task, ids, [], options, arrival);
      return await task.result;
    } finally {
      arrival.end();
    }
  }

  /**
   * The model's last hidden states of a text or of token ids, before the head: their mean, or the last token's. Values
   * as they are, not of length 1.
   */
  async embed(
    input: string | ArrayLike<number>,
    options: { pooling?: Pooling | undefined; signal?: AbortSignal | undefined; client?: string | undefined } = {},
  ): Promise<Float32Array> {
    return (await this.embedding(input, options)).embedding;
  }

  /** @internal embed(), and how many tokens it took. */
  async embedding(
    input: string | ArrayLike<number>,
    options: { pooling?: Pooling | undefined; signal?: AbortSignal | undefined; client?: string | undefined } = {},
  ): Promise<{ embedding: Float32Array; tokens: number }> {
    checkCall('embed', options);
    checkKnown('embed', options, ['pooling', 'signal', 'client']);
    const { pooling = 'mean' } = options;
    if (pooling !== 'mean' && pooling !== 'last')
      throw mismatch('ERR_ARGUMENT', 'embed: pooling', 'mean or last', show(pooling));
    const arrival = this.scheduler.arrivals.begin(options);
    try {
      const reading = readLongPrompt(this.model, { prompt: input }, 'embed: input');
      const { tokens } = reading instanceof Promise ? await unlessAborted(arrival.signal, reading) : reading;
      const task = new Embedding(tokens.length, pooling);
      this.submit(task, tokens, [], options, arrival);
      return { embedding: await task.result, tokens: tokens.length };
    } finally {
      arrival.end();
    }
  }

  /** What it does now, and has done since it was made. */
  stats(): EngineStats {
    const { cache, persistence, queue, running } = this.scheduler;
    return {
      running: running.size,
      queued: queue.length,
      ...this.counts,
      cacheBytes: cache?.bytes ?? 0,
      checkpoints: cache?.checkpoints ?? 0,
      evictions: cache?.evictions ?? 0,
      ...(persistence ? { store: { ...persistence.counts } } : {}),
    };
  }

  /** Takes no more requests; resolves when all have ended and what goes into the store is there. */
  drain(): Promise<void> {
    return this.scheduler.drain();
  }

  /** Ends all requests with ERR_DISPOSED and frees what it holds; the model stays. */
  dispose(): Promise<void> {
    return this.scheduler.dispose();
  }
  /** As dispose(), for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  /** @internal Requests that are generated together: who has more asks for them in turn, not for a place of each in the queue. */
  get together(): number {
    return this.options.maxRunning;
  }

  /** @internal Tells of what happens; call what it returns to end that. */
  observe(observer: EngineObserver): () => void {
    this.observers.add(observer);
    return () => this.observers.delete(observer);
  }

  private submit(
    task: Task,
    tokens: Int32Array,
    boundaries: readonly number[],
    { priority = 0, client = '', signal, timeoutMs }: Partial<Terms>,
    arrival: Arrival,
    empty = false,
  ): Run {
    if (signal !== undefined && typeof signal?.throwIfAborted !== 'function')
      throw mismatch('ERR_ARGUMENT', 'engine: signal', 'an AbortSignal', show(signal));
    if (typeof client !== 'string') throw mismatch('ERR_ARGUMENT', 'engine: client', 'a string', show(client));
    signal?.throwIfAborted();
    if (this.model.disposed) throw new StatespaceError('ERR_DISPOSED', 'model: it has been disposed of');
    const run = new Run(task, tokens, boundaries, { priority, client, signal, timeoutMs }, this.watch, arrival.at);
    if (empty) {
      (task as Generation).end('length');
      run.finish();
      return run;
    }
    try {
      this.scheduler.submit(run);
    } catch (error) {
      run.cancel(error);
      throw error;
    } finally {
      arrival.end();
    }
    return run;
  }
}

/** ERR_ARGUMENT for what is no engine; of a class of its own where two copies of the package meet. */
export function checkEngine(op: string, engine: unknown): void {
  if (typeof (engine as Partial<Engine> | null)?.observe !== 'function')
    throw mismatch('ERR_ARGUMENT', `${op}: engine`, 'an engine', show(engine));
}

/**
 * An engine for a model; several are possible, but one serves best.
 * @public
 */
export function createEngine(model: Model, options: EngineOptions = {}): Engine {
  if (!(model instanceof Model)) throw mismatch('ERR_ARGUMENT', 'createEngine: model', 'a model', show(model));
  if (model.disposed) throw new StatespaceError('ERR_DISPOSED', 'createEngine: the model has been disposed of');
  return new Engine(model, options);
}
