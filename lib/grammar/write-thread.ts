/** Another thread, in which large formats become grammars. */
import { parentPort } from 'node:worker_threads';
import { answer } from '../elsewhere.js';
import { grammarOf } from './format.js';

answer(parentPort!, grammarOf);
