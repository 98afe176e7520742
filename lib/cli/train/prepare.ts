/** A text made ids in a thread of its own: of a long one it takes minutes, in which Ctrl-C is to be heard. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { Interrupted, UsageError } from '../errors.js';

export interface Question {
  /** A file or folder of texts. */
  text: string;
  /** The folder or GGUF file of the model whose weights are trained on, if there is one. */
  folder: string | undefined;
  config: Readonly<Record<string, unknown>>;
  tokenizer: string | undefined;
  vocabulary: number | undefined;
  /** Where the run is, or will be. */
  out: string;
}

export interface Prepared {
  /** Of all documents, end to end. */
  tokens: Int32Array;
  /** By id, up to the largest: of the text that it stands for. */
  bytes: Int32Array;
  /** Where the tokenizer lies, a folder or a GGUF file; or its files. */
  folder?: string | undefined;
  files?: Record<string, object> | undefined;
  /** How many tokens it has, where it was made for this run. */
  vocabulary?: number | undefined;
}

/** What the thread says. */
export type Said = { prepared: Prepared } | { wrong: string; usage: boolean };

/** @throws UsageError for what is no text, and tokenizers that are not there or not the run's; Interrupted. */
export function prepare(question: Question, signal: AbortSignal): Promise<Prepared> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) throw new Interrupted();
    const worker = new Worker(join(__dirname, 'prepare-thread.js'), { workerData: question });
    const stop = () => {
      reject(new Interrupted());
      void worker.terminate();
    };
    signal.addEventListener('abort', stop, { once: true });
    worker.on('message', (said: Said) => {
      if ('prepared' in said) resolve(said.prepared);
      else reject(said.usage ? new UsageError(said.wrong) : new Error(said.wrong));
    });
    worker.on('error', reject);
    worker.on('exit', () => {
      signal.removeEventListener('abort', stop);
      reject(new Error(`${question.text}: the thread that reads it has ended`)); // nothing, where it has answered
    });
  });
}

/** Objects as files of JSON. */
export async function writeFiles(folder: string, files: Record<string, object>): Promise<void> {
  for (const [name, content] of Object.entries(files)) await writeFile(join(folder, name), JSON.stringify(content));
}
