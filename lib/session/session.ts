import { replaceFile } from '../atomic-file.js';
import { StatespaceError, show } from '../errors.js';
import { call, type NativeHandle } from '../native.js';
import { Tensor, type TensorLike } from '../tensor.js';
import { checkCall } from './cancellation.js';
import { type Generated, type GenerateOptions, generate } from './generate.js';
import type { Network } from './network.js';
import { encodeSnapshot } from './snapshot.js';

/** What a forward returns and how it can be stopped. */
export interface ForwardOptions {
  /** Rows of logits to return: of the last token (default), of all, or none. */
  logits?: 'last' | 'all' | 'none';
  /** Stops the call; the session is then as it was before. */
  signal?: AbortSignal;
  /** Called as chunks of the prompt are done. */
  onProgress?: (tokensDone: number) => void;
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
  private lastRow: Float32Array | undefined;
  private seen = new Set<number>();

  /** @internal Made by Model.createSession() and fork(). */
  constructor(
    readonly model: Network,
    handle: NativeHandle,
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
  private inOrder<T>(work: () => Promise<T>): Promise<T> {
    return this.during(this.queue.then(work));
  }

  /** Counts a call on this session until it has ended; the next call waits for it. */
  private during<T>(call: Promise<T>): Promise<T> {
    if (this.handle) this.info();
    this.pending++;
    const result = call.finally(() => this.pending--);
    this.queue = result.catch(() => undefined);
    return result;
  }

  /** @internal Runs work on several sessions at once, after all earlier calls on any of them. */
  static together<T>(sessions: readonly Session[], work: (handles: NativeHandle[]) => Promise<T>): Promise<T> {
    for (const s of sessions) s.native();
    let result = Promise.all(sessions.map((s) => s.queue)).then(() => work(sessions.map((s) => s.native())));
    for (const s of sessions) result = s.during(result);
    return result;
  }

  /**
   * Feeds tokens (or, to a network of float rows, rows of its features) and returns logits: (1, V), with 'all' (L, V),
   * with 'none' (0, V); f32. A long prompt runs in chunks. An aborted or failed call leaves the session as it was.
   */
  forward(tokens: ArrayLike<number> | TensorLike, options: ForwardOptions = {}): Promise<Tensor> {
    try {
      this.native();
      checkCall('forward', options);
      const { logits = 'last', signal } = options;
      if (!['last', 'all', 'none'].includes(logits)) {
        throw new StatespaceError(
          'ERR_ARGUMENT',
          `forward: logits: expected last, all or none, received ${show(logits)}`,
        );
      }
      const data = this.model.readInput(tokens);
      signal?.throwIfAborted();
      return this.inOrder(() => this.feed(data, logits, options));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  private async feed(
    data: Int32Array | Float32Array,
    logits: 'last' | 'all' | 'none',
    options: ForwardOptions,
  ): Promise<Tensor> {
    const handle = this.native();
    const rows = await this.model.forward([handle], data, [data.length / this.model.inputWidth], [logits], options);
    return this.received(data, rows);
  }

  /** @internal Notes what was fed and what came back. */
  received(data: Int32Array | Float32Array, rows: Float32Array): Tensor {
    const width = this.model.outputFeatures;
    if (data instanceof Int32Array) for (const t of data) this.seen.add(t);
    if (rows.length >= width) this.lastRow = rows.slice(rows.length - width);
    else if (data.length > 0) this.lastRow = undefined;
    return new Tensor(rows, [rows.length / width, width]);
  }

  /**
   * Streams tokens. Stops after maxTokens, at `stop`, at an eos_token_id of the model's config files, or on abort.
   * Without a prompt it goes on from the last forward.
   */
  generate(options: GenerateOptions = {}): AsyncIterable<Generated> {
    return generate(this, options, { lastRow: () => this.lastRow, seen: () => this.seen });
  }

  /**
   * A second session that goes on from here; the KV cache is shared until one of them writes. ERR_STATE while a call on
   * this one runs.
   */
  fork(): Session {
    const handle = this.idle('fork');
    const copy = new Session(
      this.model,
      call((n) => n.forkSession(handle)),
    );
    return copy.remember(this.lastRow, this.seen);
  }

  /** @internal What generate() goes on from, of the session that this one continues. */
  remember(lastRow: Float32Array | undefined, seen: Iterable<number>): this {
    this.lastRow = lastRow;
    this.seen = new Set(seen);
    return this;
  }

  /**
   * Versioned, checksummed and bound to the model's fingerprint; Model.restoreSession() reads it, on any machine. With
   * it goes the last row of logits, so that generate() goes on from there, and the ids that a penalty counts as seen.
   * ERR_STATE while a call on this session runs.
   */
  save(): Uint8Array {
    const handle = this.idle('save');
    const { state, position } = call((n) => {
      return { state: n.exportSession(handle), position: n.sessionInfo(handle).position };
    });
    const seen = Int32Array.from(this.seen).sort();
    return encodeSnapshot(this.model.fingerprint, { position, state, lastRow: this.lastRow, seen });
  }

  /**
   * save() into a file that is replaced as a whole: written beside it, synced and renamed over it, so that after a crash
   * or a kill at any moment `path` holds what it held before or the new snapshot. The state is that of the moment of the
   * call. Model.restoreSessionFromFile() reads it. Rejects with the file system's error.
   */
  async saveToFile(path: string): Promise<void> {
    await replaceFile(path, this.save());
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
