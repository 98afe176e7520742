import { join } from 'node:path';
import type { Worker } from 'node:worker_threads';
import { type ErrorCode, StatespaceError } from '../errors.js';
import type { ResponseFormat } from './format.js';

/** A format to be written as a grammar. */
export interface Question {
  id: number;
  format: ResponseFormat;
}

/** Its grammar, or why there is none. */
export interface Answer {
  id: number;
  grammar?: string;
  code?: string | undefined;
  message?: string;
}

interface Waiting {
  resolve(grammar: string): void;
  reject(error: unknown): void;
}

// Loaded at its first use.
const lazyThreads = (): typeof import('node:worker_threads') => require('node:worker_threads');

let thread: Worker | undefined;
let count = 0;
const waiting = new Map<number, Waiting>();

/** grammarOf() in a thread of its own: a schema of a megabyte takes a second. */
export function grammarElsewhere(format: ResponseFormat): Promise<string> {
  const id = count++;
  const worker = opened();
  return new Promise((resolve, reject) => {
    worker.postMessage({ format, id } satisfies Question); // throws for what cannot be sent
    waiting.set(id, { resolve, reject });
    worker.ref();
  });
}

function opened(): Worker {
  if (thread) return thread;
  const { Worker } = lazyThreads();
  const made = new Worker(join(__dirname, 'write-thread.js'));
  made.unref();
  const end = (error: Error) => {
    if (thread === made) thread = undefined;
    for (const { reject } of waiting.values()) reject(error);
    waiting.clear();
  };
  made.on('message', ({ id, grammar, code, message }: Answer) => {
    const its = waiting.get(id);
    waiting.delete(id);
    if (waiting.size === 0) made.unref();
    if (grammar !== undefined) its?.resolve(grammar);
    else its?.reject(code ? new StatespaceError(code as ErrorCode, message!) : new Error(message));
  });
  made.on('error', end);
  made.on('exit', () => end(new StatespaceError('ERR_STATE', 'grammar: its thread ended')));
  thread = made;
  return made;
}
