import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { StatespaceError } from '../errors.js';
import type { Answer, Order } from './messages.js';

/** Which tokens may come next in one text. */
export type Allowed = Int32Array | 'whole';

// A grammar that takes longer is refused: others wait behind it. Counted in ticks: a process that was halted (a debugger, a
// machine that slept) has one late tick, and its thread has not worked either.
const MOST_MS = 10_000;
const TICK_MS = 500;

interface Text {
  vocabulary: number;
  grammar: string;
  stops: Int32Array;
  /** Tokens so far, for when the thread has to be started anew. */
  accepted: number[];
  /** Whether the thread has it, or is about to. */
  opened: boolean;
  waiting: { resolve(allowed: Allowed): void; reject(error: unknown): void } | undefined;
}

/** This process's grammar engine: a thread that is started at the first use, and anew where a grammar has broken it. */
class GrammarEngine {
  private worker: Worker | undefined;
  /** By number, counted from 0. */
  private readonly vocabularies = new Map<number, { bytes: Uint8Array; offsets: Uint32Array }>();
  private nextVocabulary = 0;
  private readonly texts = new Map<number, Text>();
  /** Texts of the orders that the thread has not answered yet: it is at the first. */
  private asked: number[] = [];
  private next = 0;
  private waiting = 0;
  private timer: NodeJS.Timeout | undefined;

  addVocabulary(bytes: Uint8Array, offsets: Uint32Array): number {
    const vocabulary = this.nextVocabulary++;
    this.vocabularies.set(vocabulary, { bytes, offsets });
    if (this.worker) this.send({ kind: 'vocabulary', vocabulary, bytes, offsets });
    return vocabulary;
  }

  /** Of a model that has gone: a large one holds tens of megabytes in the thread. */
  forgetVocabulary(vocabulary: number): void {
    if (this.vocabularies.delete(vocabulary) && this.worker) this.send({ kind: 'forget', vocabulary });
  }

  get vocabularyCount(): number {
    return this.vocabularies.size;
  }

  /** A text, to be closed also where what it allows first cannot be known. */
  open(vocabulary: number, grammar: string, stops: Int32Array): { text: number; allowed: Promise<Allowed> } {
    const text = this.next++;
    this.texts.set(text, { vocabulary, grammar, stops, accepted: [], opened: false, waiting: undefined });
    return { text, allowed: this.ask(text) };
  }

  accept(text: number, token: number): Promise<Allowed> {
    this.texts.get(text)?.accepted.push(token);
    return this.ask(text, token);
  }

  close(text: number): void {
    const its = this.texts.get(text);
    if (!this.texts.delete(text)) return;
    this.send({ kind: 'close', text });
    this.settle(its!)?.resolve('whole');
  }

  private ask(text: number, token?: number): Promise<Allowed> {
    const its = this.texts.get(text);
    if (!its) return Promise.resolve('whole');
    return new Promise((resolve, reject) => {
      its.waiting = { resolve, reject };
      // A thread whose answer nobody waits for keeps no process alive.
      if (this.waiting++ === 0) this.thread().ref();
      if (!its.opened) this.reopen(text, its);
      else this.send({ kind: 'accept', text, token: token! });
    });
  }

  private reopen(text: number, its: Text): void {
    its.opened = true;
    const { vocabulary, grammar, stops, accepted } = its;
    this.send({ kind: 'open', text, vocabulary, grammar, stops, accepted: [...accepted] });
  }

  private thread(): Worker {
    if (this.worker) return this.worker;
    const worker = new Worker(join(__dirname, 'thread.js'));
    this.worker = worker;
    worker.on('message', (answer: Answer) => worker === this.worker && this.receive(answer));
    worker.on('error', (error) => this.restart(worker, `the grammar engine failed: ${error.message}`));
    for (const [vocabulary, { bytes, offsets }] of this.vocabularies)
      this.send({ kind: 'vocabulary', vocabulary, bytes, offsets });
    return worker;
  }

  private send(order: Order): void {
    if (order.kind === 'close' && !this.worker) return;
    this.thread().postMessage(order);
    if (order.kind !== 'open' && order.kind !== 'accept') return;
    this.asked.push(order.text);
    if (this.asked.length === 1) this.watch();
  }

  private receive(answer: Answer): void {
    const its = this.texts.get(answer.text);
    const asker = its && answer.kind !== 'closed' ? this.settle(its) : undefined;
    this.asked.shift();
    this.watch();
    if (answer.kind === 'failed') {
      asker?.reject(new StatespaceError('ERR_ARGUMENT', `generate: responseFormat: ${answer.why}`));
      if (answer.broken) {
        this.texts.delete(answer.text);
        this.restart(this.worker!, '');
      }
    } else asker?.resolve(answer.kind === 'mask' ? answer.mask : 'whole');
  }

  private settle(its: Text): Text['waiting'] {
    const { waiting } = its;
    its.waiting = undefined;
    if (waiting && --this.waiting === 0) this.worker?.unref();
    return waiting;
  }

  /** Gives up on what the thread takes too long for, from when it began with that: others come and go meanwhile. */
  private watch(): void {
    clearInterval(this.timer);
    const [text] = this.asked;
    if (text === undefined) return;
    let ticks = 0;
    this.timer = setInterval(() => {
      if (++ticks * TICK_MS < MOST_MS) return;
      const its = this.texts.get(text);
      this.texts.delete(text);
      const why = `generate: responseFormat: its grammar takes more than ${MOST_MS} ms`;
      if (its) this.settle(its)?.reject(new StatespaceError('ERR_ARGUMENT', why));
      this.restart(this.worker!, '');
    }, TICK_MS).unref();
  }

  /** A new thread, which takes up all texts where they are. */
  private restart(old: Worker, why: string): void {
    if (this.worker !== old) return;
    this.worker = undefined;
    this.asked = [];
    void old.terminate();
    for (const [text, its] of this.texts) {
      its.opened = false;
      if (its.waiting && why) this.settle(its)!.reject(new StatespaceError('ERR_ARGUMENT', `generate: ${why}`));
      else if (its.waiting) this.reopen(text, its);
    }
    if (this.waiting > 0) this.thread().ref();
    this.watch();
  }
}

let engine: GrammarEngine | undefined;

export function grammarEngine(): GrammarEngine {
  engine ??= new GrammarEngine();
  return engine;
}
