import { onAbort } from '../cancellation.js';
import { StatespaceError } from '../errors.js';
import { afterMs, type Terms, tooLate } from './run.js';

type Until = Pick<Terms, 'signal' | 'timeoutMs'>;

/** A request before it waits for a session: its text becomes ids meanwhile, and its format a grammar. */
export class Arrival {
  readonly at = performance.now();
  private readonly over = new AbortController();
  private readonly timer: NodeJS.Timeout | undefined;
  private readonly forgetSignal?: () => void;

  constructor(
    { signal, timeoutMs }: Until,
    private readonly left: (arrival: Arrival) => void,
  ) {
    if (signal) this.forgetSignal = onAbort(signal, () => this.cancel(signal.reason));
    if (timeoutMs !== undefined) this.timer = afterMs(timeoutMs, this.at, () => this.cancel(tooLate(timeoutMs)));
  }

  /** Aborts when the request does, takes too long, or the engine goes: what is waited for is of no use then. */
  get signal(): AbortSignal {
    return this.over.signal;
  }

  cancel(error: unknown): void {
    this.over.abort(error);
  }

  /** It has become a run, or come to nothing. */
  end(): void {
    clearTimeout(this.timer);
    this.forgetSignal?.();
    this.left(this);
  }
}

/** All of an engine: one that drains waits for them, one that is disposed of ends them. */
export class Arrivals {
  closed = false;
  private readonly coming = new Set<Arrival>();

  get size(): number {
    return this.coming.size;
  }

  /** ERR_DISPOSED where no more are taken. */
  begin(terms: Until): Arrival {
    if (this.closed) throw new StatespaceError('ERR_DISPOSED', 'engine: it is closed, or being drained');
    terms.signal?.throwIfAborted();
    const arrival = new Arrival(terms, (left) => this.coming.delete(left));
    this.coming.add(arrival);
    return arrival;
  }

  cancel(error: unknown): void {
    for (const arrival of this.coming) arrival.cancel(error);
  }
}
