import type { Run } from './run.js';

/**
 * Who comes next: by priority, then the client that was served least, then by arrival. What a client has been served is
 * counted in tokens from the moment that it was last idle on (start-time fair queueing, Goyal et al. 1996), so that
 * nobody saves up a claim.
 */
export class FairQueue {
  private readonly waiting: Run[] = [];
  private readonly served = new Map<string, number>();
  private readonly active = new Map<string, number>();

  get length(): number {
    return this.waiting.length;
  }

  add(run: Run): void {
    const { client } = run.terms;
    const count = this.active.get(client) ?? 0;
    if (count === 0) this.served.set(client, Math.max(this.served.get(client) ?? 0, this.floor()));
    this.active.set(client, count + 1);
    this.waiting.push(run);
    run.counted = true;
  }

  /** Takes it out of those that wait. */
  take(run: Run): void {
    const at = this.waiting.indexOf(run);
    if (at >= 0) this.waiting.splice(at, 1);
  }

  /** Its client has one fewer. */
  done(run: Run): void {
    if (!run.counted) return;
    run.counted = false;
    const { client } = run.terms;
    const count = (this.active.get(client) ?? 1) - 1;
    if (count > 0) {
      this.active.set(client, count);
      return;
    }
    this.active.delete(client);
    // Where everybody is idle the count starts anew; else who comes back soon goes on from what it had.
    if (this.active.size === 0) this.served.clear();
    else if (this.served.size > 4 * this.active.size + 64)
      for (const known of this.served.keys()) if (!this.active.has(known)) this.served.delete(known);
  }

  charge(run: Run, tokens: number): void {
    const { client } = run.terms;
    this.served.set(client, (this.served.get(client) ?? 0) + tokens);
  }

  /** Negative where `a` comes first. */
  compare(a: Run, b: Run): number {
    const of = (run: Run) => this.served.get(run.terms.client) ?? 0;
    return b.terms.priority - a.terms.priority || of(a) - of(b) || a.turn - b.turn || a.arrived - b.arrived;
  }

  /** Those that wait, in the order in which they are to be admitted. */
  ordered(): Run[] {
    return [...this.waiting].sort((a, b) => this.compare(a, b));
  }

  /** The least that an active client has been served. */
  private floor(): number {
    let least = Infinity;
    for (const client of this.active.keys()) least = Math.min(least, this.served.get(client) ?? 0);
    return least === Infinity ? 0 : least;
  }
}
