import { setTimeout } from 'node:timers/promises';
import { StatespaceError } from '../errors.js';
import type { Model } from '../models/model.js';
import type { Session } from '../session/session.js';
import { Arrivals } from './arrival.js';
import { Persistence } from './cache/persistence.js';
import { PrefixCache } from './cache/prefix-cache.js';
import { commonLength } from './cache/radix.js';
import { planStops, type Stop } from './cache/stops.js';
import type { ResolvedOptions } from './options.js';
import { Pace } from './pace.js';
import { FairQueue } from './queue.js';
import type { Run } from './run.js';
import { type Outcome, type Piece, runSteps, type Stepped } from './step.js';

// Longer than the next mask of a text takes where nothing else keeps the grammar engine busy.
const WAIT_MS = 3;
// Tokens of a piece of a prompt beside other prompts' pieces: each reads and writes its session's state.
const LEAST_PIECE = 16;
const MOST_LEAST_PIECE = 64;
// Of the checkpoints that are only a guess every so many are left where several prompts are read at once: all of them wait for
// each copy of a state.
const GUESSES_PASSED = 4;
// Admitting many long prompts, each looked up in the cache, goes on beside the next steps.
const ADMIT_MS = 4;
// The state that others begin from is a small part of the memory that there is.
const BLANK_SHARE = 64;

/** A part of a step: tokens of one run. */
interface Share {
  run: Run;
  tokens: Int32Array;
  /** The last of what is pending. */
  last: boolean;
}

/** The loop behind an engine: admits, reads prompts in pieces beside the steps of running texts, keeps checkpoints. */
export class Scheduler {
  readonly cache: PrefixCache | undefined;
  readonly persistence: Persistence | undefined;
  readonly queue = new FairQueue();
  readonly running = new Set<Run>();
  /** Called after each step. */
  onStep: ((step: { texts: number; promptTokens: number; ms: number }) => void) | undefined;
  private readonly pace = new Pace();
  private readonly stop = new AbortController();
  private blank: Session | undefined;
  /** Bytes for sessions and cache, beside those of `blank`. */
  private readonly memory: number;
  private reserved = 0;
  private turn = 0;
  private stepping: readonly Share[] = [];
  /** Whether the step under way reads several prompts. */
  private crowded = false;
  /** Whether there may be more to admit than admit() saw. */
  private woken = false;
  /** Whose states the cache holds; see Model.fingerprint. */
  private cached: Uint8Array;
  private loop: Promise<void> | undefined;
  /** Requests that are to be submitted yet. */
  readonly arrivals = new Arrivals();

  constructor(
    private readonly model: Model,
    private readonly options: ResolvedOptions,
  ) {
    const { cache, memoryBytes } = options;
    const { state } = model.sessionBytes(0);
    this.memory = state * BLANK_SHARE <= memoryBytes ? memoryBytes - state : memoryBytes;
    this.cached = model.fingerprint;
    if (cache) this.cache = new PrefixCache(model, cache.bytes);
    if (cache?.store) this.persistence = new Persistence(model, cache.store, cache.bytes);
  }

  /** ERR_OVERLOADED where too many wait; ERR_OUT_OF_MEMORY where it would never fit. */
  submit(run: Run): void {
    if (run.ended) return;
    const { maxQueued, maxRunning } = this.options;
    if (this.queue.length >= maxQueued + Math.max(0, maxRunning - this.running.size))
      throw new StatespaceError(
        'ERR_OVERLOADED',
        `engine: ${this.queue.length} requests wait already; try again later`,
      );
    run.reserved = this.model.sessionBytes(run.task.mostTokens).total;
    if (run.reserved > this.memory)
      throw new StatespaceError(
        'ERR_OUT_OF_MEMORY',
        `engine: ${run.task.mostTokens} tokens need ${run.reserved} bytes, more than the ${this.memory} that there are for them (memoryBytes)`,
      );
    this.queue.add(run);
    if (this.persistence && run.task.cacheable) {
      run.preparing = true;
      void this.prepare(run, this.persistence)
        .catch(() => {}) // the model went away meanwhile: the run fails of that itself
        .finally(() => {
          run.preparing = false;
          this.wake();
        });
    }
    this.wake();
  }

