// What a model asks of native code: forwards that can be cancelled, and what must not run beside them.
import { Cancellation, watched } from '../cancellation.js';
import { StatespaceError } from '../errors.js';
import type { Graph } from '../graph/graph.js';
import { hugeFloats } from '../memory.js';
import { call, type NativeHandle } from '../native.js';
import type { Fed, StepEntry, StepResult, Watch } from '../session/network.js';
import { checkLengths } from './input.js';

/** What a row of output is of: each token, what the head is asked for, or a whole sequence. */
export type OutputPer = 'token' | 'output' | 'sequence';

/** The calls of one model. Those that run end before its weights change, or are cancelled where they go. */
export class NativeCalls {
  private readonly running = new Map<Promise<unknown>, Cancellation>();
  private changing: Promise<unknown> | undefined;
  private handle: NativeHandle | undefined;

  constructor(
    handle: NativeHandle,
    private readonly graph: Graph,
    private readonly output: { readonly outputPer: OutputPer; readonly outputFeatures: number },
  ) {
    this.handle = handle;
  }

  /** The model; ERR_DISPOSED where it is no more. */
  get native(): NativeHandle {
    if (!this.handle) throw new StatespaceError('ERR_DISPOSED', 'model: it has been disposed of');
    return this.handle;
  }

  get disposed(): boolean {
    return this.handle === undefined;
  }

  /** Rows of output that a sequence of this length gives. */
  outputRows(logits: 'none' | 'last' | 'all' | 'whole', length: number): number {
    if (logits === 'none' || length === 0) return 0;
    if (this.output.outputPer === 'sequence') return 1;
    return logits === 'last' ? 1 : length;
  }

  /** One call; dispose() cancels it and waits. */
  async forward(
    ...[sessions, data, lengths, logits, options, out]: [...Fed, out?: Float32Array]
  ): Promise<Float32Array> {
    this.check(sessions, lengths);
    const of = Int32Array.from(lengths);
    const [samplers, masks] = [undefined, undefined];
    const huge = out ? undefined : this.hugeOutput(lengths, logits);
    const rows = await this.cancellable(options, (flag, report) =>
      call((n) => n.forward(sessions, data, of, logits, flag, report, samplers, masks, out ?? huge)),
    );
    return huge ?? rows;
  }

  /** The same, each session's rows in memory of their own. */
  async forwardApart(...[sessions, data, lengths, logits, options]: Fed): Promise<Float32Array[]> {
    this.check(sessions, lengths);
    const of = Int32Array.from(lengths);
    return this.cancellable(options, (flag, report) =>
      call((n) => n.forward(sessions, data, of, logits, flag, report, undefined, undefined, true)),
    );
  }

  /** One call for many sequences and the tokens that follow; see Network.step(). */
  async step(entries: readonly StepEntry[], options: Pick<Watch, 'signal'>): Promise<StepResult[]> {
    this.check(
      entries.map((e) => e.session),
      entries.map((e) => e.tokens.length),
    );
    const data = new Int32Array(entries.reduce((n, e) => n + e.tokens.length, 0));
    let at = 0;
    for (const { tokens } of entries) {
      data.set(tokens, at);
      at += tokens.length;
    }
    const logits = entries.map((e) => e.logits ?? 'none');
    const { rows, tokens, logprobs, alternatives } = await this.cancellable(options, (flag) =>
      call((n) =>
        n.forward(
          entries.map((e) => e.session),
          data,
          Int32Array.from(entries, (e) => e.tokens.length),
          logits,
          flag,
          undefined,
          entries.map((e) => e.sampler?.handle),
          entries.map((e) => e.mask),
          true,
        ),
      ),
    );
    return entries.map((e, i) => {
      const result: StepResult = { rows: rows[i]! };
      if (e.sampler) {
        result.next = { token: tokens[i]!, logprob: logprobs[i]! };
        if (alternatives[i]) result.next.alternatives = alternatives[i];
      }
      return result;
    });
  }

  /** Changes the weights after all changes before it. `others` waits for what runs; what begins later waits for it. */
  async change(work: (others: () => Promise<unknown>) => Promise<void>): Promise<void> {
    const before = this.changing;
    const changed = (async () => {
      await before;
      await work(() => Promise.allSettled(this.running.keys()));
    })();
    const settled = changed.catch(() => {});
    this.changing = settled;
    try {
      await changed;
    } finally {
      if (this.changing === settled) this.changing = undefined;
    }
  }

  /** Cancels what runs (ERR_DISPOSED there); resolves when the weights' memory is free. */
  async dispose(): Promise<void> {
    const handle = this.handle;
    this.handle = undefined;
    for (const cancellation of this.running.values()) cancellation.dispose();
    await Promise.allSettled(this.running.keys());
    if (handle) await call((n) => n.dispose(handle));
  }

  private check(sessions: readonly NativeHandle[], lengths: readonly number[]): void {
    if (this.graph.longest) checkLengths(this.graph.longest, sessions, lengths);
  }

  /** Where the rows of a forward go that are too many for the addon's memory: see hugeFloats(). */
  private hugeOutput(lengths: readonly number[], logits: Fed[3]): Float32Array | undefined {
    // Rows of what the head reads have another width; before no tokens, one of generate()'s may stand.
    if (lengths.includes(0) || logits.includes('hidden')) return undefined;
    const rows = lengths.map((length, i) => this.outputRows(logits[i] as 'none' | 'last' | 'all' | 'whole', length));
    return hugeFloats(rows.reduce((sum, n) => sum + n, 0) * this.output.outputFeatures);
  }

  private async cancellable<T>(
    options: Watch,
    start: (flag: Int32Array, report: ((tokensDone: number) => void) | undefined) => Promise<T>,
  ): Promise<T> {
    this.native; // ERR_DISPOSED
    while (this.changing) await this.changing;
    const watch = watched(options);
    const cancellation = new Cancellation(watch.signal);
    const work = cancellation.run(() => start(cancellation.flag, watch.report));
    this.running.set(work, cancellation);
    try {
      const result = await work;
      watch.check();
      return result;
    } finally {
      this.running.delete(work);
      watch.end();
    }
  }
}
