/** How a command ends: exit codes and the one line that says why. */
import { solutionsHeading } from '../load-failure.js';

export const EXIT = { ok: 0, failure: 1, usage: 2, interrupted: 130 } as const;

/** The command was called wrongly: exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Raised where work stopped because of Ctrl-C: exit code 130. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
  constructor() {
    super('interrupted');
  }
}

/** One line, whatever the error holds, but for a list of solutions; STATESPACE_DEBUG adds the stack. */
export function describeError(error: unknown): string {
  if (process.env.STATESPACE_DEBUG && error instanceof Error) return error.stack ?? error.message;
  const message = error instanceof Error ? error.message : String(error);
  if (message.includes(solutionsHeading)) return message;
  return message.replace(/\s*\n\s*/g, ' ').trim() || 'unknown error';
}
