import { replaceFileBy } from '../atomic-file.js';
import { checkCall, unlessAborted } from '../cancellation.js';
import { mismatch, StatespaceError, show } from '../errors.js';
import { call, type NativeHandle } from '../native.js';
import { checkKnown, checkNone, checkPath } from '../options.js';
import { outTensor, Tensor, type TensorLike } from '../tensor.js';
import { type Generating, generate, type StepOptions, type Tokens } from './generate.js';
import type { GenerateOptions, Generation } from './generation.js';
import { jointStep } from './joint-steps.js';
import type { Network } from './network.js';
import type { Sampler } from './sampler.js';
import { snapshotBytes, snapshotHeader, snapshotRoom } from './snapshot.js';
import type { Unsaid } from './unsaid.js';

/** What a forward returns and how it can be stopped. */
export interface ForwardOptions {
  /** Rows of logits to return: of the last token (default), of all, or none. */
  logits?: 'last' | 'all' | 'none' | undefined;
  /** Stops the call; the session is then as it was before. */
  signal?: AbortSignal | undefined;
  /** Called as chunks of the prompt are done. */
  onProgress?: ((tokensDone: number) => void) | undefined;
  /**
   * Where the logits are written, which the promise then resolves to: of the result's shape, f32 (nothing is allocated),
   * f16 or bf16. Its values are undefined until then, and after a call that fails or is aborted.
   */
  out?: TensorLike | undefined;
}

const NOTHING = new Uint8Array(0);
const FILE_PIECE = 4 << 20; // of a snapshot on its way to a file
const ended = () => undefined;
const FORWARD_OPTIONS = ['logits', 'signal', 'onProgress', 'out'];

/** What a snapshot holds besides the state and the tokens. */
export interface SaveOptions {
  /** The last row of logits, from which generate() goes on without a prompt; default false. */
  logits?: boolean | undefined;
}

/**
 * One sequence: its recurrent state and KV cache. A value: fork, save, restore. Calls on one session run in the order in
 * which they were made; different sessions run side by side.
 */
export class Session implements AsyncDisposable {
  private handle: NativeHandle | undefined;
  private queue: Promise<unknown> = Promise.resolve();
  private pending = 0;
  private settled = { position: 0, bytes: 0 };
  private generating = false;

  /** @internal Made by Model.createSession() and fork(). */
  constructor(
    readonly model: Network,
    handle: NativeHandle,
    private unsaid?: Unsaid,
  ) {
    this.handle = handle;
  }

  private native(): NativeHandle {
    if (!this.handle || this.model.disposed)
      throw new StatespaceError('ERR_DISPOSED', 'session: it, or its model, has been disposed of');
    return this.handle;
  }

  /** Tokens fed so far; while calls run, those fed before them. */
  get position(): number {
    return this.info().position;
  }
  /** Bytes that it holds, state and KV cache; while calls run, those held before them. */
  get bytes(): number {
    return this.info().bytes;
  }

  /** Native code writes to the session while a call runs: what it was before is kept here. */
  private info(): { position: number; bytes: number } {
    const handle = this.native();
    if (this.pending === 0) this.settled = call((n) => n.sessionInfo(handle));
    return this.settled;
  }

  /** The handle, for what copies the session's state: that needs all calls to have ended. */
  private idle(what: string): NativeHandle {
    const handle = this.native();
    if (this.pending > 0) {
      throw new StatespaceError(
        'ERR_STATE',
        `session.${what}: expected a session at rest, received one with ${this.pending} calls that have not ended; await them first`,
      );
    }
    return handle;
  }

