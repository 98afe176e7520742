/** Ctrl-C: a command stops by itself, or is ended when it has taken too long; what it saves is waited for. */
import { Interrupted } from './errors.js';

// How long a command may take to stop by itself.
const GRACE_MS = 2000;

let saving = 0;

/** Work that Ctrl-C does not cut off however long it takes; a second one does. */
export async function unhurried<T>(work: () => Promise<T>): Promise<T> {
  saving++;
  try {
    return await work();
  } finally {
    saving--;
  }
}

/** A signal that Ctrl-C aborts. `end` ends the process. */
export function interruption(end: () => never): AbortSignal {
  const controller = new AbortController();
  process.on('SIGINT', () => {
    if (controller.signal.aborted) end();
    controller.abort(new Interrupted());
    const late = () => (saving > 0 ? setTimeout(late, GRACE_MS) : end());
    setTimeout(late, GRACE_MS);
  });
  return controller.signal;
}
