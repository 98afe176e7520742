/** What the benchmarks share that hold what they measure against the machine's limits. */
import { library } from '../../../bench/library.js';
import type { AgainstLimits } from '../../../bench/limits.js';
import { describeMachine } from '../../../bench/machine.js';
import { progress } from '../terminal.js';

/** Runs a benchmark of this name on so many threads, with its progress in the terminal. */
export async function againstLimits<R>(
  name: string,
  threads: number | undefined,
  signal: AbortSignal,
  run: (about: AgainstLimits) => Promise<R>,
): Promise<R> {
  const { systemInfo, setThreads } = library();
  const { limits } = require('../../limits.js') as typeof import('../../limits.js');
  if (threads !== undefined) setThreads(threads);
  const bar = progress(name);
  try {
    return await run({
      command: ['statespace', ...process.argv.slice(2)].join(' '),
      machine: describeMachine(systemInfo()),
      meter: limits,
      signal,
      onProgress: (fraction, note) => bar.update(fraction, note),
    });
  } finally {
    bar.stop();
  }
}
