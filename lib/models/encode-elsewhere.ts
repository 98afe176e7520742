import { join } from 'node:path';
import { Elsewhere } from '../elsewhere.js';

/** A text, or a chat, to be made ids of by the tokenizer of a folder, or of a GGUF file. */
export interface Question {
  folder: string;
  text?: string;
  /** Whether the text begins the sequence. Default: true. */
  first?: boolean;
  chat?: { messages: readonly object[]; options: Record<string, unknown> };
}

const thread = new Elsewhere<Question, Int32Array>(join(__dirname, 'encode-thread.js'), 'tokenizer');

/**
 * The ids of a long prompt's text (as encodePrompt() gives them) or chat, made in a thread of its own.
 * @public
 */
export function encodeElsewhere(question: Question): Promise<Int32Array> {
  return thread.ask(question);
}
