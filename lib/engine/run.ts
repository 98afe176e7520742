import { onAbort } from '../cancellation.js';
import { StatespaceError } from '../errors.js';
import type { Session } from '../session/session.js';
import type { PageRun } from './cache/pages.js';
import type { CheckpointNode } from './cache/prefix-cache.js';
import type { Stop } from './cache/stops.js';
import type { Outcome, Piece } from './step.js';

/** How a run is served. */
export interface Terms {
  priority: number;
  client: string;
  signal?: AbortSignal;
  timeoutMs?: number;
}

/** What the scheduler calls of the kind of work that a run is: text, scores or an embedding. */
export interface Task {
  /** Tokens that it may come to have read, for the memory to be set aside. */
  readonly mostTokens: number;
  /** Whether it may go on from a checkpoint and leave some. */
  readonly cacheable: boolean;
  /** Rows that it can take at once, where it wants the logits of every token. */
  readonly rows?: number;
  /** What it waits for before its next step. */
  waits?(): Promise<unknown> | undefined;
  want(last: boolean): Pick<Piece, 'want' | 'chooser'>;
  /** What came of a piece. The next tokens to feed, or none: it has ended. `undefined`: go on with the prompt. */
  received(outcome: Outcome, piece: Int32Array, last: boolean): Int32Array | 'ended' | undefined;
  failed(error: unknown): void;
  /** All tokens that its session has read, where what comes after them may be asked for later. */
  read?(): Int32Array;
  /** It was given its session. */
  admitted(cachedTokens: number): void;
}

/** Who is told what becomes of a run. */
export interface Watch {
  admitted(run: Run, cachedTokens: number): void;
  /** It has ended, in whatever way. */
  left(run: Run): void;
}

export const tooLate = (timeoutMs: number): StatespaceError =>
  new StatespaceError('ERR_TIMEOUT', `engine: the request took more than ${timeoutMs} ms`);

/** Calls `late` so many milliseconds after `since`. */
export const afterMs = (ms: number, since: number, late: () => void): NodeJS.Timeout =>
  setTimeout(late, Math.min(Math.max(1, ms - (performance.now() - since)), 2 ** 31 - 1));

/** A request on its way through the engine. */
export class Run {
  session: Session | undefined;
  /** Bytes that are set aside for it while it runs. */
  reserved = 0;
  /** Tokens to be read: the prompt, then what was chosen. */
  pending: Int32Array;
  /** Of `pending`, those that were read. */
  fed = 0;
  /** Whether the prompt was read. */
  decoding = false;
  /** Whether its text has gone on without prompts beside it. */
  steady = false;
  /** Number of the step that last read some of its prompt. */
  turn = 0;
  stops: Stop[] = [];
  /** Where it last left one in a store that was only a guess. */
  stored = 0;
  /** The fingerprint of the model that began it: of a part of another weights made, its state is nothing to keep. */
  weights: Uint8Array | undefined;
  pageRuns: readonly PageRun<CheckpointNode>[] = [];
  /** Another run that is about to leave a checkpoint here for this one to go on from. */
  waitsFor: { run: Run; position: number } | undefined;
  /** Not to be admitted yet: its prefix is looked for in a store. */
  preparing = false;
  ended = false;
  failed = false;
  /** Whether the queue has counted it. */
  counted = false;
  private timer: NodeJS.Timeout | undefined;
  private readonly forgetSignal?: () => void;

  constructor(
    readonly task: Task,
    readonly prompt: Int32Array,
    readonly boundaries: readonly number[],
    readonly terms: Terms,
    private readonly watch: Watch,
    /** When it was asked for, by performance.now(). */
    readonly arrived: number,
  ) {
    this.pending = prompt;
    const { signal, timeoutMs } = terms;
    if (signal) this.forgetSignal = onAbort(signal, () => this.cancel(signal.reason));
    if (timeoutMs !== undefined) this.timer = afterMs(timeoutMs, arrived, () => this.cancel(tooLate(timeoutMs)));
  }

  /** Ends it with a failure, at once; what it holds is free when the step that it is in has ended. */
  cancel(error: unknown): void {
    if (this.ended) return;
    this.failed = true;
    this.finish();
    this.task.failed(error);
  }

  admitted(cachedTokens: number): void {
    this.task.admitted(cachedTokens);
    this.watch.admitted(this, cachedTokens);
  }

  finish(): void {
    if (this.ended) return;
    this.ended = true;
    clearTimeout(this.timer);
    this.forgetSignal?.();
    this.watch.left(this);
  }
}