  /** A run has ended: its session goes, now or after the step that uses it. */
  left(run: Run): void {
    this.queue.take(run);
    this.queue.done(run);
    if (this.running.delete(run)) this.reserved -= run.reserved;
    if (!this.stepping.some((share) => share.run === run)) this.release(run);
  }

  /** No more requests; resolves when the last has ended and what was to be stored is. */
  async drain(): Promise<void> {
    this.arrivals.closed = true;
    while (this.loop || this.queue.length > 0 || this.arrivals.size > 0) await (this.loop ?? setTimeout(1));
    await this.persistence?.flush();
  }

  /** Ends all of them with ERR_DISPOSED, and frees what they and the cache hold. */
  async dispose(): Promise<void> {
    this.arrivals.closed = true;
    const error = new StatespaceError('ERR_DISPOSED', 'engine: it was disposed of during this request');
    this.arrivals.cancel(error);
    for (const run of [...this.queue.ordered(), ...this.running]) run.cancel(error);
    this.stop.abort(error);
    await this.loop;
    await this.persistence?.close();
    await this.cache?.clear();
    await this.blank?.dispose();
  }

  private wake(): void {
    this.woken = true;
    this.loop ??= this.work();
  }

  private async work(): Promise<void> {
    await undefined; // who submits several at once gets them into one batch
    for (;;) {
      this.woken = false;
      this.admit();
      await this.settleWaits();
      const shares = this.shares();
      if (shares.length > 0) await this.step(shares);
      else if (!this.woken) break; // a prompt may have been prepared since it was passed over
    }
    this.loop = undefined; // at once: a request that comes now starts it again
  }

  /** Looks in the store for more of the prompt than the cache knows. */
  private async prepare(run: Run, persistence: Persistence): Promise<void> {
    const limit = run.prompt.length - 1;
    const { position } = this.cache!.look(run.prompt, limit);
    if (limit - position < this.options.cache!.least) return;
    const { fingerprint } = this.model;
    const found = await persistence.find(run.prompt, position, limit);
    if (!found) return;
    this.forgetOthers();
    if (fingerprint === this.model.fingerprint && !this.stop.signal.aborted)
      this.cache!.add(run.prompt.subarray(0, found.position), found.session, []);
    await found.session.dispose();
  }

  /** States of other weights than the model has now are nothing to go on from. */
  private forgetOthers(): void {
    if (this.cached === this.model.fingerprint) return;
    this.cached = this.model.fingerprint;
    void this.cache?.clear();
  }

  private admit(): void {
    const { maxRunning } = this.options;
    if (this.queue.length === 0 || this.running.size >= maxRunning) return;
    this.forgetOthers();
    const begun = performance.now();
    let admitted = 0;
    for (const run of this.queue.ordered()) {
      if (this.running.size >= maxRunning) return;
      if (admitted > 0 && performance.now() - begun > ADMIT_MS) {
        this.woken = true;
        return;
      }
      if (run.preparing || this.isAwaited(run)) continue;
      const room = this.memory - this.reserved - run.reserved;
      if (room < 0) return; // who comes next waits for it too: else a large one would wait for ever
      if (this.cache && this.cache.bytes > room) this.cache.shrink(room);
      try {
        this.start(run);
        admitted++;
      } catch (error) {
        run.cancel(error);
      }
    }
  }

