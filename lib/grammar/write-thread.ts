/** Another thread, in which large formats become grammars. */
import { parentPort } from 'node:worker_threads';
import { grammarOf } from './format.js';
import type { Answer, Question } from './write-elsewhere.js';

parentPort!.on('message', ({ id, format }: Question) => {
  const send = (answer: Answer) => parentPort!.postMessage(answer);
  try {
    send({ id, grammar: grammarOf(format) });
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    send({ id, code, message });
  }
});
