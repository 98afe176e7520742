import { join } from 'node:path';
import type { Worker } from 'node:worker_threads';
import { type ErrorCode, StatespaceError } from '../errors.js';

/** A text, or a chat, to be made ids of by the tokenizer of a folder, or of a GGUF file. */
export interface Question {
  id: number;
  folder: string;
  text?: string;
  chat?: { messages: readonly Record<string, unknown>[]; options: Record<string, unknown> };
}

/** Its ids, or why there are none. */
export interface Answer {
  id: number;
  ids?: Int32Array;
  code?: string | undefined;
  message?: string;
}

interface Waiting {
  resolve(ids: Int32Array): void;
  reject(error: unknown): void;
}

// Loaded at its first use.
const lazyThreads = (): typeof import('node:worker_threads') => require('node:worker_threads');

let thread: Worker | undefined;
let count = 0;
const waiting = new Map<number, Waiting>();

/**
 * The ids of a long prompt's text (as encodePrompt() gives them) or chat, made in a thread of its own.
 * @public
 */
export function encodeElsewhere(question: Omit<Question, 'id'>): Promise<Int32Array> {
  const id = count++;
  const worker = opened();
  return new Promise((resolve, reject) => {
    worker.postMessage({ ...question, id }); // throws where a template's options cannot be sent
    waiting.set(id, { resolve, reject });
    worker.ref();
  });
}

function opened(): Worker {
  if (thread) return thread;
  const { Worker } = lazyThreads();
  const made = new Worker(join(__dirname, 'encode-thread.js'));
  made.unref();
  const end = (error: Error) => {
    if (thread === made) thread = undefined;
    for (const { reject } of waiting.values()) reject(error);
    waiting.clear();
  };
  made.on('message', ({ id, ids, code, message }: Answer) => {
    const its = waiting.get(id);
    waiting.delete(id);
    if (waiting.size === 0) made.unref();
    if (ids) its?.resolve(ids);
    else its?.reject(code ? new StatespaceError(code as ErrorCode, message!) : new Error(message));
  });
  made.on('error', end);
  made.on('exit', () => end(new StatespaceError('ERR_STATE', 'tokenizer: its thread ended')));
  thread = made;
  return made;
}
