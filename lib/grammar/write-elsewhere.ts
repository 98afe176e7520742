import { join } from 'node:path';
import { Elsewhere } from '../elsewhere.js';
import type { ResponseFormat } from './format.js';

const thread = new Elsewhere<ResponseFormat, string>(join(__dirname, 'write-thread.js'), 'grammar');

/** grammarOf() in a thread of its own: a schema of a megabyte takes a second. */
export function grammarElsewhere(format: ResponseFormat): Promise<string> {
  return thread.ask(format);
}