  /** Whether a running prompt that begins the same is about to leave what this one can go on from. */
  private isAwaited(run: Run): boolean {
    if (!this.cache || !run.task.cacheable) return false;
    const { waitsFor } = run;
    if (waitsFor) {
      if (!waitsFor.run.ended && waitsFor.run.fed < waitsFor.position && !waitsFor.run.decoding) return true;
      run.waitsFor = undefined;
    }
    const limit = run.prompt.length - 1;
    const known = this.cache.look(run.prompt, limit).position;
    const least = known + Math.max(this.options.cache!.least, 32);
    for (const other of this.running) {
      if (other.decoding || !other.task.cacheable) continue;
      const most = Math.min(limit, other.prompt.length - 1);
      // Before both are compared as a whole, by each that waits with each that runs.
      if (most < least || other.fed >= most || run.prompt[least - 1] !== other.prompt[least - 1]) continue;
      const position = Math.min(commonLength(run.prompt, other.prompt), most);
      if (position < least || other.fed >= position) continue;
      const there = other.stops.find((stop) => stop.position === position);
      if (there)
        there.kind = 'branch'; // no guess any more
      else {
        other.stops.push({ position, kind: 'branch' });
        other.stops.sort((a, b) => a.position - b.position);
      }
      run.waitsFor = { run: other, position };
      return true;
    }
    return false;
  }

  private start(run: Run): void {
    const cached = run.task.cacheable ? this.cache?.take(run.prompt, run.prompt.length - 1) : undefined;
    const from = cached?.position ?? 0;
    if (this.cache && run.task.cacheable) {
      const { common } = this.cache.look(run.prompt, 0);
      run.stops = planStops(run.prompt.length, from, run.boundaries, common, this.options.cache!);
    }
    if (cached) this.persistence?.used(run.prompt.subarray(0, from), cached.session);
    run.session = cached?.session ?? this.begin();
    run.pageRuns = cached?.runs ?? [];
    run.fed = from;
    run.weights = this.model.fingerprint;
    run.turn = this.turn;
    this.reserved += run.reserved;
    this.queue.take(run);
    this.running.add(run);
    run.admitted(from);
  }

  /** A fork of one that has read nothing, where there is room for that: its state is written by the step's threads. */
  private begin(): Session {
    if (this.memory === this.options.memoryBytes) return this.model.createSession();
    this.blank ??= this.model.createSession();
    return this.blank.fork();
  }

  /** Gives what a run waits for a moment, so that it keeps in step with the others; they do not stand still for it. */
  private async settleWaits(): Promise<void> {
    const waits = [...this.running]
      .flatMap((run) => run.task.waits?.() ?? [])
      .map((wait) => wait.catch(() => undefined));
    if (waits.length === 0) return;
    if (waits.length === this.running.size) await Promise.race(waits);
    await Promise.race([Promise.all(waits), setTimeout(WAIT_MS)]);
  }

  /** What the next step feeds: a token of every running text, and of prompts what the pace allows. */
  private shares(): Share[] {
    const { maxBatchTokens } = this.options;
    const runs = [...this.running].filter((run) => !run.task.waits?.()).sort((a, b) => this.queue.compare(a, b));
    const shares: Share[] = [];
    for (const run of runs) {
      if (!run.decoding || shares.length >= maxBatchTokens) continue;
      shares.push({ run, tokens: run.pending, last: true });
    }
    const prompts = runs.filter((run) => !run.decoding);
    this.crowded = prompts.length > 1;
    const steady = shares.filter(({ run }) => run.steady).length;
    const load = { texts: shares.length, steady, prompts: prompts.length };
    let room = this.pace.promptTokens(load, maxBatchTokens - shares.length);
    this.turn++;
    // Equal parts, so that short prompts need not wait for long ones, and in turn where these would be too small.
    const least = Math.min(Math.max(room >> 3, LEAST_PIECE), MOST_LEAST_PIECE);
    for (const [i, run] of prompts.entries()) {
      const fair = Math.max(Math.ceil(room / (prompts.length - i)), Math.min(room, least));
      const take = this.pieceOf(run, fair);
      if (take === 0) continue;
      const end = run.fed + take;
      shares.push({ run, tokens: run.pending.subarray(run.fed, end), last: end === run.pending.length });
      run.turn = this.turn;
      room -= take;
    }
    if (prompts.length === 0) for (const { run } of shares) run.steady = true;
    return shares;
  }

  /** Tokens of the next piece of a prompt: up to the next checkpoint. */
  private pieceOf(run: Run, most: number): number {
    const stop = run.stops.find((next) => next.position > run.fed && !this.passesBy(next));
    const end = stop?.position ?? run.pending.length;
    return Math.min(end - run.fed, most, run.task.rows ?? Infinity);
  }

