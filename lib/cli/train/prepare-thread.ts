/** The thread of prepare(). */
import { parentPort, workerData } from 'node:worker_threads';
import { UsageError } from '../errors.js';
import type { Question, Said } from './prepare.js';
import { prepared } from './prepare-work.js';

const say = (said: Said, moved: ArrayBuffer[] = []) => parentPort!.postMessage(said, moved);

prepared(workerData as Question).then(
  (read) => say({ prepared: read }, [read.tokens.buffer as ArrayBuffer]),
  (error: Error) => say({ wrong: error.message, usage: error instanceof UsageError }),
);