  /** Runs after all earlier calls on this session. */
  private inOrder<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    if (!signal || this.pending === 0) return this.during(this.queue.then(work));
    // An abort is heard while earlier calls run; those that come later wait for these all the same.
    const before = this.queue;
    const result = this.during(unlessAborted(signal, before).then(work));
    const own = this.queue;
    this.queue = before.then(() => own);
    return result;
  }

  /** inOrder(), with tokens that may not be there yet: calls that come later wait for these as well. */
  private afterTokens<T>(tokens: Tokens, work: (ids: Int32Array) => Promise<T>, signal?: AbortSignal): Promise<T> {
    if (!(tokens instanceof Promise)) return this.inOrder(() => work(tokens), signal);
    tokens.catch(() => {}); // an abort may come before
    return this.inOrder(async () => work(await unlessAborted(signal, tokens)), signal);
  }

  /** Counts a call on this session until it has ended; the next call waits for it. */
  private during<T>(call: Promise<T>): Promise<T> {
    // Of a model that is gone the call itself says so.
    if (this.handle && !this.model.disposed) this.info();
    this.pending++;
    const result = call.finally(() => this.pending--);
    // Without its value, which would stay until the next call.
    this.queue = result.then(ended, ended);
    return result;
  }

  /**
   * @internal Runs work on several sessions at once, after all earlier calls on any of them; an abort is heard while those
   * run, and what comes later waits for them all the same.
   */
  static together<T>(
    sessions: readonly Session[],
    work: (handles: NativeHandle[]) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    for (const s of sessions) s.native();
    const turn = unlessAborted(signal, Promise.all(sessions.map((s) => s.queue)));
    let result = turn.then(() => work(sessions.map((s) => s.native())));
    for (const s of sessions) {
      const before = s.queue;
      result = s.during(result);
      const own = s.queue;
      s.queue = before.then(() => own);
    }
    return result;
  }

  /**
   * @internal Work of together() whose progress callback may fail when native code has done all of it: the sessions are
   * then what they were before.
   */
  static async restoring<T>(
    sessions: readonly Session[],
    handles: readonly NativeHandle[],
    { onProgress }: Pick<ForwardOptions, 'onProgress'>,
    work: () => Promise<T>,
  ): Promise<T> {
    if (!onProgress) return work();
    const before = handles.map((handle) => call((n) => n.forkSession(handle)));
    let done = false;
    try {
      const result = await work();
      done = true;
      return result;
    } finally {
      for (const [i, session] of sessions.entries()) {
        const restored = !done && session.handle === handles[i];
        if (restored) session.handle = before[i];
        call((n) => n.dispose(restored ? handles[i]! : before[i]!));
      }
    }
  }

  /**
   * Feeds tokens (or, to a network of float rows, rows of its features) and returns logits: (1, V), with 'all' (L, V),
   * with 'none' (0, V); f32. A long prompt runs in chunks. An aborted or failed call leaves the session as it was.
   */
  forward(tokens: ArrayLike<number> | TensorLike, options: ForwardOptions = {}): Promise<Tensor> {
    try {
      this.native();
      checkCall('forward', options);
      checkKnown('forward', options, FORWARD_OPTIONS);
      const { logits = 'last', signal } = options;
      if (!['last', 'all', 'none'].includes(logits)) {
        throw new StatespaceError(
          'ERR_ARGUMENT',
          `forward: logits: expected last, all or none, received ${show(logits)}`,
        );
      }
      const data = this.model.readInput(tokens);
      const out = options.out && this.readOut(options.out, tokens, data.length / this.model.inputWidth, logits);
      signal?.throwIfAborted();
      return this.inOrder(() => this.feed(data, logits, options, out), signal);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  private async feed(
    data: Int32Array | Float32Array,
    logits: 'last' | 'all' | 'none',
    options: ForwardOptions,
    out?: Tensor,
  ): Promise<Tensor> {
    const handle = this.native();
    const inPlace = out?.dtype === 'f32' ? (out.data as Float32Array) : undefined;
    const lengths = [data.length / this.model.inputWidth];
    const rows = await Session.restoring([this], [handle], options, () =>
      this.model.forward([handle], data, lengths, [logits], options, inPlace),
    );
    if (!out) return new Tensor(rows, [rows.length / this.model.outputFeatures, this.model.outputFeatures]);
    if (!inPlace) await call((n) => n.convert(rows, 'f32', out.data, out.dtype, false));
    return out;
  }

  /** A forward's `out`, checked. Of a call without tokens, which a token of generate() may precede, the addon knows the rows. */
  private readOut(given: TensorLike, input: unknown, length: number, logits: 'last' | 'all' | 'none'): Tensor {
    const { model } = this;
    const shape = [model.outputRows(logits, length), model.outputFeatures];
    const out = outTensor('forward: out', given, length > 0 ? shape : undefined);
    const read = ArrayBuffer.isView(input) ? input : (input as Partial<TensorLike>).data;
    if (ArrayBuffer.isView(read) && call((n) => n.overlap([out.data], [read])))
      throw new StatespaceError('ERR_ARGUMENT', 'forward: out: expected memory of its own, received that of the input');
    return out;
  }

  /**
   * Streams tokens as they are chosen. Stops after maxTokens, at `stop`, at an eos_token_id of the model's config files,
   * or on abort; `finishReason` of the stream, and of its last token, says why. Without a prompt it goes on from the last
   * forward. ERR_STATE while another generate() of this session runs.
   */
  generate(options: GenerateOptions = {}): Generation {
    return generate(this.forGenerate(), options);
  }

  private forGenerate(): Generating {
    const { model } = this;
    const session = this;
    const at = () => call((n) => n.sessionInfo(this.native())).position;
    return {
      get unsaid() {
        return session.unsaid;
      },
      set unsaid(unsaid) {
        session.unsaid = unsaid;
      },
      network: model,
      position: () => this.position,
      next: (tokens, sampler, options) =>
        this.afterTokens(
          tokens,
          async (ids) => {
            const chosen = await this.choose(ids, sampler, options);
            options.read?.(at());
            return chosen;
          },
          options.signal,
        ),
      row: (tokens, { signal }, use) =>
        this.afterTokens(tokens, async (ids) => use(await this.nextRow(ids, { signal }), at()), signal),
      choose: (row, sampler) => call((n) => n.sampleRow(sampler.handle, this.native(), row)),
      tokens: (from) => call((n) => n.sessionTokens(this.native(), from)),
      accept: (token) => this.accept(token),
      begin: () => {
        this.native();
        if (this.generating)
          throw new StatespaceError('ERR_STATE', 'session.generate: another generate() of this session has not ended');
        this.generating = true;
      },
      end: () => {
        this.generating = false;
      },
    };
  }

  private async choose(tokens: Int32Array, sampler: Sampler, { signal, mask }: StepOptions) {
    const entry = { session: this.native(), tokens, sampler, mask };
    // A prompt goes by itself: others would wait for all of it.
    const joins = tokens.length === 0;
    const result = joins
      ? await jointStep(this.model, entry, signal)
      : (await this.model.step([entry], { signal }))[0]!;
    return result.next!;
  }

  /** The row after these tokens, which may be none. */
  private async nextRow(tokens: Int32Array, options: { signal?: AbortSignal }): Promise<Float32Array> {
    const handle = this.native();
    const kept = tokens.length === 0 ? call((n) => n.sessionRow(handle)) : undefined;
    if (kept) return kept;
    const rows = await this.model.forward([handle], tokens, [tokens.length], ['last'], options);
    if (rows.length === 0)
      throw new StatespaceError(
        'ERR_ARGUMENT',
        "generate: expected a prompt, or an earlier forward with logits 'last' or 'all'",
      );
    return rows;
  }

  /** Makes a token part of the sequence now, to be fed with what comes next. */
  private accept(token: number): void {
    const set = () => call((n) => n.setPending(this.native(), token));
    if (this.pending === 0) set();
    else void this.inOrder(async () => set()).catch(() => undefined);
  }

  /**
   * A second session that goes on from here, at no cost: state and KV cache are shared until one of them writes.
   * ERR_STATE while a call on this one runs.
   */
  fork(options?: Readonly<Record<never, never>>): Session {
    checkNone('fork', options);
    const handle = this.idle('fork');
    return new Session(
      this.model,
      call((n) => n.forkSession(handle)),
      this.unsaid,
    );
  }

  /**
   * Versioned, checksummed and bound to the model's fingerprint and to the type that it is held in;
   * Model.restoreSession() reads it, on any machine. With it go the tokens so far, which penalties count. ERR_STATE while
   * a call on this session runs.
   */
  save(options: SaveOptions = {}): Uint8Array {
    const { sizes, handle, row, head } = this.snapshot('save', options);
    const bytes = snapshotRoom(sizes, 0);
    call((n) => n.exportSession(handle, row, bytes, head, 0, true));
    return bytes;
  }

  /** As save(), off the event loop: of the state at the moment of the call, which later calls may change meanwhile. */
  saveAsync(options: SaveOptions = {}): Promise<Uint8Array> {
    return this.saveBehind(NOTHING, options);
  }

  /** @internal The same behind bytes that are none of it. */
  async saveBehind(before: Uint8Array, options: SaveOptions = {}): Promise<Uint8Array> {
    const { sizes, handle, row, head } = this.snapshot('saveAsync', options, before);
    const bytes = snapshotRoom(sizes, before.length);
    await call((n) => n.exportSession(handle, row, bytes, head, before.length, false));
    return bytes;
  }

  private snapshot(what: string, options: SaveOptions, before: Uint8Array = NOTHING) {
    const handle = this.idle(what);
    if (typeof options !== 'object' || options === null)
      throw new StatespaceError('ERR_ARGUMENT', `session.${what}: expected options, received ${show(options)}`);
    checkKnown(`session.${what}`, options, ['logits']);
    const row = options.logits === true;
    const sizes = call((n) => n.exportSizes(handle, row));
    const head = Buffer.concat([before, snapshotHeader(this.model, sizes, this.unsaid)]);
    return { sizes, handle, row, head };
  }

  /**
   * saveAsync() into a file that is replaced as a whole: written beside it, synced and renamed over it, so that after a
   * crash or a kill at any moment `path` holds what it held before or the new snapshot. The state is that of the moment
   * of the call; 4 MB of it at a time are copied. Model.restoreSessionFromFile() reads it. ERR_ARGUMENT where it cannot be
   * written, with the file system's error as its cause.
   */
  async saveToFile(path: string, options: SaveOptions = {}): Promise<void> {
    checkPath('session.saveToFile: path', path);
    const { sizes, handle, row, head } = this.snapshot('saveToFile', options);
    const size = snapshotBytes(sizes);
    const leaving = call((n) => n.openExport(handle, row, head, 0, size));
    const piece = new Uint8Array(Math.min(size, FILE_PIECE));
    try {
      await replaceFileBy(path, async (file) => {
        for (let at = 0; at < size; ) {
          const count = await call((n) => n.exportPiece(leaving, piece));
          await file.writeFile(piece.subarray(0, count));
          at += count;
        }
      });
    } finally {
      call((n) => n.closeExport(leaving));
    }
  }

  /** Frees its memory, after the calls made so far. */
  dispose(): Promise<void> {
    const handle = this.handle;
    this.handle = undefined;
    return this.inOrder(async () => {
      if (handle) call((n) => n.dispose(handle));
    });
  }
  /** As dispose(), for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}

/** {@link Session.fork} as a function: O(1), the state is copied on the first write. */
export function fork(session: Session, options?: Readonly<Record<never, never>>): Session {
  if (!(session instanceof Session)) throw mismatch('ERR_ARGUMENT', 'fork: session', 'a session', show(session));
  return session.fork(options);
}