  private passesBy({ kind, position }: Stop): boolean {
    return this.crowded && kind === 'grid' && position % (GUESSES_PASSED * this.options.cache!.every) !== 0;
  }

  private async step(shares: Share[]): Promise<void> {
    const started = performance.now();
    this.stepping = shares;
    const pieces = shares.map(
      ({ run, tokens, last }): Piece => ({
        ...{ session: run.session!, tokens },
        ...run.task.want(last),
      }),
    );
    const outcomes = await runSteps(this.model, pieces, this.stop.signal);
    this.stepping = [];
    const ms = performance.now() - started;
    const texts = shares.filter(({ run }) => run.decoding).length;
    const promptTokens = shares.reduce((n, { run, tokens }) => n + (run.decoding ? 0 : tokens.length), 0);
    this.pace.learn(texts, promptTokens, ms);
    for (const [i, share] of shares.entries()) this.advance(share, outcomes[i]!);
    this.onStep?.({ texts, promptTokens, ms });
  }

  private advance({ run, tokens, last }: Share, outcome: Stepped): void {
    if (run.ended) this.release(run);
    else if ('error' in outcome) run.cancel(outcome.error);
    else if (outcome.whole) this.conclude(run, outcome);
    else this.goOn(run, tokens, last, outcome);
  }

  private goOn(run: Run, tokens: Int32Array, last: boolean, outcome: Outcome): void {
    this.queue.charge(run, tokens.length);
    run.fed += tokens.length;
    try {
      if (!run.decoding) this.checkpoint(run);
      const next = run.task.received(outcome, tokens, last);
      if (next === 'ended') {
        this.keepAnswer(run);
        run.finish();
      } else if (next) [run.pending, run.fed, run.decoding] = [next, 0, true];
    } catch (error) {
      run.cancel(error);
    }
  }

  /** Nothing was fed, and nothing will be. */
  private conclude(run: Run, outcome: Outcome): void {
    try {
      run.task.received(outcome, new Int32Array(0), true);
      if (run.decoding) this.keepAnswer(run);
      run.finish();
    } catch (error) {
      run.cancel(error);
    }
  }

  private checkpoint(run: Run): void {
    if (run.weights !== this.model.fingerprint) return;
    const stop = run.stops.find(({ position }) => position === run.fed);
    if (!stop || !this.cache || this.passesBy(stop)) return;
    this.keep(run, run.prompt.subarray(0, run.fed));
    if (!this.persistence || (stop.kind === 'grid' && !this.isWorthStoring(run))) return;
    if (stop.kind === 'grid') run.stored = run.fed;
    this.persistence.keep(run.prompt.slice(0, run.fed), run.session!);
  }

  /**
   * Of checkpoints that are only a guess, some: what a store holds has to be worth its way there and back, and it holds
   * keys and values with each of them.
   */
  private isWorthStoring(run: Run): boolean {
    const { every, guessedBytes } = this.options.cache!;
    return run.fed % (4 * every) === 0 && (run.fed - run.stored) * guessedBytes >= run.session!.bytes;
  }

  /** A checkpoint after `tokens`, where memory has room for it. */
  private keep(run: Run, tokens: Int32Array): void {
    const room = this.memory - this.reserved - this.model.sessionBytes(tokens.length).total;
    if (room < 0) return;
    this.cache!.shrink(room);
    run.pageRuns = this.cache!.add(tokens, run.session!, run.pageRuns);
  }

  /** Who writes on in a conversation begins with what was answered. */
  private keepAnswer(run: Run): void {
    const read = run.task.read?.();
    if (
      !this.cache ||
      run.weights !== this.model.fingerprint ||
      !read ||
      read.length - run.prompt.length < this.options.cache!.least
    )
      return;
    this.keep(run, read);
    this.persistence?.keep(read, run.session!);
  }

  private release(run: Run): void {
    void run.session?.dispose();
    run.session = undefined;
  }
}
