// Work that takes longer than the event loop may wait, in a thread of its own that is made at the first question.
import type { MessagePort, Worker } from 'node:worker_threads';
import { type ErrorCode, StatespaceError } from './errors.js';

const lazyThreads = (): typeof import('node:worker_threads') => require('node:worker_threads');

interface Asked<Question> {
  id: number;
  question: Question;
}

/** What came of a question, or why nothing did. */
interface Answer<Result> {
  id: number;
  result?: Result;
  code?: string | undefined;
  message?: string;
}

interface Waiting<Result> {
  resolve(result: Result): void;
  reject(error: unknown): void;
}

/** A thread that answers questions; the process does not stay for it when none is open. */
export class Elsewhere<Question, Result> {
  private thread: Worker | undefined;
  private count = 0;
  private readonly waiting = new Map<number, Waiting<Result>>();

  /** `file`: what calls answer(); `what`: begins the error where the thread ends. */
  constructor(
    private readonly file: string,
    private readonly what: string,
  ) {}

  /** Rejects with what the thread's work threw, and for a question that cannot be sent to it. */
  ask(question: Question): Promise<Result> {
    const id = this.count++;
    const worker = this.opened();
    return new Promise((resolve, reject) => {
      worker.postMessage({ id, question } satisfies Asked<Question>);
      this.waiting.set(id, { resolve, reject });
      worker.ref();
    });
  }

  private opened(): Worker {
    if (this.thread) return this.thread;
    const { Worker } = lazyThreads();
    const made = new Worker(this.file);
    made.unref();
    const end = (error: Error) => {
      if (this.thread === made) this.thread = undefined;
      for (const { reject } of this.waiting.values()) reject(error);
      this.waiting.clear();
    };
    made.on('message', ({ id, result, code, message }: Answer<Result>) => {
      const its = this.waiting.get(id);
      this.waiting.delete(id);
      if (this.waiting.size === 0) made.unref();
      if (message === undefined) its?.resolve(result as Result);
      else its?.reject(code ? new StatespaceError(code as ErrorCode, message) : new Error(message));
    });
    made.on('error', end);
    made.on('exit', () => end(new StatespaceError('ERR_STATE', `${this.what}: its thread ended`)));
    this.thread = made;
    return made;
  }
}

/** The thread's side: each question that comes in by `port` is answered. */
export function answer<Question, Result>(
  port: MessagePort,
  work: (question: Question) => Result | Promise<Result>,
): void {
  port.on('message', async ({ id, question }: Asked<Question>) => {
    const send = (of: Answer<Result>) => port.postMessage(of);
    try {
      send({ id, result: await work(question) });
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      send({ id, code, message: String(message) });
    }
  });
}
